"""Edge maps against human boundaries: the protocol of BSDS500 (Martin et al. 2004, Arbelaez et al. 2011)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree
from skimage.morphology import thin

from napari_sam.errors import TrainingError
from napari_sam.evaluation.protocols import MAX_DISTANCE

STEPS_BETWEEN = 100
"""Between two thresholds precision and recall are taken as straight lines of so many points, as published."""
RECALLS = np.linspace(0, 1, 101)
"""Where precision is read for the average precision."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class BoundaryCounts:
    """What one image came to at T thresholds; arrays of shape (T,), int64."""

    true_matched: NDArray[np.int64]
    """True boundary pixels that were found, of all annotators together."""
    true_total: NDArray[np.int64]
    """True boundary pixels of all annotators together; the same at each threshold."""
    found_matched: NDArray[np.int64]
    """Found pixels that match the boundary of at least one annotator."""
    found_total: NDArray[np.int64]

    def __add__(self, other: BoundaryCounts) -> BoundaryCounts:
        return BoundaryCounts(
            self.true_matched + other.true_matched,
            self.true_total + other.true_total,
            self.found_matched + other.found_matched,
            self.found_total + other.found_total,
        )

    @property
    def recall(self) -> NDArray[np.float64]:
        """(T,); 0 where there is nothing to be found."""
        return self.true_matched / np.maximum(self.true_total, 1)

    @property
    def precision(self) -> NDArray[np.float64]:
        """(T,); 0 where nothing was found."""
        return self.found_matched / np.maximum(self.found_total, 1)

    def at(self, index: int) -> BoundaryCounts:
        """The counts at one threshold alone."""
        part = slice(index, index + 1)
        return BoundaryCounts(
            self.true_matched[part], self.true_total[part], self.found_matched[part], self.found_total[part]
        )


@dataclass(frozen=True, slots=True)
class BoundaryScores:
    """The figures of the BSDS benchmark over a set of images."""

    ods: float
    """Best F-measure with one threshold for all images ("optimal dataset scale")."""
    ods_threshold: float
    ois: float
    """F-measure with the best threshold for each image ("optimal image scale")."""
    ap: float
    """Area under the curve of precision over recall."""
    r50: float
    """Recall at a precision of one half, or at the lowest precision reached where that is higher."""


def count_boundaries(
    edges: NDArray[np.floating],
    truths: Sequence[Flags],
    thresholds: NDArray[np.float64],
    *,
    max_distance: float = MAX_DISTANCE,
) -> BoundaryCounts:
    """Match the edges of one image with the boundaries that annotators drew, at each threshold.

    At a threshold the edge map becomes lines one pixel thin, which are matched with each annotator's boundary: one
    pixel with one, as many pairs as can be, none of them further apart than the tolerance.

    Parameters
    ----------
    edges : ndarray of shape (H, W)
        In [0, 1].
    truths : sequence of ndarray of shape (H, W), bool
        One boundary map an annotator.
    thresholds : ndarray of shape (T,)
        An edge is where `edges` is at least this.
    max_distance : float
        As part of the image's diagonal.

    Raises
    ------
    TrainingError
        If there is no annotator or a shape differs.
    """
    if not truths or any(truth.shape != edges.shape for truth in truths):
        raise TrainingError(
            f"boundaries of at least one annotator, as large as the edge map {edges.shape}, are wanted; got "
            f"{[truth.shape for truth in truths]}."
        )
    reach = max_distance * float(np.hypot(*edges.shape))
    places = [np.argwhere(truth) for truth in truths]
    rows = [_counts_at(thin(edges >= threshold), places, reach) for threshold in thresholds]
    true_total = np.full(len(rows), sum(map(len, places)), dtype=np.int64)
    found_total = np.array([total for _, _, total in rows], dtype=np.int64)
    return BoundaryCounts(
        np.array([matched for matched, _, _ in rows], dtype=np.int64),
        true_total,
        np.array([matched for _, matched, _ in rows], dtype=np.int64),
        found_total,
    )


