"""The levels of a label image, filled shard by shard by several workers: each shard is written once, by one of them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_sam.errors import OutputError
from napari_sam.geometry import Box
from napari_sam.images.remote import open_store
from napari_sam.images.urls import RemotePath
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.multiscale import MARKER, iter_blocks
from napari_sam.tiling.spread import Item, Job, Spread

LEVELS_OPEN = 4
"""Levels that a process keeps open: the two it works on, of two runs."""


@dataclass(frozen=True, slots=True)
class LabelPlace:
    """Where a label image is being written; each worker opens it itself."""

    root: Path | RemotePath
    mark: str
    """Names this writing among all others; stands in the file MARKER of a folder as long as it goes on."""

    def __reduce__(self) -> tuple[Any, ...]:
        root = self.root if isinstance(self.root, RemotePath) else self.root.resolve()
        return LabelPlace, (root, self.mark)

    @property
    def folders(self) -> tuple[Path, ...]:
        """What every worker has to see."""
        return () if isinstance(self.root, RemotePath) else (self.root.resolve(),)

    @property
    def is_of_this_process(self) -> bool:
        """Whether other processes cannot see it."""
        return isinstance(self.root, RemotePath) and self.root.is_of_this_process

    def level(self, k: int) -> zarr.Array[Any]:
        """The array of one level."""
        return _opened(self, k)

    def write(self, k: int, box: Box, labels: NDArray[Any]) -> None:
        """Write whole shards of level `k`.

        Raises
        ------
        OutputError
            If this writing has ended meanwhile: what came late would be found by the next one.
        """
        if isinstance(self.root, Path) and not self._goes_on(self.root):
            raise OutputError(
                f"{self.root} was removed or replaced while {socket.gethostname()} was writing to it; "
                "give the same command again when no other run writes there."
            )
        self.level(k)[box.slices] = labels

    def _goes_on(self, root: Path) -> bool:
        try:
            return (root / MARKER).read_text("utf-8") == self.mark
        except FileNotFoundError:
            return False


@lru_cache(LEVELS_OPEN)
def _opened(place: LabelPlace, k: int) -> zarr.Array[Any]:
    where = open_store(place.root, read_only=False) if isinstance(place.root, RemotePath) else place.root
    return zarr.open_array(where, path=str(k), mode="r+", zarr_format=3)


@dataclass(frozen=True, slots=True)
class HalveShard:
    """Fills boxes of a level with every second pixel of the one before."""

    place: LabelPlace
    k: int

    @property
    def folders(self) -> tuple[Path, ...]:
        return self.place.folders

    def __call__(self, box: Box) -> None:
        self.place.write(self.k, box, _halved(self.place.level(self.k - 1), box))


def fill_levels(
    place: LabelPlace,
    n_levels: int,
    paint: Job[Item, None],
    to_paint: Callable[[Box], Item],
    spread: Spread,
    progress: Progress | None,
) -> None:
    """Paint the first level, and sample every other one from the one before.

    Parameters
    ----------
    place : LabelPlace
        Where empty levels are, each half as large as the one before.
    n_levels : int
    paint : Job
        Paints and writes a shard of the first level.
    to_paint : function of a Box
        What `paint` is given for it.
    spread : Spread
        Who does it. What is written does not depend on that.
    progress : function (done, total), optional
        Counts the shards of all levels.
    """
    shards = [list(iter_blocks(_shape(level), _shard(level))) for level in map(place.level, range(n_levels))]
    done, total = 0, sum(map(len, shards))

    def finish(job: Job[Any, None], items: Iterable[Any]) -> None:
        nonlocal done
        with closing(spread(job, items)) as results:
            for _ in results:
                done += 1
                if progress is not None:
                    progress(done, total)

    finish(paint, map(to_paint, shards[0]))
    for k in range(1, n_levels):  # a level is finished before the next is begun, which reads it
        finish(HalveShard(place, k), shards[k])


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
