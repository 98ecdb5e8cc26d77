"""Cost per tile of everything but the model, from few tiles to many: it must not grow with the image.

    python benchmarks/scale.py --work FOLDER [--tiles 16,64,256,1024,4096] [--core-px 256] [--workers 1] [--json FILE]
    python benchmarks/scale.py --work FOLDER --processes 2
    python benchmarks/scale.py --work FOLDER --tiles "" --objects 100000,1000000,10000000
    python benchmarks/scale.py --work FOLDER --tiles "" --nano 2048

The model is a cheap stand-in (connected regions of an image that is computed where it is read); so what is timed is
planning, reading, records, merging, label painting and the pyramid. What a process does once, whatever it is given
(importing, first calls), is done before the first row. With --processes so many dask workers merge and write in place
of threads: their processor time is not counted, so look at the seconds. With --objects so many objects are merged,
painted and listed from records of tiles that are made without an image, each number in a process of its own. With
--nano the real model runs on an image of nuclei, and the share of all other stages in the whole is printed.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import pickle
import shutil
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.geometry import Box, Mask
from napari_sam.tiling import Ledger, RunKey, TilingConfig, merge_tiles, plan_tiles, run_tiles
from napari_sam.tiling.labels import write_labels
from napari_sam.tiling.spread import Item, Job, Result, Spread, in_threads
from napari_sam.workflows.allocator import keep_freed_memory
from napari_sam.workflows.estimate import peak_rss_bytes
from records import TITLE, as_json, measure_objects, told

PITCH_PX = 40
TILES_A_ROW = 512
"""A row of fewer tiles is the mean of several runs: one of 16 tiles is over in 0.2 s."""


def read(box: Box, step: int = 1) -> NDArray[np.uint8]:
    """Discs of pseudo-random size and place, one a cell of a lattice: any part of a plane without end."""
    rows, columns = np.mgrid[box.y0 : box.y1 : step, box.x0 : box.x1 : step]
    i, j = rows // PITCH_PX, columns // PITCH_PX
    noise = (i * 73856093 ^ j * 19349663) & 0xFFFF
    radius = 8 + noise % 9
    y = i * PITCH_PX + 20 + (noise >> 4) % 7 - 3
    x = j * PITCH_PX + 20 + (noise >> 8) % 7 - 3
    inside = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
    return np.repeat((inside * (100 + noise % 100)).astype(np.uint8)[..., None], 3, axis=2)


def segment(pixels: NDArray[np.uint8]) -> list[Mask]:
    """Each connected region."""
    numbers, _ = ndimage.label(pixels[..., 0])
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(numbers), start=1):
        window = Box(columns.start, rows.start, columns.stop, rows.stop)
        inside = numbers[rows, columns] == number
        found.append(Mask.from_window(inside, window, pixels.shape[:2], predicted_iou=0.9, stability_score=1.0))
    return found


def never(pixels: NDArray[np.uint8], fragment: Mask) -> Mask | None:
    raise SystemExit("an object of this image was not seen whole, which cannot be")


def measure(n_tiles: int, core_px: int, work: Path, spread: Spread) -> dict[str, Any]:
    """CPU seconds of each stage for an image of so many tiles: what else the machine does must not show."""
    side = round(math.sqrt(n_tiles)) * core_px
    config = TilingConfig(core_px=core_px, halo_px=32, max_object_px=0, object_cover_thresh=0.6)
    shutil.rmtree(work, ignore_errors=True)
    seconds: dict[str, float] = {}
    elapsed: dict[str, float] = {}
    stand_in: list[float] = []  # of the thread alone: pixels are read while another tile is segmented

    def timed_segment(pixels: NDArray[np.uint8]) -> list[Mask]:
        started = time.thread_time()
        masks = segment(pixels)
        stand_in.append(time.thread_time() - started)
        return masks

    def timed_read(box: Box, step: int = 1) -> NDArray[np.uint8]:
        started = time.thread_time()
        pixels = read(box, step)
        stand_in.append(time.thread_time() - started)
        return pixels

    def timed(name: str, started: float) -> None:
        seconds[name] = time.process_time() - started

    began = time.perf_counter()
    started = time.process_time()
    plan = plan_tiles((side, side), config)
    timed("plan", started)
    key = RunKey(image={}, model={}, version="0", segment=plan.settings(), merge=config.merge_settings(), output={})
    with Ledger.open(work / "run", key, plan.image_size) as ledger:
        started = time.process_time()
        assert run_tiles(timed_read, plan, timed_segment, ledger).is_complete
        seconds["stand-in"] = sum(stand_in)
        timed("tiles", started + seconds["stand-in"])
        started = time.process_time()
        since = time.perf_counter()
        objects = merge_tiles(ledger, plan, read, never, config, spread=spread)
        timed("merge", started)
        elapsed["merge"] = time.perf_counter() - since
        started, since = time.process_time(), time.perf_counter()
        write_labels(objects, work / "labels.ome.zarr", spread=spread)
        timed("labels", started)
        elapsed["labels"] = time.perf_counter() - since
    elapsed["all"] = time.perf_counter() - began
    counts = {"tiles": len(plan.tiles), "side_px": side, "objects": len(objects)}
    return {**counts, "seconds": seconds, "elapsed": elapsed}


class Weighed:
    """A spread that notes what it sends to other processes."""

    def __init__(self, spread: Spread) -> None:
        self.sends = spread.sends
        self.bytes: dict[str, tuple[int, int]] = {}
        """Of each kind of job: of the job, and of its largest item."""
        self._spread = spread

    def __call__(self, job: Job[Item, Result], items: Iterable[Item]) -> Generator[Result]:
        return self._spread(job, self._weighed(job, items) if self.sends else items)

    def _weighed(self, job: Job[Item, Result], items: Iterable[Item]) -> Iterator[Item]:
        name, size = type(job).__name__, len(pickle.dumps(job))
        for item in items:
            largest = max(self.bytes.get(name, (0, 0))[1], len(pickle.dumps(item)))
            self.bytes[name] = (size, largest)
            yield item


@contextmanager
def opened_spread(threads: int, processes: int) -> Iterator[Weighed]:
    """Who merges and writes."""
    if not processes:
        yield Weighed(in_threads(threads))
        return
    # Not at the head, as torch comes with them: the peaks are to be those of the work alone.
    from napari_sam.tiling.cluster_spread import on_cluster
    from napari_sam.workflows import SegmentConfig
    from napari_sam.workflows.cluster import open_cluster

    with open_cluster(SegmentConfig(workers=processes)) as client:
        client.run(keep_freed_memory, {})  # as the first tile of a run does in each worker
        yield Weighed(on_cluster(client))


def measure_nano(work: Path, side: int) -> dict[str, float]:
    """Seconds of each stage of the whole job with the model that is shipped."""
    from napari_sam.training.generated import GENERATORS
    from napari_sam.workflows import segment as run_segment

    shutil.rmtree(work, ignore_errors=True)
    image = GENERATORS["fluorescent_nuclei"](np.random.default_rng(0), (side, side)).image
    return run_segment(image, work / "nano.ome.zarr", "nano", table=work / "t.csv").report.seconds


def mean_row(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean times of equal runs."""
    times = {
        kind: {name: sum(row[kind][name] for row in rows) / len(rows) for name in rows[0][kind]}
        for kind in ("seconds", "elapsed")
    }
    return rows[0] | times


