"""What a run will need, measured on two of its tiles."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imagecodecs

from napari_sam.geometry import Mask, Tile
from napari_sam.tiling import MergedObjects, Read, Segment, TilePlan
from napari_sam.tiling.labels import paint_labels
from napari_sam.tiling.multiscale import ZSTD_LEVEL
from napari_sam.tiling.store import StoredMasks, archive_of
from napari_sam.tiling.tile_job import in_image

SAMPLE_TILES = 2
OBJECT_BYTES = 250
"""Memory of an object outside of its mask: a row of the table and of the merge's columns."""
ROW_BYTES = 40
"""Disk of a row of the merged table in the ledger."""
METADATA_BYTES = 10_000
"""Disk of what describes labels and ledger, however large these are."""
WRITER_BYTES = 3 * 2048 * 2048 * 4
"""Memory of the label writer: a few shards."""
PYRAMID = 1.8
"""Disk of all levels, as a multiple of the first: labels are mostly contours, of which each level has half."""
MERGE_SHARE = 1.1
"""All stages together, as a multiple of the tiles' time."""
WRITE_SECONDS = 2e-8
"""To paint and write one pixel of the labels."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Need of a whole run, predicted from some of its tiles."""

    memory_mb: float
    """Peak of resident memory, of all processes together."""
    disk_mb: float
    """Labels with their pyramid, and the ledger."""
    seconds: float
    """From now to the written labels."""
    objects: int
    tiles_timed: int

    def as_text(self) -> str:
        """One line for a terminal."""
        return (
            f"about {_duration(self.seconds)}, {self.memory_mb:,.0f} MB of memory, {_few(self.disk_mb)} MB on disk, "
            f"{self.objects:,} objects (from {self.tiles_timed} tiles)"
        )


@dataclass(frozen=True, slots=True, eq=False)
class TileSample:
    """A tile that was segmented to see how long it takes."""

    tile: Tile
    masks: Sequence[Mask]
    """In whole-image pixels."""
    seconds: float
    grown_bytes: int
    """By how much the largest resident memory of this process rose meanwhile."""


def time_tile(read: Read, tile: Tile, segment: Segment) -> TileSample:
    """Segment one tile and write nothing."""
    before, started = peak_rss_bytes(), time.perf_counter()
    masks = [in_image(mask, tile, _far_corner(tile)) for mask in segment(read(tile.read, tile.step))]
    return TileSample(tile, masks, time.perf_counter() - started, peak_rss_bytes() - before)


def estimate_run(
    samples: Sequence[TileSample], plan: TilePlan, *, tiles_left: int, workers: int = 1, own_memory: bool = False
) -> Estimate:
    """Scale some segmented tiles up to a whole run.

    Parameters
    ----------
    samples : sequence of TileSample
        Segmented in this process, one after the other.
    plan : TilePlan
    tiles_left : int
        Tiles that are still to be segmented, for the time; memory and disk are those of all.
    workers : int
        Tiles segmented at the same time.
    own_memory : bool
        Whether each worker is a process with a model of its own.
    """
    n = max(len(samples), 1)
    count = sum(tile.step == 1 for tile in plan.kept)
    objects = round(sum(_owned(sample) for sample in samples) / n * count)
    label_bytes = sum(_compressed(sample) for sample in samples) / n
    record_bytes = sum(_recorded(sample) for sample in samples) / n
    # The first tile also warms caches and allocators up.
    per_tile = min((sample.seconds for sample in samples), default=0.0)
    peak = peak_rss_bytes()
    more = peak * workers if own_memory else (workers - 1) * sum(sample.grown_bytes for sample in samples)
    height, width = plan.image_size
    return Estimate(
        memory_mb=(peak + more + WRITER_BYTES + objects * OBJECT_BYTES) / 1e6,
        disk_mb=(label_bytes * count * PYRAMID + record_bytes * len(plan.kept) + objects * ROW_BYTES + METADATA_BYTES)
        / 1e6,
        seconds=per_tile * tiles_left / min(workers, max(tiles_left, 1)) * MERGE_SHARE + height * width * WRITE_SECONDS,
        objects=objects,
        tiles_timed=len(samples),
    )


def sample_tiles(tiles: Sequence[Tile]) -> Sequence[Tile]:
    """Two of the tiles, at a third and two thirds of them: the middle of an image is rarely its border."""
    if len(tiles) <= SAMPLE_TILES:
        return tiles
    return [tiles[len(tiles) * (i + 1) // (SAMPLE_TILES + 1)] for i in range(SAMPLE_TILES)]


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose rusage of a new process begins at the peak of the one that started it
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _far_corner(tile: Tile) -> tuple[int, int]:
    """(H, W) of the smallest image that holds the tile."""
    return tile.read.y1, tile.read.x1


def _owned(sample: TileSample) -> int:
    return sum(sample.tile.owns(mask.box) for mask in sample.masks)


def _compressed(sample: TileSample) -> float:
    """Bytes of the labels of a tile's core after compression."""
    objects = MergedObjects.from_masks(sample.masks, _far_corner(sample.tile))
    return float(len(imagecodecs.zstd_encode(paint_labels(objects, sample.tile.core).tobytes(), level=ZSTD_LEVEL)))


def _recorded(sample: TileSample) -> int:
    """Bytes of the tile's file in the ledger."""
    return len(archive_of(StoredMasks.of(sample.masks, _far_corner(sample.tile)).columns()))


def _few(number: float) -> str:
    """With decimals where it would be 0 or nearly so without."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}" if number >= 1 else f"{number:.2f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
