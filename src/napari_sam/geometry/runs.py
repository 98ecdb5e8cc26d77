"""The pixels of many masks as vertical strips, so that overlaps are counted without any mask being drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry.boxes import Box
from napari_sam.geometry.rle import Rle

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class MaskRuns:
    """Run lengths of many masks of one frame as columns, so that no step in Python is taken for each."""

    boxes: Ints
    """(N, 4) XYXY."""
    counts: NDArray[np.uint32]
    """Run lengths inside the boxes, in the order of `Rle`, those of one mask after those of another."""
    offsets: Ints
    """(N + 1,): the run lengths of mask i are `counts[offsets[i]:offsets[i + 1]]`."""

    @classmethod
    def of(cls, rles: Sequence[Rle], boxes: Sequence[Box]) -> MaskRuns:
        """The columns of masks given as the run lengths inside their boxes."""
        counts = [rle.counts for rle in rles]
        corners = [(box.x0, box.y0, box.x1, box.y1) for box in boxes]
        return cls(
            np.array(corners, dtype=np.int64).reshape(-1, 4),
            np.concatenate([np.empty(0, dtype=np.uint32), *counts]),
            np.cumsum([0, *map(len, counts)], dtype=np.int64),
        )

    @classmethod
    def joined(cls, parts: Sequence[MaskRuns]) -> MaskRuns:
        """The masks of all parts, one part after another."""
        lengths = [np.diff(part.offsets) for part in parts]
        return cls(
            np.concatenate([np.empty((0, 4), dtype=np.int64), *(part.boxes for part in parts)]),
            np.concatenate([np.empty(0, dtype=np.uint32), *(part.counts for part in parts)]),
            np.cumsum(np.concatenate([np.zeros(1, dtype=np.int64), *lengths])),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, rows: NDArray[np.intp]) -> MaskRuns:
        """Some of the masks, in the order of `rows`."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        places = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return MaskRuns(self.boxes[rows], self.counts[places], offsets)

    def strips(self) -> Strips:
        """The pixels of all masks; the owner of a strip is the number of its mask."""
        owner, start, stop = _inside_runs(self.counts, self.offsets)
        x0, y0 = self.boxes[:, 0], self.boxes[:, 1]
        return _cut_at_columns(owner, start, stop, (self.boxes[:, 3] - y0)[owner])._moved(x0, y0)


@dataclass(frozen=True, slots=True, eq=False)
class Strips:
    """Vertical strips of pixels: rows `row0:row1` of one column each, sorted by mask, column and row.

    Arrays of shape (S,), int64, in pixels of the frame the masks share.
    """

    owner: Ints
    """Index of the mask each strip belongs to."""
    column: Ints
    row0: Ints
    row1: Ints

    @classmethod
    def of(cls, rles: Sequence[Rle], boxes: Sequence[Box]) -> Strips:
        """Strips of masks given as the run lengths inside their boxes."""
        return MaskRuns.of(rles, boxes).strips()

    @property
    def lengths(self) -> Ints:
        return self.row1 - self.row0

    def areas(self, n: int) -> Ints:
        """Pixels of each of `n` masks, shape (n,)."""
        return np.bincount(self.owner, weights=self.lengths, minlength=n).astype(np.int64)

    def clipped(self, window: Box) -> Strips:
        """Their parts inside `window`."""
        row0, row1 = np.maximum(self.row0, window.y0), np.minimum(self.row1, window.y1)
        keep = (row1 > row0) & (self.column >= window.x0) & (self.column < window.x1)
        return Strips(self.owner[keep], self.column[keep], row0[keep], row1[keep])

    def positions(self, window: Box) -> tuple[Ints, Ints]:
        """Where each strip begins and ends when `window`, which must hold them all, is counted down its columns."""
        begin = (self.column - window.x0) * window.height - window.y0
        return begin + self.row0, begin + self.row1

    def _moved(self, x0: Ints, y0: Ints) -> Strips:
        """They with the mask i moved by (x0[i], y0[i])."""
        dy = y0[self.owner]
        return Strips(self.owner, self.column + x0[self.owner], self.row0 + dy, self.row1 + dy)


