"""Average precision and average recall of masks, by the definition of COCO.

The detections of an image are looked at from the best score down; each takes the true object it fits best among those
that are left, if their IoU reaches a threshold. True objects outside a range of sizes (and crowds) are to be ignored:
a detection that takes one of them counts neither way, nor does one outside the range that takes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Mask, intersection_areas

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
"""Where precision is read for the average precision."""
NO_SCORE = float("nan")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ScoredImage:
    """True objects and detections of one category in one image."""

    iou: NDArray[np.float64]
    """(D, G): of each detection, best score first, with each true object."""
    scores: NDArray[np.float64]
    """(D,) not ascending."""
    areas: NDArray[np.float64]
    """(D,) of the detections."""
    true_areas: NDArray[np.float64]
    """(G,)"""
    is_crowd: NDArray[np.bool_]
    """(G,) regions of many objects: several detections may take one of them, and none of it counts."""

    @classmethod
    def of_masks(
        cls,
        found: Sequence[Mask],
        scores: Sequence[float],
        truth: Sequence[Mask],
        *,
        is_crowd: Sequence[bool] | None = None,
        true_areas: Sequence[float] | None = None,
    ) -> ScoredImage:
        """Of masks in one frame; `true_areas` where the ground truth states areas that differ from its masks."""
        order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
        ranked = [found[i] for i in order]
        crowd = np.zeros(len(truth), dtype=bool) if is_crowd is None else np.asarray(is_crowd, dtype=bool)
        areas = np.array([mask.area for mask in ranked], dtype=np.float64)
        own_areas = np.array([mask.area for mask in truth], dtype=np.float64)
        return cls(
            iou=_ious(ranked, truth, areas, own_areas, crowd),
            scores=np.asarray(scores, dtype=np.float64)[order],
            areas=areas,
            true_areas=own_areas if true_areas is None else np.asarray(true_areas, dtype=np.float64),
            is_crowd=crowd,
        )


def average_precision(
    images: Sequence[ScoredImage],
    *,
    size_px2: tuple[float, float] = (0, np.inf),
    most: int = 100,
    thresholds: NDArray[np.float64] = IOU_THRESHOLDS,
) -> float:
    """Mean over IoU thresholds of the area under precision over recall, of one category; NaN without true objects.

    Parameters
    ----------
    images : sequence of ScoredImage
    size_px2 : (float, float)
        Only objects of this area count.
    most : int
        Only so many detections of each image, the best.
    thresholds : ndarray of shape (T,)
    """
    taken, ignored, scores, true_count = _outcomes(images, size_px2, most, thresholds)
    if true_count == 0:
        return NO_SCORE
    order = np.argsort(-scores, kind="stable")
    hits = (taken & ~ignored)[:, order].cumsum(axis=1)
    misses = (~taken & ~ignored)[:, order].cumsum(axis=1)
    return float(np.mean([_area_under(*rows, true_count) for rows in zip(hits, misses, strict=True)]))


def average_recall(
    images: Sequence[ScoredImage],
    *,
    size_px2: tuple[float, float] = (0, np.inf),
    most: int = 1000,
    thresholds: NDArray[np.float64] = IOU_THRESHOLDS,
) -> float:
    """Part of the true objects that the `most` best detections of each image find, mean over IoU thresholds.

    NaN without true objects; parameters as for :func:`average_precision`.
    """
    taken, ignored, _, true_count = _outcomes(images, size_px2, most, thresholds)
    if true_count == 0:
        return NO_SCORE
    return float(((taken & ~ignored).sum(axis=1) / true_count).mean())


def mean_over_categories(values: Mapping[str, float]) -> float:
    """The mean of those that are known, as in COCO; NaN of none."""
    known = [value for value in values.values() if not np.isnan(value)]
    return float(np.mean(known)) if known else NO_SCORE


def _outcomes(
    images: Sequence[ScoredImage], size_px2: tuple[float, float], most: int, thresholds: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64], int]:
    """(T, D) taken, (T, D) ignored, (D,) scores of all detections, and the number of true objects that count."""
    low, high = size_px2
    taken, ignored, true_count = [], [], 0
    for image in images:
        is_out = image.is_crowd | (image.true_areas < low) | (image.true_areas > high)
        true_count += int((~is_out).sum())
        partner = _partners(image.iou[:most], is_out, image.is_crowd, thresholds)  # (T, D)
        has_one = partner >= 0
        of_ignored = has_one & np.append(is_out, False)[partner]
        too = (image.areas[:most] < low) | (image.areas[:most] > high)
        taken.append(has_one)
        ignored.append(of_ignored | (~has_one & too))
    if not images:
        empty = np.zeros((len(thresholds), 0), dtype=bool)
        return empty, empty, np.zeros(0), 0
    scores = np.concatenate([image.scores[:most] for image in images])
    return np.concatenate(taken, axis=1), np.concatenate(ignored, axis=1), scores, true_count


def _partners(
    iou: NDArray[np.float64], is_out: NDArray[np.bool_], is_crowd: NDArray[np.bool_], thresholds: NDArray[np.float64]
) -> NDArray[np.intp]:
    """(T, D): the true object that each detection takes at each threshold, or -1."""
    partner = np.full((len(thresholds), len(iou)), -1, dtype=np.intp)
    for t, threshold in enumerate(thresholds):
        free = np.ones(iou.shape[1], dtype=bool)
        for d, row in enumerate(iou):
            chosen = _best_of(row, free & ~is_out, threshold)
            if chosen < 0:  # one that is to be ignored is only taken where none that counts fits
                chosen = _best_of(row, (free | is_crowd) & is_out, threshold)
            if chosen >= 0:
                partner[t, d] = chosen
                free[chosen] = False
    return partner


def _best_of(iou: NDArray[np.float64], allowed: NDArray[np.bool_], threshold: float) -> int:
    candidates = np.flatnonzero(allowed & (iou >= min(threshold, 1 - 1e-10)))
    if not len(candidates):
        return -1
    # Among equals the last, as in the published program.
    return int(candidates[len(candidates) - 1 - iou[candidates][::-1].argmax()])


def _area_under(hits: NDArray[np.int64], misses: NDArray[np.int64], true_count: int) -> float:
    """Precision, made not ascending, read at 101 recalls."""
    recall = hits / true_count
    precision = hits / np.maximum(hits + misses, np.finfo(float).eps)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(falling, 0.0)[at].mean())


def _ious(
    found: Sequence[Mask],
    truth: Sequence[Mask],
    areas: NDArray[np.float64],
    true_areas: NDArray[np.float64],
    crowd: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """(D, G); with a crowd it is the part of the detection that lies in it."""
    rows, columns = np.indices((len(found), len(truth)))
    pairs = np.stack([rows.ravel(), columns.ravel() + len(found)], axis=1)
    shared = intersection_areas([*found, *truth], pairs).reshape(len(found), len(truth))
    union = np.where(crowd, areas[:, None], areas[:, None] + true_areas - shared)
    return shared / np.maximum(union, 1)
