"""Masks of single planes linked into objects of a volume or a time series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_sam.geometry import Mask, mask_ious, overlapping_pairs
from napari_sam.geometry.boxes import check_iou_thresh


@dataclass(frozen=True, slots=True)
class LinkedObject:
    """One object: at most one mask a plane."""

    parts: tuple[tuple[int, int], ...]
    """(plane, index of the mask among those given for that plane), by plane."""


def link_planes(masks: Sequence[Sequence[Mask]], *, iou_thresh: float = 0.3) -> list[LinkedObject]:
    """Masks of consecutive planes as objects: each is linked to at most one of the plane before.

    Between two planes, links are chosen so that the sum of their mask IoU is as large as possible; pairs whose IoU is
    below `iou_thresh` are never linked. The order in which the masks of a plane are given does not matter.

    Parameters
    ----------
    masks : sequence of sequences of Mask
        Of each plane, all in one frame; a plane may have none.
    iou_thresh : float
        In (0, 1].

    Returns
    -------
    list of LinkedObject
        By first plane, then from top to bottom; every mask is part of exactly one.

    Raises
    ------
    ConfigError
        If `iou_thresh` lies outside [0, 1].
    """
    check_iou_thresh(iou_thresh)
    objects: list[list[tuple[int, int]]] = []
    order_before: list[int] = []
    owner_before: dict[int, int] = {}
    for plane, found in enumerate(masks):
        order = sorted(range(len(found)), key=lambda i: _place(found[i]))
        ordered = [found[i] for i in order]
        before = [masks[plane - 1][i] for i in order_before]
        linked = {b: a for a, b in best_links(before, ordered, iou_thresh)}
        owner = {}
        for b, i in enumerate(order):
            if b in linked:
                owner[b] = owner_before[linked[b]]
            else:
                owner[b] = len(objects)
                objects.append([])
            objects[owner[b]].append((plane, i))
        order_before, owner_before = order, owner
    return [LinkedObject(tuple(parts)) for parts in objects]


def best_links(a: Sequence[Mask], b: Sequence[Mask], iou_thresh: float) -> list[tuple[int, int]]:
    """Pairs (index in `a`, index in `b`) with the largest sum of IoU, each mask in one pair at most."""
    rows, columns, iou = _candidates(a, b, iou_thresh)
    if not len(rows):
        return []
    # Masks that meet, directly or through others, are a few at a time; each such group is solved on its own.
    size = len(a) + len(b)
    graph = coo_array((np.ones(len(rows)), (rows, columns + len(a))), shape=(size, size))
    _, group = connected_components(graph, directed=False)
    links = []
    by_group = np.argsort(group[rows], kind="stable")
    borders = np.flatnonzero(np.diff(group[rows][by_group])) + 1
    for pairs in np.split(by_group, borders):
        in_a, at_a = np.unique(rows[pairs], return_inverse=True)
        in_b, at_b = np.unique(columns[pairs], return_inverse=True)
        gain = np.zeros((len(in_a), len(in_b)))
        gain[at_a, at_b] = iou[pairs]
        chosen = zip(*linear_sum_assignment(gain, maximize=True), strict=True)
        links += [(int(in_a[i]), int(in_b[j])) for i, j in chosen if gain[i, j] > 0]
    return sorted(links)


def _candidates(
    a: Sequence[Mask], b: Sequence[Mask], iou_thresh: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Indices in `a`, in `b`, and the IoU of all pairs that may be linked."""
    both = [*a, *b]
    pairs = overlapping_pairs(np.array([mask.box_xyxy for mask in both]).reshape(-1, 4))
    pairs = pairs[(pairs[:, 0] < len(a)) & (pairs[:, 1] >= len(a))]
    pairs = pairs[np.lexsort(pairs.T[::-1])]
    iou = mask_ious(both, pairs)
    may = (iou >= iou_thresh) & (iou > 0)
    return pairs[may, 0], pairs[may, 1] - len(a), iou[may]


def _place(mask: Mask) -> tuple[int, int, int, int, int, bytes]:
    """Orders the masks of a plane by what they are, from top to bottom."""
    box = mask.box
    return box.y0, box.x0, box.y1, box.x1, mask.area, mask.rle.counts.tobytes()
