"""The levels of a label image, filled shard by shard by several threads: each shard is written once, by one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_sam.geometry import Box
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.multiscale import iter_blocks
from napari_sam.tiling.spread import spread

Paint = Callable[[Box], NDArray[Any]]
"""Labels of the full-resolution pixels in a box."""


def fill_levels(levels: Sequence[zarr.Array[Any]], paint: Paint, workers: int, progress: Progress | None) -> None:
    """Paint the first level, and sample every other one from the one before.

    Parameters
    ----------
    levels : sequence of zarr arrays
        Empty, each half as large as the one before.
    paint : function of a Box
        Called by several threads at once.
    workers : int
        Threads; each holds one shard. What is written does not depend on their number.
    progress : function (done, total), optional
        Counts the shards of all levels.
    """
    shards = [list(iter_blocks(_shape(level), _shard(level))) for level in levels]
    done, total = 0, sum(map(len, shards))
    for k, level in enumerate(levels):
        # A level is finished before the next is begun, which reads it.
        make = paint if k == 0 else partial(_halved, levels[k - 1])
        for _ in spread(partial(_write_shard, level, make), shards[k], workers):
            done += 1
            if progress is not None:
                progress(done, total)


def _write_shard(level: zarr.Array[Any], make: Paint, box: Box) -> None:
    level[box.slices] = make(box)


def _halved(finer: zarr.Array[Any], box: Box) -> NDArray[Any]:
    """Every second pixel of `finer` for the coarse pixels in `box`, read a few chunks at a time."""
    coarse = np.zeros((box.height, box.width), finer.dtype)
    height, width = _shape(finer)
    source = Box(2 * box.x0, 2 * box.y0, min(2 * box.x1, width), min(2 * box.y1, height))
    # As many rows as a chunk has, all columns of a shard: its index is read as many times as it has rows of chunks.
    for part in iter_blocks((source.height, source.width), (finer.chunks[0], _shard(finer)[1])):
        rows, columns = part.shifted(source.x0, source.y0).slices
        sampled = np.asarray(finer[rows, columns])[::2, ::2]
        y, x = part.y0 // 2, part.x0 // 2
        coarse[y : y + sampled.shape[0], x : x + sampled.shape[1]] = sampled
    return coarse


def _shape(level: zarr.Array[Any]) -> tuple[int, int]:
    height, width = level.shape
    return height, width


def _shard(level: zarr.Array[Any]) -> tuple[int, int]:
    rows, columns = level.shards or level.chunks
    return rows, columns
