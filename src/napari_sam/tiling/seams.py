"""The seam certificate: how many contours run straight along a tile border, where no object has a reason to end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Box, Mask
from napari_sam.tiling.objects import MergedObjects
from napari_sam.tiling.plan import TilePlan

MIN_RUN_PX = 8
MIN_PART = 2 / 3
"""A contour runs straight along a side of its box if it fills this many pixels and this part of it. No disc does: where
its outermost line of pixels is 8 or longer, that is about half of its box at most."""


def seam_cut_labels(objects: MergedObjects, plan: TilePlan) -> NDArray[np.uint64]:
    """Labels of the objects that look cut off at a tile border.

    An object counts if a side of its box lies on a *seam* (an edge of a tile's core or of what a tile reads, but for
    the image's own edges), and of the pixels on that side of the box at least 8 and at least two thirds belong to it.
    Objects that end straight there by nature count as well, so on images of straight things the number is an upper
    bound; on round ones a run without faults has none.

    Parameters
    ----------
    objects : MergedObjects
        Only masks whose box has a side on a seam are read.
    plan : TilePlan

    Returns
    -------
    ndarray of shape (K,), uint64
    """
    table = objects.table
    x_lines, y_lines = seam_lines(plan)
    on_seam = np.stack(
        [
            np.isin(table.x0, x_lines),
            np.isin(table.y0, y_lines),
            np.isin(table.x1, x_lines),
            np.isin(table.y1, y_lines),
        ],
        axis=1,
    )
    rows = np.flatnonzero(on_seam.any(axis=1))
    cut = [
        row
        for row in rows.tolist()
        if any(runs_along(objects.mask(row), side) for side in range(4) if on_seam[row, side])
    ]
    labels: NDArray[np.uint64] = table.label[cut]
    return labels


def seam_lines(plan: TilePlan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where seams are along x and along y: edges of cores and reads of the fine tiles, without the image's own."""
    reads = [tile.read for tile in plan.fine]
    x_lines = _seams(plan.column_edges, [x for read in reads for x in (read.x0, read.x1)])
    return x_lines, _seams(plan.row_edges, [y for read in reads for y in (read.y0, read.y1)])


def _seams(core_edges: NDArray[np.int64], read_edges: list[int]) -> NDArray[np.int64]:
    lines = np.concatenate([core_edges, read_edges])
    inside: NDArray[np.int64] = np.unique(lines[(lines > 0) & (lines < core_edges[-1])])
    return inside


def runs_along(mask: Mask, side: int) -> bool:
    """Whether the mask fills most of side 0 (left), 1 (top), 2 (right) or 3 (bottom) of its box."""
    box = mask.box
    line = (
        Box(box.x0, box.y0, box.x0 + 1, box.y1),
        Box(box.x0, box.y0, box.x1, box.y0 + 1),
        Box(box.x1 - 1, box.y0, box.x1, box.y1),
        Box(box.x0, box.y1 - 1, box.x1, box.y1),
    )[side]
    n = np.count_nonzero(mask.window(line))
    return bool(n >= MIN_RUN_PX and n >= MIN_PART * line.area)
