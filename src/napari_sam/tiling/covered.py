"""Objects that better ones cover: a tile's automatic masks are free of them, here the whole image is made so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Box, Mask
from napari_sam.geometry.overlap import shared_pixels
from napari_sam.geometry.suppression import iter_neighbours
from napari_sam.tiling.candidates import Rows, overlaps
from napari_sam.tiling.objects import COARSE_PROMPT, MergedObjects, ObjectTable

PAIRS_PER_READING = 1 << 12
"""Pairs of masks read and compared together: bounds the memory."""
BLOCK_PX = 1024
"""Side of what is drawn at a time of a mask that may be as large as the image."""


def uncovered_rows(objects: MergedObjects, cover_thresh: float) -> Rows:
    """Rows of the objects of which better ones that stay do not cover more than `cover_thresh` together.

    An object is better if its predicted IoU is higher; of equals, the one whose box begins further up, then left. One
    that only a coarse tile showed is never better than one seen at full resolution. That depends on the objects alone:
    not on tiles, nor on the order in which these were finished.

    Parameters
    ----------
    objects : MergedObjects
        Masks are read only where the boxes leave room for doubt.
    cover_thresh : float
        In [0, 1]; 1 keeps all.

    Returns
    -------
    ndarray of shape (K,), intp
        Ascending.
    """
    table = objects.table
    most: NDArray[np.float64] = cover_thresh * table.area_px.astype(np.float64)
    pairs, shared = _overlapping(objects, most)
    doubtful = np.flatnonzero(_sums(pairs[:, 1], shared, len(table)) > most)
    kept = np.ones(len(table), dtype=np.bool_)
    pairs = pairs[(shared > 0) & np.isin(pairs[:, 1], doubtful)]
    first = np.searchsorted(pairs[:, 1], doubtful, side="left")  # pairs are sorted by the worse one
    last = np.searchsorted(pairs[:, 1], doubtful, side="right")
    for at in _best_first(table, doubtful).tolist():
        row, better = int(doubtful[at]), pairs[first[at] : last[at], 0]
        covers = [objects.mask(other) for other in better[kept[better]].tolist()]
        kept[row] = covered_area(objects.mask(row), covers) <= most[row]
    rows: Rows = np.flatnonzero(kept)
    return rows


def _overlapping(objects: MergedObjects, most: NDArray[np.float64]) -> tuple[Rows, NDArray[np.int64]]:
    """Pairs (better, worse) of rows, (P, 2), that may matter to the worse one, and the pixels they share, (P,); sorted
    by the worse."""
    table = objects.table
    corners = (table.x0, table.y0, table.x1, table.y1)
    fits = max(objects.image_size) <= np.iinfo(np.int32).max
    boxes = np.stack([column.astype(np.int32 if fits else np.int64) for column in corners], axis=1)
    pairs = np.concatenate([np.empty((0, 2), dtype=np.intp), *iter_neighbours(boxes, 0.0)])
    pairs = _better_first(table, pairs)
    # Masks share no more than their boxes do: most objects are settled by this without being read.
    bound = overlaps(boxes[pairs[:, 0]], boxes[pairs[:, 1]])
    del boxes
    bound = np.minimum(bound, table.area_px[pairs].min(axis=1))
    pairs = pairs[(_sums(pairs[:, 1], bound, len(table)) > most)[pairs[:, 1]]]
    pairs = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]  # by row: neighbours in the image come together
    shared = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(pairs), PAIRS_PER_READING):
        used, renumbered = np.unique(pairs[start : start + PAIRS_PER_READING], return_inverse=True)
        shared.append(shared_pixels(objects.runs(used), renumbered.reshape(-1, 2)))
    return pairs, np.concatenate(shared)


def _best_first(table: ObjectTable, rows: Rows) -> Rows:
    """Places in `rows`, that of the best object first."""
    coarse = table.prompt[rows] == COARSE_PROMPT
    box = (column[rows] for column in (table.area_px, table.x1, table.y1, table.x0, table.y0))
    order: Rows = np.lexsort((table.label[rows], *box, -table.predicted_iou[rows], coarse))
    return order


def _better_first(table: ObjectTable, pairs: Rows) -> Rows:
    """The two rows of each pair, the better one first."""
    involved, renumbered = np.unique(pairs, return_inverse=True)
    rank = np.empty(len(involved), dtype=np.intp)
    rank[_best_first(table, involved)] = np.arange(len(involved))
    first, second = rank[renumbered.reshape(-1, 2)].T
    return np.where((first < second)[:, None], pairs, pairs[:, ::-1])


def _sums(rows: Rows, values: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = np.bincount(rows, weights=values, minlength=n).astype(np.float64)
    return sums


def covered_area(mask: Mask, others: Sequence[Mask]) -> int:
    """Pixels of `mask` that also belong to one of `others`."""
    return sum(_covered_in(block, mask, others) for block in _iter_blocks(mask.box))


def _covered_in(block: Box, mask: Mask, others: Sequence[Mask]) -> int:
    covered = np.zeros(block.size, dtype=np.bool_)
    for other in others:
        if other.box.intersects(block):
            covered |= other.window(block)
    return int(np.count_nonzero(covered & mask.window(block)))


def _iter_blocks(box: Box) -> Iterator[Box]:
    for y in range(box.y0, box.y1, BLOCK_PX):
        for x in range(box.x0, box.x1, BLOCK_PX):
            yield Box(x, y, x + BLOCK_PX, y + BLOCK_PX).clipped(box)
