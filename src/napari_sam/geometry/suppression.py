"""Greedy suppression of duplicates, and the search for the pairs that need comparing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

PAIRS_PER_CHUNK = 1 << 20
"""Candidate pairs looked at together: bounds the memory of a search at some tens of MB whatever the number of boxes."""
BAND_IN_BOXES = 4
"""Height of a band in means of the boxes' heights."""
WINNERS_AT_ONCE = 1 << 16
"""Candidates that become Python numbers together, which take ten times the memory."""
HEAD = 64
"""How many of the best are compared with all the others at a time."""

Boxes = NDArray[np.float64] | NDArray[np.int64] | NDArray[np.int32]
Pairs = NDArray[np.intp]
Reach = tuple[NDArray[np.intp], NDArray[np.intp]]
InConflict = Callable[[Pairs], NDArray[np.bool_]]
"""For pairs of ranks (P, 2), whether the two exclude one another, (P,)."""


def survivors(ranked: NDArray[np.float64], in_conflict: InConflict, min_iou: float) -> NDArray[np.intp]:
    """Ranks left when each candidate, from rank 0 on, removes the later ones it is in conflict with.

    A crowd of near copies has as many pairs as its size squared, but its best members remove nearly all of it. So
    the best few are compared with all the others while that removes many; of what is left only neighbours are compared.

    Parameters
    ----------
    ranked : ndarray of shape (N, 4), float
        Half-open XYXY boxes of the candidates, best first.
    in_conflict : callable
    min_iou : float
        Candidates whose boxes cannot have an IoU above this are never in conflict.

    Returns
    -------
    ndarray of shape (K,), intp
        Ascending.
    """
    kept, left = [], np.arange(len(ranked))
    while len(left) > HEAD:
        head, rest = left[:HEAD], left[HEAD:]
        among = np.stack(np.triu_indices(HEAD, k=1), axis=1)
        head = head[keep_best(HEAD, among[in_conflict(head[among])])]
        across = np.stack([np.repeat(head, len(rest)), np.tile(rest, len(head))], axis=1)
        removed = in_conflict(across).reshape(len(head), len(rest)).any(axis=0)
        kept.append(head)
        left = rest[~removed]
        if removed.mean() < 0.1:
            break
    near = iter_neighbours(ranked[left], min_iou)
    conflicts = [np.empty((0, 2), dtype=np.intp), *(pairs[in_conflict(left[pairs])] for pairs in near)]
    return np.concatenate([*kept, left[keep_best(len(left), np.concatenate(conflicts))]])


def keep_best(n: int, conflicts: Pairs) -> NDArray[np.intp]:
    """Ranks that survive when each, from rank 0 on, removes the later ranks it is in conflict with.

    Parameters
    ----------
    n : int
        Number of candidates; rank 0 is the best.
    conflicts : ndarray of shape (P, 2), intp
        Pairs of ranks that exclude one another, in any order.

    Returns
    -------
    ndarray of shape (K,), intp
        Ascending.
    """
    better, worse = conflicts.min(axis=1), conflicts.max(axis=1)
    order = np.argsort(better, kind="stable")
    better, worse = better[order], worse[order]
    winners, starts = np.unique(better, return_index=True)
    stops = np.append(starts, len(better))[1:]
    removed = np.zeros(n, dtype=bool)
    for at in range(0, len(winners), WINNERS_AT_ONCE):
        part = slice(at, at + WINNERS_AT_ONCE)
        for winner, start, stop in zip(
            winners[part].tolist(), starts[part].tolist(), stops[part].tolist(), strict=True
        ):
            if not removed[winner]:
                removed[worse[start:stop]] = True
    return np.flatnonzero(~removed)


