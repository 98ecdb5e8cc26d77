"""Records of tiles as a segmenter would leave them, made without an image: any number of objects within minutes.

A plane of discs of pseudo-random size and rating, one a cell of a lattice. Each tile has what lies in its read area;
discs at the edge of that are cut, as in a real run.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.export import write_table
from napari_sam.geometry import Box, Mask, Tile
from napari_sam.geometry.runs import Strips
from napari_sam.tiling import Ledger, RunKey, TilePlan, TilingConfig, merge_tiles, plan_tiles
from napari_sam.tiling.labels import write_labels
from napari_sam.tiling.spread import in_threads
from napari_sam.tiling.store import StoredMasks, write_arrays
from napari_sam.workflows.allocator import give_back_freed_memory
from napari_sam.workflows.estimate import peak_rss_bytes

PITCH_PX = 24
RADII = (6, 9)
CONFIG = TilingConfig(core_px=1024, halo_px=64, max_object_px=0, object_cover_thresh=0.6)

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ObjectCost:
    """What merging, painting and listing so many objects came to."""

    objects: int
    tiles: int
    side_px: int
    microseconds: dict[str, float]
    """Processor time an object, by stage."""
    peak_mb: dict[str, float]
    """Largest resident memory in each stage; "before" is that of the libraries alone."""

    @property
    def bytes_an_object(self) -> float:
        return (max(self.peak_mb.values()) - self.peak_mb["before"]) * 1e6 / self.objects


def discs_in(tile: Tile, image_size: tuple[int, int]) -> StoredMasks:
    """The record of one tile."""
    strips, rating = _clipped_discs(tile.read.clipped(Box.of_size(image_size)))
    starts = np.flatnonzero(np.diff(strips.owner, prepend=-1))
    first = np.searchsorted(strips.owner[starts], strips.owner)  # number of the disc of each strip
    bounds = [strips.column[starts], np.minimum.reduceat(strips.row0, starts)]
    bounds += [np.maximum.reduceat(strips.column, starts) + 1, np.maximum.reduceat(strips.row1, starts)]
    boxes = np.stack(bounds, axis=1)
    counts, offsets = _counts_of(strips, first, starts, boxes)
    areas = np.add.reduceat(strips.lengths, starts)
    x = np.add.reduceat(strips.column * strips.lengths, starts) / areas
    y = np.add.reduceat((strips.row0 + strips.row1 - 1) * strips.lengths, starts) / (2 * areas)
    n, whole = len(starts), np.array([0, 0, *image_size[::-1]])
    return StoredMasks(
        boxes=boxes,
        areas=areas,
        centroids_xy=np.stack([x, y], axis=1),
        predicted_iou=rating[strips.owner[starts]],
        stability_score=np.ones(n),
        points_xy=np.full((n, 2), np.nan),
        crop_boxes=np.tile(whole, (n, 1)),
        prompts=np.full(n, "proposal"),
        offsets=offsets,
        counts=counts,
        image_size=np.array(image_size),
    )


def _clipped_discs(window: Box) -> tuple[Strips, NDArray[np.float64]]:
    """The parts of all discs inside a window, and the rating of each disc."""
    rows = np.arange(window.y0 // PITCH_PX, -(-window.y1 // PITCH_PX))
    columns = np.arange(window.x0 // PITCH_PX, -(-window.x1 // PITCH_PX))
    i, j = (a.ravel() for a in np.meshgrid(rows, columns, indexing="ij"))
    noise = (i * 73856093 ^ j * 19349663) & 0xFFFF
    radius = RADII[0] + noise % (RADII[1] - RADII[0] + 1)
    y, x = i * PITCH_PX + PITCH_PX // 2 + (noise >> 4) % 5 - 2, j * PITCH_PX + PITCH_PX // 2 + (noise >> 8) % 5 - 2
    width = 2 * radius + 1
    owner = np.repeat(np.arange(len(i)), width)
    dx = np.arange(len(owner)) - np.repeat(np.cumsum(width) - width, width) - radius[owner]
    half = np.sqrt(radius[owner] ** 2 - dx**2).astype(np.int64)
    strips = Strips(owner, x[owner] + dx, y[owner] - half, y[owner] + half + 1)
    return strips.clipped(window), 0.5 + noise / 2**17


def _counts_of(strips: Strips, disc: Ints, starts: Ints, boxes: Ints) -> tuple[NDArray[np.uint32], Ints]:
    """Run lengths of all discs one after another, and where those of each begin."""
    height, sizes = (boxes[:, 3] - boxes[:, 1])[disc], np.diff(np.append(starts, len(disc)))
    begin = (strips.column - boxes[disc, 0]) * height + strips.row0 - boxes[disc, 1]
    end = begin + strips.lengths
    before = np.concatenate([[0], end[:-1]])
    before[starts] = 0
    rest = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - end[starts + sizes - 1]
    offsets = np.concatenate([[0], np.cumsum(2 * sizes + (rest > 0))])
    at = offsets[disc] + 2 * (np.arange(len(disc)) - starts[disc])
    counts = np.zeros(offsets[-1], dtype=np.uint32)
    counts[at], counts[at + 1] = begin - before, end - begin
    counts[offsets[1:][rest > 0] - 1] = rest[rest > 0]
    return counts, offsets


def measure_objects(n_objects: int, work: Path, workers: int) -> ObjectCost:
    """Merge, paint and list about so many objects; in a process of its own, so that the memory is theirs."""
    side = round(math.sqrt(n_objects)) * PITCH_PX
    plan = plan_tiles((side, side), CONFIG)
    key = RunKey(image={}, model={}, version="0", segment=plan.settings(), merge=CONFIG.merge_settings(), output={})
    microseconds: dict[str, float] = {}
    peak_mb: dict[str, float] = {"before": peak_rss_bytes() / 1e6}

    def timed(stage: str, started: float) -> None:
        microseconds[stage] = 1e6 * (time.process_time() - started) / n_objects
        peak_mb[stage] = peak_rss_bytes() / 1e6
        give_back_freed_memory()
        _forget_peak()

    with Ledger.open(work / "run", key, plan.image_size) as ledger:
        started = time.process_time()
        _write_records(ledger, plan)
        timed("records", started)
        started = time.process_time()
        objects = merge_tiles(ledger, plan, _nothing_to_read, _never, CONFIG, spread=in_threads(workers))
        timed("merge", started)
        started = time.process_time()
        write_labels(objects, work / "labels.ome.zarr", spread=in_threads(workers), overwrite=True)
        timed("labels", started)
        started = time.process_time()
        write_table(objects.table, work / "objects.csv")
        timed("table", started)
    expected = (side // PITCH_PX) ** 2
    if len(objects) != expected:
        raise SystemExit(f"{len(objects)} objects came out of {expected}")
    return ObjectCost(len(objects), len(plan.tiles), side, microseconds, peak_mb)


def told(cost: ObjectCost) -> str:
    """A row of the table."""
    times = "  ".join(f"{cost.microseconds[stage]:6.1f}" for stage in ("records", "merge", "labels", "table"))
    peaks = "  ".join(f"{cost.peak_mb[stage]:6.0f}" for stage in ("before", "merge", "labels", "table"))
    return f"{cost.objects:9} {cost.tiles:6} | {times} | {peaks} | {cost.bytes_an_object:6.0f}"


TITLE = (
    "  objects  tiles | CPU us an object: records merge labels table | peak MB: before merge labels table | "
    "bytes an object"
)


def as_json(cost: ObjectCost) -> dict[str, Any]:
    return asdict(cost) | {"bytes_an_object": cost.bytes_an_object}


def _write_records(ledger: Ledger, plan: TilePlan) -> None:
    for tile in plan.tiles:
        if not ledger.tiles.path(tile.index).exists():
            write_arrays(ledger.tiles.path(tile.index), discs_in(tile, plan.image_size).columns())


def _forget_peak() -> None:
    """Begin the largest resident memory anew, where the system can (Linux)."""
    place = Path("/proc/self/clear_refs")
    if place.exists():
        place.write_text("5")


def _nothing_to_read(_box: Box, _step: int = 1) -> NDArray[np.uint8]:
    raise SystemExit("no pixel is needed where every object is seen whole")


def _never(_pixels: NDArray[np.uint8], _fragment: Mask) -> Mask | None:
    raise SystemExit("an object of this plane was not seen whole, which cannot be")
