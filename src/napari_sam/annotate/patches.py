"""A change of labels in one plane, small enough to keep: runs of pixels with their old and new value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.annotate.prompts import Plane
from napari_sam.errors import AnnotationError
from napari_sam.geometry import Box

Ints = NDArray[np.int64]

_PIXELS_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """Runs of pixels that change, each with one old and one new value; arrays of shape (R,), int64."""

    plane: Plane
    box: Box
    """Holds all of them; runs are counted in it, row by row."""
    starts: Ints
    lengths: Ints
    old: Ints
    new: Ints

    def __post_init__(self) -> None:
        for name in ("starts", "lengths", "old", "new"):
            column = np.asarray(getattr(self, name), dtype=np.int64)
            column.setflags(write=False)
            object.__setattr__(self, name, column)
        sizes = {len(self.starts), len(self.lengths), len(self.old), len(self.new)}
        ends = self.starts + self.lengths
        if len(sizes) > 1 or (len(ends) and not _is_ordered(self.starts, ends, self.box.area)):
            raise AnnotationError(
                f"the runs of a patch must be in order, apart, and inside its box {self.box}; this one was damaged."
            )

    @classmethod
    def between(cls, plane: Plane, box: Box, old: ArrayLike, new: ArrayLike) -> Patch:
        """What makes `new` of `old`, both of the size of `box`."""
        before, after = (np.broadcast_to(np.asarray(a), box.size).ravel() for a in (old, new))
        changed = np.flatnonzero(before != after)
        return cls._of_pixels(plane, box, changed, before[changed], after[changed])

    @classmethod
    def from_pixels(cls, plane: Plane, rows: ArrayLike, columns: ArrayLike, old: ArrayLike, new: ArrayLike) -> Patch:
        """What sets single pixels; where one comes twice, its first old and its last new value count."""
        y, x = np.asarray(rows, dtype=np.int64).ravel(), np.asarray(columns, dtype=np.int64).ravel()
        if not len(y):
            return cls(plane, Box(0, 0, 0, 0), *(np.empty(0, np.int64) for _ in range(4)))
        before, after = (np.broadcast_to(np.asarray(a, dtype=np.int64).ravel(), y.shape) for a in (old, new))
        box = Box(int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1)
        at = (y - box.y0) * box.width + x - box.x0
        places, first = np.unique(at, return_index=True)
        last = len(at) - 1 - np.unique(at[::-1], return_index=True)[1]
        changed = before[first] != after[last]
        return cls._of_pixels(plane, box, places[changed], before[first][changed], after[last][changed])

    @classmethod
    def joined(cls, plane: Plane, box: Box, bands: list[Patch]) -> Patch:
        """The patch of a box from those of its bands, which are as wide as it and follow one another downwards."""
        offsets = [(band.box.y0 - box.y0) * box.width for band in bands]
        starts = [band.starts + offset for band, offset in zip(bands, offsets, strict=True)]
        return cls(
            plane,
            box,
            _joined(starts),
            *(_joined([getattr(band, name) for band in bands]) for name in ("lengths", "old", "new")),
        )

    @classmethod
    def _of_pixels(cls, plane: Plane, box: Box, at: NDArray[Any], old: NDArray[Any], new: NDArray[Any]) -> Patch:
        """Of ascending places in the raveled box."""
        if not len(at):
            return cls(plane, box, *(np.empty(0, np.int64) for _ in range(4)))
        begins = np.concatenate(
            [[True], (at[1:] != at[:-1] + 1) | (old[1:] != old[:-1]) | (new[1:] != new[:-1])]
        ).nonzero()[0]
        lengths = np.diff(np.append(begins, len(at)))
        return cls(plane, box, at[begins], lengths, old[begins], new[begins])

    @property
    def is_empty(self) -> bool:
        return len(self.starts) == 0

    @property
    def area(self) -> int:
        """Pixels that change."""
        return int(self.lengths.sum())

    def inverted(self) -> Patch:
        """What takes it back."""
        return Patch(self.plane, self.box, self.starts, self.lengths, self.new, self.old)

    def area_changes(self) -> dict[int, tuple[int, int]]:
        """(pixels lost, pixels gained) of each label it touches; 0, the background, is left out."""
        if len(self.old) and (self.old == self.old[0]).all() and (self.new == self.new[0]).all():
            area, old, new = self.area, int(self.old[0]), int(self.new[0])
            return {label: pixels for label, pixels in ((old, (area, 0)), (new, (0, area))) if label}
        lost, gained = _areas(self.old, self.lengths), _areas(self.new, self.lengths)
        return {
            label: (lost.get(label, 0), gained.get(label, 0)) for label in sorted(lost.keys() | gained.keys()) if label
        }

    def iter_pixels(self) -> Iterator[tuple[Ints, Ints, Ints]]:
        """(rows, columns, new values) of its pixels, at most a million at a time."""
        ends = np.cumsum(self.lengths)
        total = int(ends[-1]) if len(ends) else 0
        for begin in range(0, total, _PIXELS_AT_ONCE):
            count = np.arange(begin, min(begin + _PIXELS_AT_ONCE, total))
            run = np.searchsorted(ends, count, side="right")
            at = self.starts[run] + count - (ends - self.lengths)[run]
            yield at // self.box.width + self.box.y0, at % self.box.width + self.box.x0, self.new[run]


def _is_ordered(starts: Ints, ends: Ints, area: int) -> bool:
    apart = bool((starts[1:] >= ends[:-1]).all())
    return apart and bool((ends > starts).all()) and starts[0] >= 0 and ends[-1] <= area


def _areas(labels: Ints, lengths: Ints) -> dict[int, int]:
    values, at = np.unique(labels, return_inverse=True)
    sums = np.zeros(len(values), np.int64)
    np.add.at(sums, at.ravel(), lengths)
    return dict(zip(values.tolist(), sums.tolist(), strict=True))


def _joined(columns: list[Ints]) -> Ints:
    return np.concatenate(columns) if columns else np.empty(0, np.int64)