def iter_neighbours(boxes: Boxes, min_iou: float) -> Iterator[Pairs]:
    """Pairs of boxes that intersect and may have an IoU above `min_iou`, piece by piece.

    Boxes are sorted along the axis where they crowd least, and only neighbours there are looked at. An IoU above t
    needs an overlap of more than t times the width on each axis, which narrows the neighbourhood. Where that still
    leaves very many, as in a huge image with boxes everywhere, it is done in bands across y, a few boxes high.

    Parameters
    ----------
    boxes : ndarray of shape (N, 4)
        Half-open XYXY.
    min_iou : float
        A bound to prune with, not an exact test: pairs below it may come too, none above it is missing.

    Yields
    ------
    ndarray of shape (P, 2), intp
        Indices into `boxes`, the lower first; each pair once, P bounded.
    """
    need = max(min_iou, 0.0) * (1 - 1e-9)  # a little less, so that rounding never loses a pair
    solid = np.flatnonzero((boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3]))
    if not len(solid):
        return
    if len(solid) <= PAIRS_PER_CHUNK:
        reach = min((_reach(boxes[solid], axis, need) for axis in (0, 1)), key=_n_candidates)
        if _n_candidates(reach) <= PAIRS_PER_CHUNK:
            yield from _sweep(boxes, solid, reach)
            return
    for rows, is_first in _bands(boxes, solid, axis=1):
        for pairs in _sweep(boxes, rows, _reach(boxes[rows], 0, need)):
            here = is_first(pairs)
            if here.any():
                yield pairs[here]


def _sweep(boxes: Boxes, rows: NDArray[np.intp], reach: Reach) -> Iterator[Pairs]:
    """Pairs among some of the boxes, from their order along an axis and how far each reaches in it."""
    order, stops = reach
    x0, y0, x1, y1 = np.ascontiguousarray(boxes[rows[order]].T)
    lengths = stops - np.arange(1, len(order) + 1)
    for part in chunks_by_total(lengths, PAIRS_PER_CHUNK):
        a = np.repeat(np.arange(part.start, part.stop), lengths[part])
        b = a + 1 + _counted_up(lengths[part])
        meet = (x0[a] < x1[b]) & (x0[b] < x1[a]) & (y0[a] < y1[b]) & (y0[b] < y1[a])
        pairs = rows[order[np.stack([a[meet], b[meet]], axis=1)]]
        if len(pairs):
            yield np.sort(pairs, axis=1)


def _bands(boxes: Boxes, rows: NDArray[np.intp], axis: int) -> Iterator[tuple[NDArray[np.intp], InConflict]]:
    """Stretches of an axis, each some boxes long: which of `rows` lie in it at least in part.

    With each comes a function that says of pairs of boxes that meet whether it is the first stretch in which both lie.
    """
    lower, upper = boxes[rows, axis], boxes[rows, axis + 2]
    origin, length = float(lower.min()), BAND_IN_BOXES * float((upper - lower).mean())
    first, last = (((edges - origin) / length).astype(np.int32) for edges in (lower, upper))
    del lower, upper
    count = last - first + 1
    band = np.repeat(first, count) + _counted_up(count).astype(np.int32)
    member = np.repeat(rows, count)[np.argsort(band, kind="stable")]
    band.sort()
    numbers, starts = np.unique(band, return_index=True)
    first_of = np.zeros(len(boxes), dtype=np.int32)
    first_of[rows] = first
    del first, last, count, band
    for number, here in zip(numbers.tolist(), np.split(member, starts[1:]), strict=True):
        yield here, partial(_begin_last, first_of, number)


def _begin_last(first_of: NDArray[np.int32], number: int, pairs: Pairs) -> NDArray[np.bool_]:
    """Whether the later of the two that begin in stretches `first_of` does so in the stretch `number`."""
    last: NDArray[np.bool_] = first_of[pairs].max(axis=1) == number
    return last


def _reach(boxes: Boxes, axis: int, need: float) -> Reach:
    """Order along `axis`, and for each place in it where those end that overlap it by more than `need` of its width."""
    lower, upper = boxes[:, axis], boxes[:, axis + 2]
    order = np.argsort(lower, kind="stable")
    stops = np.searchsorted(lower[order], (upper - need * (upper - lower))[order], side="left")
    return order, np.maximum(stops, np.arange(1, len(order) + 1))


def _n_candidates(reach: Reach) -> int:
    return int((reach[1] - np.arange(1, len(reach[1]) + 1)).sum())


def chunks_by_total(lengths: NDArray[np.intp], limit: int) -> Iterator[slice]:
    """Slices of `lengths` whose sums stay below `limit`; a single longer element gets a slice of its own."""
    totals = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        before = totals[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(totals, before + limit, side="right")))
        yield slice(start, stop)
        start = stop


def _counted_up(lengths: NDArray[np.intp]) -> NDArray[np.intp]:
    """0..n-1 for each n of `lengths`, one after another."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
