"""The pixels of sparse labels: blocks and single ones, read and written through the chunks they lie in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotate.chunks import THUMBNAIL_STEP, ChunkKey, ChunkStore
from napari_sam.annotate.indexing import Span, spans
from napari_sam.annotate.patches import Ints, Patch
from napari_sam.annotate.prompts import Plane
from napari_sam.geometry import Box


class LabelPixels:
    """Pixels by plane, row and column; all positions lie inside the image. May be used from several threads."""

    def __init__(self, chunk_px: int, dtype: np.dtype[Any], memory_bytes: int) -> None:
        self.chunk_px = chunk_px
        self.dtype = dtype
        self.chunks = ChunkStore(chunk_px, dtype, memory_bytes)
        self.lock = RLock()

    def window(self, plane: Plane, box: Box) -> NDArray[Any]:
        """A box of one plane, (height, width)."""
        return self.read((*(range(i, i + 1) for i in plane), *_ranges(box))).reshape(box.size)

    def apply(self, patch: Patch) -> None:
        """Set the pixels of a patch to their new values."""
        with self.lock:
            for rows, columns, values in patch.iter_pixels():
                self._scatter(patch.plane, rows, columns, values)

    def read(self, ranges: tuple[range, ...], step: int = 1) -> NDArray[Any]:
        """A block of pixels; rows and columns are counted in every `step`-th pixel."""
        block = np.zeros(tuple(len(r) for r in ranges), self.dtype)
        rows, columns = (range(r.start * step, r.stop * step, r.step * step) for r in ranges[-2:])
        row_spans, column_spans = ({span.chunk: span for span in spans(r, self.chunk_px)} for r in (rows, columns))
        # A view whose pixels all lie on the thumbnails' lattice needs no chunk from disk.
        coarse = all(r.step % THUMBNAIL_STEP == 0 and r.start % THUMBNAIL_STEP == 0 for r in (rows, columns))
        with self.lock:
            for at in product(*(range(len(r)) for r in ranges[:-2])):
                plane = tuple(r[i] for r, i in zip(ranges[:-2], at, strict=True))
                for place in self._met(plane, row_spans, column_spans):
                    y, x = row_spans[place[0]], column_spans[place[1]]
                    if coarse:
                        chunk = self.chunks.thumbnail((plane, *place))
                        inside = _coarse(y.inside), _coarse(x.inside)
                    else:
                        chunk, inside = self.chunks.get((plane, *place)), (y.inside, x.inside)
                    if chunk is not None:
                        block[at][y.outside, x.outside] = chunk[inside]
        return block

    def gather(self, plane: Sequence[Ints], rows: Ints, columns: Ints) -> NDArray[Any]:
        """Single pixels."""
        values = np.zeros(rows.shape, self.dtype)
        with self.lock:
            for index, chosen in by_plane(plane, rows.shape):
                y, x, flat = rows[chosen], columns[chosen], np.zeros(np.count_nonzero(chosen), self.dtype)
                for key, here in self._by_chunk(index, y, x):
                    chunk = self.chunks.get(key)
                    if chunk is not None:
                        flat[here] = chunk[y[here] % self.chunk_px, x[here] % self.chunk_px]
                values[chosen] = flat
        return values

    def extent_of(self, label: int, plane: Plane, region: Box) -> Box:
        """The smallest box around the pixels of a label in a region."""
        c = self.chunk_px
        rows, columns = ({span.chunk: span for span in spans(r, c)} for r in _ranges(region))
        x0 = y0 = 2**62
        x1 = y1 = -1
        for row, column in self._met(plane, rows, columns):
            chunk = self.chunks.get((plane, row, column))
            if chunk is None:
                continue
            y, x = np.nonzero(chunk[rows[row].inside, columns[column].inside] == label)
            if len(y):
                top, left = row * c + rows[row].inside.start, column * c + columns[column].inside.start
                x0, y0 = min(x0, left + int(x.min())), min(y0, top + int(y.min()))
                x1, y1 = max(x1, left + int(x.max()) + 1), max(y1, top + int(y.max()) + 1)
        return Box(x0, y0, x1, y1) if x1 >= 0 else Box(0, 0, 0, 0)

    def _met(self, plane: Plane, rows: dict[int, Span], columns: dict[int, Span]) -> list[tuple[int, int]]:
        """Chunks of a plane that hold something and are met both ways; the shorter list is gone through."""
        there = self.chunks.keys(plane)
        if len(there) <= len(rows) * len(columns):
            return sorted(place for place in there if place[0] in rows and place[1] in columns)
        return [place for place in product(rows, columns) if place in there]

    def _scatter(self, plane: Plane, rows: Ints, columns: Ints, values: NDArray[Any]) -> None:
        """Write single pixels of one plane."""
        for key, here in self._by_chunk(plane, rows, columns):
            chunk = self.chunks.edit(key)
            chunk[rows[here] % self.chunk_px, columns[here] % self.chunk_px] = values[here]
            if not values[here].all():
                self.chunks.tidy(key)

    def _by_chunk(self, plane: Plane, rows: Ints, columns: Ints) -> list[tuple[ChunkKey, Any]]:
        """Which of some pixels, in one order or another, lie in which chunk; equal pixels keep their order."""
        if not rows.size:
            return []
        y, x = rows // self.chunk_px, columns // self.chunk_px
        if y.min() == y.max() and x.min() == x.max():
            return [((plane, int(y[0]), int(x[0])), slice(None))]
        place = y * (int(x.max()) + 1) + x
        order = np.argsort(place, kind="stable")
        starts = np.flatnonzero(np.concatenate([[True], np.diff(place[order]) != 0]))
        parts = np.split(order, starts[1:])
        return [((plane, int(y[part[0]]), int(x[part[0]])), part) for part in parts]


def _ranges(box: Box) -> tuple[range, range]:
    return range(box.y0, box.y1), range(box.x0, box.x1)


def _coarse(inside: slice) -> slice:
    """A slice of a chunk as one of its thumbnail."""
    t = THUMBNAIL_STEP
    stop = None if inside.stop is None else -(-inside.stop // t) if inside.step > 0 else inside.stop // t
    return slice(inside.start // t, stop, inside.step // t)


def by_plane(plane: Sequence[Ints], shape: tuple[int, ...]) -> list[tuple[Plane, NDArray[np.bool_]]]:
    """The planes that some pixels lie in, and which lie in each."""
    if not plane:
        return [((), np.ones(shape, np.bool_))]
    indices = np.unique(np.stack([axis.ravel() for axis in plane], axis=1), axis=0).tolist()
    return [
        (tuple(index), np.logical_and.reduce([axis == i for axis, i in zip(plane, index, strict=True)]))
        for index in indices
    ]
