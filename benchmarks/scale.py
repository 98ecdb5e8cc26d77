"""Cost per tile of everything but the model, from few tiles to many: it must not grow with the image.

    python benchmarks/scale.py --work FOLDER [--tiles 16,64,256,1024,4096] [--core-px 256] [--json FILE]

The model is a cheap stand-in (connected regions of an image that is computed where it is read); so what is timed is
planning, reading, records, merging, label painting and the pyramid. With --nano the real model runs on an image of
nuclei instead, and the share of all other stages in the whole is printed.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.geometry import Box, Mask
from napari_sam.tiling import Ledger, RunKey, TilingConfig, merge_tiles, plan_tiles, run_tiles
from napari_sam.tiling.labels import write_labels
from napari_sam.workflows.estimate import peak_rss_bytes

PITCH_PX = 40


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


def measure(n_tiles: int, core_px: int, work: Path) -> dict[str, Any]:
    """CPU seconds of each stage for an image of so many tiles: what else the machine does must not show."""
    side = round(math.sqrt(n_tiles)) * core_px
    config = TilingConfig(core_px=core_px, halo_px=32, max_object_px=0, object_cover_thresh=0.6)
    shutil.rmtree(work, ignore_errors=True)
    seconds: dict[str, float] = {}

    def timed(name: str, started: float) -> None:
        seconds[name] = time.process_time() - started

    began = time.perf_counter()
    started = time.process_time()
    plan = plan_tiles((side, side), config)
    timed("plan", started)
    key = RunKey(image={}, model={}, version="0", segment=plan.settings(), merge=config.merge_settings(), output={})
    with Ledger.open(work / "run", key, plan.image_size) as ledger:
        started = time.process_time()
        assert run_tiles(read, plan, segment, ledger).is_complete
        timed("tiles", started)
        started = time.process_time()
        objects = merge_tiles(ledger, plan, read, never, config)
        timed("merge", started)
        started = time.process_time()
        write_labels(objects, work / "labels.ome.zarr")
        timed("labels", started)
    wall = time.perf_counter() - began
    return {"tiles": len(plan.tiles), "side_px": side, "objects": len(objects), "seconds": seconds, "wall": wall}


def measure_nano(work: Path, side: int) -> dict[str, float]:
    """Seconds of each stage of the whole job with the model that is shipped."""
    from napari_sam.training.generated import GENERATORS
    from napari_sam.workflows import segment as run_segment

    shutil.rmtree(work, ignore_errors=True)
    image = GENERATORS["fluorescent_nuclei"](np.random.default_rng(0), (side, side)).image
    return run_segment(image, work / "nano.ome.zarr", "nano", table=work / "t.csv").report.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tiles", default="16,64,256,1024,4096")
    parser.add_argument("--core-px", type=int, default=256)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--nano", type=int, metavar="SIDE", help="also run nano on an image of this side")
    args = parser.parse_args()
    rows = []
    print("  tiles  objects |  CPU ms a tile: plan  tiles  merge labels    all | wall s | peak MB")
    for n_tiles in map(int, args.tiles.split(",")):
        row = measure(n_tiles, args.core_px, args.work / "scale")
        per_tile = {name: 1000 * value / row["tiles"] for name, value in row["seconds"].items()}
        told = "  ".join(f"{per_tile[name]:5.1f}" for name in ("plan", "tiles", "merge", "labels"))
        total, peak = sum(per_tile.values()), peak_rss_bytes() / 1e6
        counts = f"{row['tiles']:7} {row['objects']:8}"
        print(f"{counts} |                {told}  {total:5.1f} | {row['wall']:6.1f} | {peak:7.0f}", flush=True)
        rows.append({**row, "ms_per_tile": per_tile, "peak_rss_mb": peak})
    result: dict[str, Any] = {"scale": rows}
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