def match_boundaries(
    found: NDArray[np.int64], truth: NDArray[np.int64], reach: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The largest one-to-one matching of pixels that lie at most `reach` apart.

    The benchmark's own program minimises the sum of distances, where a pixel without a partner costs far more than any
    distance: it, too, makes as many pairs as can be made. Counts are the same; which of several pixels beside one
    another is matched may differ.

    Parameters
    ----------
    found : ndarray of shape (N, 2), int
    truth : ndarray of shape (M, 2), int
        (row, column).
    reach : float
        In pixels.

    Returns
    -------
    (ndarray of shape (K,), ndarray of shape (K,))
        Indices of the pairs into `found` and into `truth`.
    """
    nothing = np.empty(0, dtype=np.intp)
    if not len(found) or not len(truth):
        return nothing, nothing
    near = cKDTree(found).sparse_distance_matrix(cKDTree(truth), reach, output_type="ndarray")
    order = np.lexsort((near["v"], near["i"]))  # the nearest is tried first
    i, j = near["i"][order], near["j"][order]
    starts = np.searchsorted(i, np.arange(len(found) + 1))
    graph = csr_array((np.ones(len(j), dtype=np.int8), j, starts), shape=(len(found), len(truth)))
    partner = maximum_bipartite_matching(graph, perm_type="column")  # (N,), -1 for none
    matched = np.flatnonzero(partner >= 0)
    return matched, partner[matched].astype(np.intp)


def score_boundaries(images: Sequence[BoundaryCounts], thresholds: NDArray[np.float64]) -> BoundaryScores:
    """The benchmark's figures from the counts of all images.

    Raises
    ------
    TrainingError
        If there is no image.
    """
    if not images:
        raise TrainingError("there is no image to score; give at least one with its boundaries.")
    total = sum(images[1:], images[0])
    best, threshold = _best_between(total.precision, total.recall, thresholds)
    at_best = [counts.at(int(_f_measure(counts.precision, counts.recall).argmax())) for counts in images]
    own = sum(at_best[1:], at_best[0])
    precision, recall = _curve(total)
    return BoundaryScores(
        ods=best,
        ods_threshold=threshold,
        ois=float(_f_measure(own.precision, own.recall)[0]),
        ap=_average_precision(precision, recall),
        r50=_recall_at_half(precision, recall),
    )


def _counts_at(found: Flags, truths: Sequence[NDArray[np.int64]], reach: float) -> tuple[int, int, int]:
    """(true matched, found matched, found) of one thin map; `truths` are places (M, 2) of each annotator."""
    places = np.argwhere(found)
    is_matched = np.zeros(len(places), dtype=bool)
    true_matched = 0
    for truth in truths:
        of_found, of_truth = match_boundaries(places, truth, reach)
        is_matched[of_found] = True
        true_matched += len(of_truth)
    return true_matched, int(is_matched.sum()), len(places)


def _f_measure(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> NDArray[np.float64]:
    both = precision + recall
    return np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)


def _best_between(
    precision: NDArray[np.float64], recall: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> tuple[float, float]:
    """The best F-measure and its threshold, also between two thresholds."""
    steps = np.arange(len(thresholds))
    fine = np.linspace(0, len(steps) - 1, max(1, (len(steps) - 1) * STEPS_BETWEEN + 1))
    f = _f_measure(np.interp(fine, steps, precision), np.interp(fine, steps, recall))
    best = int(f.argmax())
    return float(f[best]), float(np.interp(fine[best], steps, thresholds))


def _curve(counts: BoundaryCounts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision over ascending recall, where anything was found at all; of equal recalls the best precision."""
    something = counts.found_total > 0
    precision, recall = counts.precision[something], counts.recall[something]
    order = np.lexsort((-precision, recall))
    first = np.unique(recall[order], return_index=True)[1]
    return precision[order][first], recall[order][first]


def _average_precision(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> float:
    """Mean precision over recalls of 0 to 1; recalls that no threshold gives count 0, as published."""
    if not len(recall):
        return 0.0
    return float(np.interp(RECALLS, recall, precision, left=0.0, right=0.0).sum() / (len(RECALLS) - 1))


def _recall_at_half(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> float:
    if not len(recall):
        return 0.0
    # From low recall to high precision falls, but for small waves: the last crossing counts.
    reached = np.flatnonzero(precision >= 0.5)
    if not len(reached):
        return 0.0
    last = int(reached[-1])
    if last + 1 == len(recall):
        return float(recall[last])
    share = (precision[last] - 0.5) / (precision[last] - precision[last + 1])
    return float(recall[last] + share * (recall[last + 1] - recall[last]))


def label_boundaries(labels: NDArray[np.integer]) -> Flags:
    """Where a label image (H, W) changes to the right, below or across: lines one pixel wide, as BSDS draws them."""
    boundary = np.zeros(labels.shape, dtype=bool)
    boundary[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    boundary[:-1] |= labels[:-1] != labels[1:]
    boundary[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    thinned: Flags = thin(boundary)
    return thinned
