"""Which boxes lie where: found without looking at all of them, so that the cost of an object does not grow with the
image."""

from __future__ import annotations

from collections import defaultdict
from itertools import product

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Box

CELL_PX = 512
"""Side of a cell of both indices; a box longer than this is looked at by every question to `BoxPlaces`."""

Rows = NDArray[np.intp]
Column = NDArray[np.int64]


class BoxPlaces:
    """Many boxes that do not change: 8 bytes each, beside the columns they come from."""

    def __init__(self, x0: Column, y0: Column, x1: Column, y1: Column) -> None:
        self._x0, self._y0, self._x1, self._y1 = x0, y0, x1, y1
        is_short = (x1 - x0 <= CELL_PX) & (y1 - y0 <= CELL_PX)
        self._long: Rows = np.flatnonzero(~is_short)
        self._columns = int(x0.max(initial=0)) // CELL_PX + 1
        self._rows = int(y0.max(initial=0)) // CELL_PX + 1
        cell = (y0 // CELL_PX) * self._columns + x0 // CELL_PX
        cell[self._long] = self._rows * self._columns  # behind all others
        small = cell.astype(np.min_scalar_type(self._rows * self._columns))
        del cell
        self._order: Rows = np.argsort(small, kind="stable")
        counts = np.bincount(small, minlength=self._rows * self._columns + 1)
        self._first = np.concatenate([[0], np.cumsum(counts)])

    def meeting(self, box: Box) -> Rows:
        """Rows of the boxes that share a pixel with `box`, ascending."""
        if box.is_empty:
            return np.empty(0, dtype=np.intp)
        rows = np.concatenate([self._short_near(box), self._long])
        x0, y0, x1, y1 = self._x0[rows], self._y0[rows], self._x1[rows], self._y1[rows]
        meets = (np.maximum(x0, box.x0) < np.minimum(x1, box.x1)) & (np.maximum(y0, box.y0) < np.minimum(y1, box.y1))
        found: Rows = np.sort(rows[meets])
        return found

    def _short_near(self, box: Box) -> Rows:
        """Those that begin in the cells of the box or up to one cell before it."""
        left = max((box.x0 - CELL_PX) // CELL_PX, 0)
        right = min((box.x1 - 1) // CELL_PX, self._columns - 1)
        top, bottom = max((box.y0 - CELL_PX) // CELL_PX, 0), min((box.y1 - 1) // CELL_PX, self._rows - 1)
        parts = [
            self._order[self._first[row * self._columns + left] : self._first[row * self._columns + right + 1]]
            for row in range(top, bottom + 1)
            if left <= right
        ]
        return np.concatenate([np.empty(0, dtype=np.intp), *parts])


class GrowingPlaces:
    """Boxes that come one by one, each with a number."""

    def __init__(self) -> None:
        self._cells: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        self._boxes: dict[int, Box] = {}

    def __len__(self) -> int:
        return len(self._boxes)

    def add(self, number: int, box: Box) -> None:
        """Remember a box; its number must be new."""
        self._boxes[number] = box
        for cell in _cells_of(box):
            self._cells[cell].append(number)

    def meeting(self, box: Box) -> list[int]:
        """Numbers of the boxes that share a pixel with `box`, ascending."""
        near = {number for cell in _cells_of(box) if cell in self._cells for number in self._cells[cell]}
        return sorted(number for number in near if self._boxes[number].intersects(box))


def _cells_of(box: Box) -> list[tuple[int, int]]:
    if box.is_empty:
        return []
    down = range(box.y0 // CELL_PX, (box.y1 - 1) // CELL_PX + 1)
    return list(product(down, range(box.x0 // CELL_PX, (box.x1 - 1) // CELL_PX + 1)))