def shared_areas(strips: Strips, n: int, pairs: NDArray[np.intp]) -> Ints:
    """Number of pixels the two masks of each pair have in common.

    Every mask gets its own stretch of one long line, on which its strips lie in order. How much of a mask lies
    before a point of the line is then one binary search, and a strip shares with the mask what lies between its ends.

    Parameters
    ----------
    strips : Strips
        Of `n` masks in one frame.
    pairs : ndarray of shape (P, 2), intp

    Returns
    -------
    ndarray of shape (P,), int64
    """
    frame = _frame_of(strips)
    begin, end = strips.positions(frame)
    first = np.searchsorted(strips.owner, np.arange(n + 1))
    base, asked = _more_and_fewer_strips(np.diff(first), pairs)
    n_asked = np.diff(first)[asked]
    queries = np.repeat(first[asked] - (np.cumsum(n_asked) - n_asked), n_asked) + np.arange(n_asked.sum())
    on_line = np.repeat(base * frame.area, n_asked)
    line = _Line(begin + strips.owner * frame.area, strips.lengths)
    shared = line.covered_before(end[queries] + on_line) - line.covered_before(begin[queries] + on_line)
    return np.bincount(np.repeat(np.arange(len(pairs)), n_asked), weights=shared, minlength=len(pairs)).astype(np.int64)


def draw(strips: Strips, window: Box) -> NDArray[np.bool_]:
    """The part of one mask inside `window`, shape (height, width), bool."""
    begin, end = strips.clipped(window).positions(window)
    bounds = np.concatenate([[0], np.stack([begin, end], axis=1).ravel(), [window.area]])
    inside = np.arange(len(bounds) - 1) % 2 == 1
    return np.repeat(inside, np.diff(bounds)).reshape(window.width, window.height).T


def frame_counts(strips: Strips, frame: Box) -> Ints:
    """Run lengths of one mask in the whole of `frame`, int64, without a run of length zero but the first."""
    begin, end = strips.positions(frame)
    # A strip down to the last row goes on in the next column's first row: that is one run.
    apart = np.concatenate([[True], begin[1:] > end[:-1]]) if len(begin) else np.empty(0, dtype=bool)
    runs = np.stack([begin[apart], end[np.roll(apart, -1)]], axis=1).ravel()
    counts = np.diff(np.concatenate([[0], runs, [frame.area]]))
    return counts[:-1] if counts[-1] == 0 else counts


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """Stretches of covered positions on a line, in order and without overlap."""

    begin: Ints
    length: Ints

    def covered_before(self, positions: Ints) -> Ints:
        """How many covered positions lie before each of `positions`."""
        before = np.concatenate([[0], np.cumsum(self.length)])
        at = np.searchsorted(self.begin, positions, side="left")
        inside_last = positions - self.begin[at - 1]
        return np.where(at > 0, before[at - 1] + np.minimum(inside_last, self.length[at - 1]), 0)


def _frame_of(strips: Strips) -> Box:
    if not len(strips.owner):
        return Box(0, 0, 0, 0)
    x0, y0 = int(strips.column.min()), int(strips.row0.min())
    return Box(x0, y0, int(strips.column.max()) + 1, int(strips.row1.max()))


def _more_and_fewer_strips(n_strips: Ints, pairs: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Of each pair the mask with more strips, and the one with fewer: searching with the fewer is cheaper."""
    a, b = pairs[:, 0], pairs[:, 1]
    swap = n_strips[a] < n_strips[b]
    return np.where(swap, b, a), np.where(swap, a, b)


def _inside_runs(counts: NDArray[np.uint32], offsets: Ints) -> tuple[Ints, Ints, Ints]:
    """Owner, start and stop of every run of ones, positions counted from the mask's own beginning."""
    first, n_inside = offsets[:-1], np.diff(offsets) // 2
    owner = np.repeat(np.arange(len(first)), n_inside)
    ends = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])
    # Every second run of a mask is one of ones.
    begun = np.cumsum(n_inside) - n_inside
    run = (first - 2 * begun)[owner] + 2 * np.arange(len(owner)) + 1
    before = ends[first][owner]
    return owner, ends[run] - before, ends[run + 1] - before


def _cut_at_columns(owner: Ints, start: Ints, stop: Ints, height: Ints) -> Strips:
    """One strip for each column a run touches."""
    column = start // height
    n_columns = (stop - 1) // height - column + 1
    run = np.repeat(np.arange(len(owner)), n_columns)
    step = np.arange(len(run)) - (np.cumsum(n_columns) - n_columns)[run]
    column = column[run] + step
    row0 = np.maximum(start[run] - column * height[run], 0)
    row1 = np.minimum(stop[run] - column * height[run], height[run])
    return Strips(owner[run], column, row0, row1)
