"""The seam certificate: how many contours run straight along a tile border, where no object has a reason to end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry.runs import MaskRuns
from napari_sam.tiling.objects import MergedObjects
from napari_sam.tiling.plan import TilePlan

MIN_RUN_PX = 8
MIN_PART = 2 / 3
"""A contour runs straight along a side of its box if it fills this many pixels and this part of it. No disc does: where
its outermost line of pixels is 8 or longer, that is about half of its box at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Seams:
    """Where seams are: edges of cores and reads of the fine tiles, without the image's own."""

    x_lines: NDArray[np.int64]
    y_lines: NDArray[np.int64]

    @classmethod
    def of(cls, plan: TilePlan) -> Seams:
        """Those of a plan."""
        reads = [tile.read for tile in plan.fine]
        return cls(
            _inner_lines(plan.column_edges, [x for read in reads for x in (read.x0, read.x1)]),
            _inner_lines(plan.row_edges, [y for read in reads for y in (read.y0, read.y1)]),
        )

    def sides_on(self, boxes: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which sides (left, top, right, bottom) of boxes (N, 4) lie on a seam; shape (N, 4)."""
        lines = (self.x_lines, self.y_lines, self.x_lines, self.y_lines)
        return np.stack([np.isin(side, on) for side, on in zip(boxes.T, lines, strict=True)], axis=1)

    def cuts(self, runs: MaskRuns) -> NDArray[np.bool_]:
        """Which masks run straight along a side of their box that lies on a seam; shape (N,)."""
        cut: NDArray[np.bool_] = np.any(self.sides_on(runs.boxes) & fills_sides(runs), axis=1)
        return cut


def seam_cut_labels(objects: MergedObjects, plan: TilePlan) -> NDArray[np.uint64]:
    """Labels of the objects that look cut off at a tile border.

    An object counts if a side of its box lies on a *seam* (an edge of a tile's core or of what a tile reads, but for
    the image's own edges), and of the pixels on that side of the box at least 8 and at least two thirds belong to it.
    Objects that end straight there by nature count as well, so on images of straight things the number is an upper
    bound; on round ones a run without faults has none.

    Parameters
    ----------
    objects : MergedObjects
        Only masks whose box has a side on a seam are read, all of them at once.
    plan : TilePlan

    Returns
    -------
    ndarray of shape (K,), uint64
    """
    table, seams = objects.table, Seams.of(plan)
    boxes = np.stack([table.x0, table.y0, table.x1, table.y1], axis=1)
    rows = np.flatnonzero(seams.sides_on(boxes).any(axis=1))
    labels: NDArray[np.uint64] = table.label[rows[seams.cuts(objects.runs(rows))]]
    return labels


def fills_sides(runs: MaskRuns) -> NDArray[np.bool_]:
    """Whether each mask fills most of the left, top, right and bottom side of its box; shape (N, 4)."""
    n, strips = len(runs), runs.strips()
    x0, y0, x1, y1 = runs.boxes[strips.owner].T
    down = (strips.lengths * (strips.column == at) for at in (x0, x1 - 1))
    across = (strips.row0 == y0, strips.row1 == y1)  # one pixel a column
    left, right, top, bottom = (np.bincount(strips.owner, weights=pixels, minlength=n) for pixels in (*down, *across))
    filled = np.stack([left, top, right, bottom], axis=1)
    width, height = runs.boxes[:, 2] - runs.boxes[:, 0], runs.boxes[:, 3] - runs.boxes[:, 1]
    sides = np.stack([height, width, height, width], axis=1)
    fills: NDArray[np.bool_] = (filled >= MIN_RUN_PX) & (filled >= MIN_PART * sides)
    return fills


def _inner_lines(core_edges: NDArray[np.int64], read_edges: list[int]) -> NDArray[np.int64]:
    lines = np.concatenate([core_edges, read_edges])
    inside: NDArray[np.int64] = np.unique(lines[(lines > 0) & (lines < core_edges[-1])])
    return inside
