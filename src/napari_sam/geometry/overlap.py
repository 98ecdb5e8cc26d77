"""How much masks overlap, counted from their run lengths, and the removal of duplicates by it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import ImageError, PromptError
from napari_sam.geometry.boxes import Box, check_iou_thresh
from napari_sam.geometry.masks import Mask
from napari_sam.geometry.runs import MaskRuns, Strips, shared_areas
from napari_sam.geometry.suppression import survivors

PAIRS_PER_CHUNK = 1 << 14
"""Pairs of masks compared together: bounds the memory, as each may need some hundred binary searches."""


def intersection_area(a: Mask, b: Mask) -> int:
    """Number of pixels two masks of one frame have in common."""
    return int(intersection_areas([a, b], np.array([[0, 1]]))[0])


def mask_iou(a: Mask, b: Mask) -> float:
    """IoU of two masks of one frame, from their run lengths; 0 where both are empty.

    Raises
    ------
    ImageError
        If they lie in frames of different size.
    """
    return float(mask_ious([a, b], np.array([[0, 1]]))[0])


def mask_iou_window(a: Mask, b: Mask, window: Box) -> float:
    """IoU of two masks of one frame as far as they lie in `window`.

    Compares an object a tile saw only in part with the whole one: the window is what that tile read.
    """
    _check_one_frame([a, b])
    strips = Strips.of([a.rle, b.rle], [a.box, b.box]).clipped(window)
    shared = shared_areas(strips, 2, np.array([[0, 1]]))
    return float(_iou(shared, *strips.areas(2)[:, None])[0])


def runs_of(masks: Sequence[Mask]) -> MaskRuns:
    """The run lengths of many masks as columns."""
    return MaskRuns.of([mask.rle for mask in masks], [mask.box for mask in masks])


def intersection_areas(masks: Sequence[Mask], pairs: NDArray[np.intp]) -> NDArray[np.int64]:
    """Common pixels of each pair of `masks`.

    Parameters
    ----------
    masks : sequence of N Mask
        Of one frame.
    pairs : ndarray of shape (P, 2), intp
        Indices into `masks`.

    Returns
    -------
    ndarray of shape (P,), int64

    Raises
    ------
    ImageError
        If the masks lie in frames of different size.
    """
    _check_one_frame(masks)
    return shared_pixels(runs_of(masks), pairs)


def shared_pixels(runs: MaskRuns, pairs: NDArray[np.intp]) -> NDArray[np.int64]:
    """`intersection_areas` of masks that are columns already."""
    areas = np.zeros(len(pairs), dtype=np.int64)
    meet = np.flatnonzero(_box_overlap(runs.boxes, pairs) > 0)
    used, renumbered = np.unique(pairs[meet], return_inverse=True)
    strips = runs.take(used).strips()
    renumbered = renumbered.reshape(-1, 2)
    for start in range(0, len(meet), PAIRS_PER_CHUNK):
        part = slice(start, start + PAIRS_PER_CHUNK)
        areas[meet[part]] = shared_areas(strips, len(used), renumbered[part])
    return areas


def mask_ious(masks: Sequence[Mask], pairs: NDArray[np.intp]) -> NDArray[np.float64]:
    """IoU of each pair of `masks`, (P,); arguments as for `intersection_areas`."""
    _check_one_frame(masks)
    return pair_ious(runs_of(masks), np.array([mask.area for mask in masks], dtype=np.int64), pairs)


def pair_ious(runs: MaskRuns, areas: NDArray[np.int64], pairs: NDArray[np.intp]) -> NDArray[np.float64]:
    """IoU of each pair of masks that are columns already, whose `areas` (N,) are known; shape (P,)."""
    return _iou(shared_pixels(runs, pairs), areas[pairs[:, 0]], areas[pairs[:, 1]])


def mask_iou_matrix(a: Sequence[Mask], b: Sequence[Mask]) -> NDArray[np.float64]:
    """IoU of each of `a` with each of `b`, all in one frame; shape (len(a), len(b))."""
    rows, columns = np.indices((len(a), len(b)))
    pairs = np.stack([rows.ravel(), columns.ravel() + len(a)], axis=1)
    return mask_ious([*a, *b], pairs).reshape(len(a), len(b))


def mask_nms(masks: Sequence[Mask], order: ArrayLike, iou_thresh: float) -> NDArray[np.intp]:
    """Indices of the masks left by greedy suppression on mask IoU, best first.

    Parameters
    ----------
    masks : sequence of N Mask
        Of one frame.
    order : array of shape (N,), integers
        Indices into `masks`, best first. Each removes those after it whose IoU with it is above `iou_thresh`.
    iou_thresh : float
        In [0, 1].

    Returns
    -------
    ndarray of shape (K,), intp

    Raises
    ------
    PromptError
        If `order` does not name each mask once.
    ConfigError
        If `iou_thresh` lies outside [0, 1].
    """
    check_iou_thresh(iou_thresh)
    ranking = np.asarray(order, dtype=np.intp)
    if ranking.shape != (len(masks),) or not np.array_equal(np.sort(ranking), np.arange(len(masks))):
        raise PromptError(
            f"order must name each of the {len(masks)} masks once, got {ranking.tolist()[:8]}; np.argsort does."
        )
    _check_one_frame(masks)
    ranked = runs_of([masks[i] for i in ranking])
    boxes = ranked.boxes
    areas = np.array([mask.area for mask in masks], dtype=np.int64)[ranking]

    def in_conflict(pairs: NDArray[np.intp]) -> NDArray[np.bool_]:
        # Masks share no more pixels than their boxes do, nor than the smaller one has.
        a, b = areas[pairs[:, 0]], areas[pairs[:, 1]]
        close = _iou(np.minimum(_box_overlap(boxes, pairs), np.minimum(a, b)), a, b) > iou_thresh
        close[close] = pair_ious(ranked, areas, pairs[close]) > iou_thresh
        return close

    # The boxes' own IoU bounds nothing: one stray pixel makes the box of a mask large.
    kept: NDArray[np.intp] = ranking[survivors(boxes.astype(np.float64), in_conflict, 0.0)]
    return kept


def _box_overlap(boxes: NDArray[np.int64], pairs: NDArray[np.intp]) -> NDArray[np.int64]:
    a, b = boxes[pairs[:, 0]], boxes[pairs[:, 1]]
    width = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    overlap: NDArray[np.int64] = np.maximum(width, 0) * np.maximum(height, 0)
    return overlap


def _iou(shared: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    union = a + b - shared
    iou: NDArray[np.float64] = np.divide(shared, union, out=np.zeros(len(shared)), where=union > 0)
    return iou


def _check_one_frame(masks: Sequence[Mask]) -> None:
    sizes = {mask.frame_size for mask in masks}
    if len(sizes) > 1:
        raise ImageError(
            f"masks can be compared in one frame only, got frames {sorted(sizes)}; use Mask.shifted first."
        )