def measure_tiles(numbers: list[int], core_px: int, work: Path, spread: Weighed) -> list[dict[str, Any]]:
    """A row for each number of tiles, printed as it comes."""
    measure(4, core_px, work / "scale", spread)  # imports and first calls
    title = "  tiles  objects | CPU ms a tile:  plan  tiles  merge labels    all | stand-in"
    print(f"{title} | seconds: merge labels    all | peak MB")
    rows = []
    for n_tiles in numbers:
        row = mean_row([measure(n_tiles, core_px, work / "scale", spread) for _ in range(-(-TILES_A_ROW // n_tiles))])
        per_tile = {name: 1000 * value / row["tiles"] for name, value in row["seconds"].items()}
        stand_in = per_tile.pop("stand-in")
        costs = "  ".join(f"{per_tile[name]:5.2f}" for name in ("plan", "tiles", "merge", "labels"))
        total, peak = sum(per_tile.values()), peak_rss_bytes() / 1e6
        counts = f"{row['tiles']:7} {row['objects']:8}"
        elapsed = "  ".join(f"{row['elapsed'][name]:5.1f}" for name in ("merge", "labels", "all"))
        print(f"{counts} |                {costs}  {total:5.2f} | {stand_in:8.2f} |          {elapsed} | {peak:7.0f}")
        rows.append({**row, "ms_per_tile": per_tile, "stand_in_ms_per_tile": stand_in, "peak_rss_mb": peak})
    whole = [sum(row["ms_per_tile"].values()) for row in rows]
    print(
        f"cost per tile, without the stand-in: {min(whole):.1f} to {max(whole):.1f} ms, "
        f"ratio {max(whole) / min(whole):.2f}"
    )
    for name, (job, item) in spread.bytes.items():
        print(f"sent for {name}: {job} bytes, and up to {item} bytes an item")
    return rows


def in_own_process(n_objects: int, work: Path, workers: int) -> dict[str, Any]:
    """Costs of so many objects; a fresh process, so that the memory is theirs alone."""
    folder = work / f"objects-{n_objects}"
    shutil.rmtree(folder, ignore_errors=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        cost = pool.apply(measure_objects, (n_objects, folder, workers))
    print(told(cost), flush=True)
    shutil.rmtree(folder)
    return as_json(cost)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tiles", default="16,64,256,1024,4096")
    parser.add_argument("--core-px", type=int, default=256)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--workers", type=int, default=1, help="threads that merge and write")
    parser.add_argument("--processes", type=int, default=0, help="dask workers that do it in their place, 2 or more")
    parser.add_argument("--nano", type=int, metavar="SIDE", help="also run nano on an image of this side")
    parser.add_argument("--objects", default="", metavar="N,N", help="also merge, paint and list so many objects")
    args = parser.parse_args()
    result: dict[str, Any] = {}
    if args.tiles:
        with opened_spread(args.workers, args.processes) as spread:
            numbers = [int(n) for n in args.tiles.split(",")]
            result["scale"] = measure_tiles(numbers, args.core_px, args.work, spread)
    if args.objects:
        print(TITLE, flush=True)
        result["objects"] = [in_own_process(int(n), args.work, args.workers) for n in args.objects.split(",")]
    if args.nano:
        seconds = measure_nano(args.work / "nano", args.nano)
        model = seconds["tiles"]
        share = 1 - model / sum(seconds.values())
        print(f"nano, {args.nano} px: {model:.1f} s in tiles, all other stages {100 * share:.1f} % of the whole")
        result["nano"] = {"seconds": seconds, "other_stages_share": share}
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
