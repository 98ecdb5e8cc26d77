"""Which found object is which true one: intersection over union of instance labels, and what is counted from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from napari_sam.errors import TrainingError

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""0.50, 0.55, ... 0.95: what the mean over thresholds is taken of."""


@dataclass(frozen=True, slots=True)
class Overlaps:
    """The pairs of a true and a found object that share pixels."""

    n_true: int
    n_found: int
    true_index: NDArray[np.intp]
    """(K,) which true object, 0 to n_true - 1, in the order of their labels."""
    found_index: NDArray[np.intp]
    """(K,)"""
    iou: NDArray[np.float64]
    """(K,)"""

    def best_iou(self) -> NDArray[np.float64]:
        """For each true object the IoU of the found one that fits best, (n_true,); 0 where nothing overlaps."""
        best = np.zeros(self.n_true)
        np.maximum.at(best, self.true_index, self.iou)
        return best


def find_overlaps(truth: NDArray[np.integer], found: NDArray[np.integer]) -> Overlaps:
    """Overlaps of two label images of equal shape; 0 is background.

    Raises
    ------
    TrainingError
        If the shapes differ.
    """
    if truth.shape != found.shape:
        raise TrainingError(f"true and found labels must have the same shape, got {truth.shape} and {found.shape}.")
    true_ids, true_of = np.unique(truth, return_inverse=True)
    found_ids, found_of = np.unique(found, return_inverse=True)
    pairs = true_of.ravel().astype(np.int64) * len(found_ids) + found_of.ravel()
    codes, shared = np.unique(pairs, return_counts=True)
    i, j = np.divmod(codes, len(found_ids))
    true_area = np.bincount(true_of.ravel(), minlength=len(true_ids))
    found_area = np.bincount(found_of.ravel(), minlength=len(found_ids))
    objects = (true_ids[i] != 0) & (found_ids[j] != 0)
    i, j, shared = i[objects], j[objects], shared[objects]
    iou = shared / (true_area[i] + found_area[j] - shared)
    # Background comes first where it is there at all, since labels are not negative.
    has_true, has_found = int(true_ids[0] == 0), int(found_ids[0] == 0)
    return Overlaps(len(true_ids) - has_true, len(found_ids) - has_found, i - has_true, j - has_found, iou)


@dataclass(frozen=True, slots=True)
class Matching:
    """How many objects of one image were found at one IoU threshold."""

    true_positives: int
    false_positives: int
    false_negatives: int
    matched_iou: float
    """Sum of the IoU of the matched pairs."""

    @property
    def true_count(self) -> int:
        """True objects of the image."""
        return self.true_positives + self.false_negatives

    @property
    def found_count(self) -> int:
        """Found objects of the image."""
        return self.true_positives + self.false_positives

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN), the "AP" of the 2018 Data Science Bowl, StarDist and Cellpose; 1 where nothing is."""
        total = self.true_positives + self.false_positives + self.false_negatives
        return self.true_positives / total if total else 1.0

    @property
    def precision(self) -> float:
        """Part of the found objects that are true; 1 where none was found."""
        return self.true_positives / self.found_count if self.found_count else 1.0

    @property
    def recall(self) -> float:
        """Part of the true objects that were found; 1 where there are none."""
        return self.true_positives / self.true_count if self.true_count else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / total if total else 1.0

    @property
    def panoptic_quality(self) -> float:
        """Mean IoU of the matched pairs times F1 (Kirillov et al. 2019)."""
        return self.matched_iou / self.true_positives * self.f1 if self.true_positives else float(self.f1 == 1.0)

    def __add__(self, other: Matching) -> Matching:
        return Matching(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
            self.matched_iou + other.matched_iou,
        )


def match(overlaps: Overlaps, threshold: float) -> Matching:
    """The largest one-to-one matching of pairs with an IoU of `threshold` or more; among equals that of largest IoU."""
    good = overlaps.iou >= threshold
    i, j, iou = overlaps.true_index[good], overlaps.found_index[good], overlaps.iou[good]
    if len(np.unique(i)) < len(i) or len(np.unique(j)) < len(j):
        # Only at thresholds up to 0.5 can one object fit two.
        rows, columns = np.unique(i, return_inverse=True), np.unique(j, return_inverse=True)
        gain = np.zeros((len(rows[0]), len(columns[0])))
        gain[rows[1], columns[1]] = 1 + iou / (2 * len(i))
        chosen = linear_sum_assignment(gain, maximize=True)
        taken = gain[chosen] > 0
        count, total = int(taken.sum()), float(((gain[chosen][taken] - 1) * 2 * len(i)).sum())
    else:
        count, total = len(i), float(iou.sum())
    return Matching(count, overlaps.n_found - count, overlaps.n_true - count, total)


def match_all(overlaps: Overlaps, thresholds: Sequence[float] = IOU_THRESHOLDS) -> dict[float, Matching]:
    """:func:`match` at each threshold."""
    return {threshold: match(overlaps, threshold) for threshold in thresholds}


def mean_segmentation_accuracy(matchings: Mapping[float, Matching]) -> float:
    """Mean over the thresholds of TP / (TP + FP + FN): "mSA" in micro-sam's tables."""
    return float(np.mean([m.average_precision for m in matchings.values()]))
