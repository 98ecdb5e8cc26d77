"""Matching of instance labels against a plain oracle, and figures with known answers."""

from __future__ import annotations

import itertools

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from skimage.metrics import contingency_table

from napari_sam.errors import TrainingError
from napari_sam.evaluation import (
    IOU_THRESHOLDS,
    find_overlaps,
    match,
    match_all,
    mean_segmentation_accuracy,
)


def plain_iou(truth, found):
    """IoU of every pair by the definition: {(true label, found label): iou}."""
    ids_true, ids_found = (sorted(set(np.unique(a).tolist()) - {0}) for a in (truth, found))
    return {
        (i, j): np.sum((truth == i) & (found == j)) / np.sum((truth == i) | (found == j))
        for i, j in itertools.product(ids_true, ids_found)
    }


def plain_matches(truth, found, threshold):
    """Size of the largest one-to-one matching, by trying all (few objects only)."""
    good = [pair for pair, iou in plain_iou(truth, found).items() if iou >= threshold]
    for size in range(len(good), 0, -1):
        for chosen in itertools.combinations(good, size):
            if len({i for i, _ in chosen}) == len({j for _, j in chosen}) == size:
                return size
    return 0


@pytest.mark.parametrize("seed", range(12))
def test_matching_agrees_with_trying_all_matchings(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, (6, 6))
    found = np.where(rng.random((6, 6)) < 0.7, truth, rng.integers(0, 4, (6, 6)))
    overlaps = find_overlaps(truth, found)
    for threshold in (0.1, 0.3, 0.5, 0.75):
        m = match(overlaps, threshold)
        expected = plain_matches(truth, found, threshold)
        assert m.true_positives == expected
        assert m.false_negatives == len(set(np.unique(truth)) - {0}) - expected
        assert m.false_positives == len(set(np.unique(found)) - {0}) - expected


@pytest.mark.parametrize("seed", range(5))
def test_pairwise_iou_agrees_with_the_definition(seed):
    rng = np.random.default_rng(seed)
    truth, found = rng.choice([0, 3, 7, 9], (2, 8, 8))
    overlaps = find_overlaps(truth, found)
    ids_true, ids_found = (np.setdiff1d(np.unique(a), 0) for a in (truth, found))
    ours = {
        (int(ids_true[i]), int(ids_found[j])): iou
        for i, j, iou in zip(overlaps.true_index, overlaps.found_index, overlaps.iou, strict=True)
    }
    assert ours == pytest.approx({pair: iou for pair, iou in plain_iou(truth, found).items() if iou > 0})


def test_equal_labels_score_one_whatever_their_numbers():
    truth = np.zeros((10, 10), int)
    truth[1:4, 1:4], truth[6:9, 5:9] = 1, 2
    found = np.select([truth == 1, truth == 2], [70, 5])
    matchings = match_all(find_overlaps(truth, found))
    assert mean_segmentation_accuracy(matchings) == 1
    assert matchings[0.5].panoptic_quality == matchings[0.95].f1 == 1


def test_a_missed_an_invented_and_a_half_right_object_are_counted_by_hand():
    truth, found = np.zeros((2, 10, 10), int)
    truth[0:4, 0:4], truth[6:9, 0:3] = 1, 2
    found[0:4, 0:3], found[6:9, 7:9] = 1, 2  # IoU 12 / 16; one missed, one invented
    m = match_all(find_overlaps(truth, found))
    assert [m[t].average_precision for t in (0.5, 0.75, 0.8)] == pytest.approx([1 / 3, 1 / 3, 0])
    assert m[0.5].panoptic_quality == pytest.approx(0.75 * 0.5)
    assert (m[0.5].precision, m[0.5].recall, m[0.5].f1) == (0.5, 0.5, 0.5)
    assert mean_segmentation_accuracy(m) == pytest.approx(6 / 10 / 3)


@pytest.mark.parametrize(("found_value", "expected"), [(0, 1.0), (1, 0.0)], ids=["nothing found", "something found"])
def test_an_image_without_objects_scores_one_only_if_nothing_is_found(found_value, expected):
    m = match(find_overlaps(np.zeros((4, 4), int), np.full((4, 4), found_value)), 0.5)
    assert m.average_precision == m.panoptic_quality == expected


def test_labels_of_different_shapes_are_refused():
    with pytest.raises(TrainingError, match=r"same shape, got \(2, 2\) and \(3, 3\)"):
        find_overlaps(np.zeros((2, 2), int), np.zeros((3, 3), int))


def scores_by_definition(truth, found, threshold):
    """Precision, recall, AP, F1 and PQ from a full IoU table and scipy's assignment, as StarDist states them."""
    true_ids, found_ids = (np.setdiff1d(np.unique(a), 0) for a in (truth, found))
    table = np.array(
        [
            [np.sum((truth == i) & (found == j)) / np.sum((truth == i) | (found == j)) for j in found_ids]
            for i in true_ids
        ]
    )
    good = table >= threshold
    chosen = linear_sum_assignment(-(good.astype(float) + table / (2 * min(table.shape))))
    kept = good[chosen]
    tp = int(kept.sum())
    fp, fn = len(found_ids) - tp, len(true_ids) - tp
    return {
        "precision": tp / (tp + fp),
        "recall": tp / (tp + fn),
        "average_precision": tp / (tp + fp + fn),
        "f1": 2 * tp / (2 * tp + fp + fn),
        "panoptic_quality": table[chosen][kept].sum() / (tp + fp / 2 + fn / 2),
    }


def cells(seed, size=(48, 56)):
    """Regions of the nearest of some points, with gaps; and the same from points that moved a little."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, size, (14, 2))
    grid = np.stack(np.indices(size), axis=-1)
    for moved in (places, places + rng.normal(0, 1.5, places.shape)):
        distance = np.linalg.norm(grid[:, :, None] - moved, axis=-1)
        yield np.where(distance.min(axis=-1) < rng.uniform(4, 9), distance.argmin(axis=-1) * 3 + 1, 0)


@pytest.mark.parametrize("seed", range(8))
def test_all_scores_agree_with_their_definitions_at_every_threshold(seed):
    truth, found = cells(seed)
    overlaps = find_overlaps(truth, found)
    for threshold in (0.3, *IOU_THRESHOLDS):
        matching = match(overlaps, threshold)
        for name, expected in scores_by_definition(truth, found, threshold).items():
            assert getattr(matching, name) == pytest.approx(expected), (name, threshold)


def test_the_overlap_table_agrees_with_skimage():
    truth, found = cells(1)
    true_ids, found_ids = (np.setdiff1d(np.unique(a), 0) for a in (truth, found))
    table = contingency_table(truth, found).toarray()
    union = table.sum(axis=1)[:, None] + table.sum(axis=0)[None] - table
    expected = (table / np.maximum(union, 1))[np.ix_(true_ids, found_ids)]
    overlaps = find_overlaps(truth, found)
    ours = np.zeros((overlaps.n_true, overlaps.n_found))
    ours[overlaps.true_index, overlaps.found_index] = overlaps.iou
    assert ours == pytest.approx(expected)


@given(
    hnp.arrays(np.int64, (5, 7), elements=st.integers(0, 4)), hnp.arrays(np.int64, (5, 7), elements=st.integers(0, 4))
)
def test_true_and_found_change_places_with_precision_and_recall(truth, found):
    ours, swapped = match_all(find_overlaps(truth, found)), match_all(find_overlaps(found, truth))
    for threshold in IOU_THRESHOLDS:
        a, b = ours[threshold], swapped[threshold]
        assert (a.precision, a.recall) == (b.recall, b.precision)
        assert a.average_precision == b.average_precision
        assert a.panoptic_quality == pytest.approx(b.panoptic_quality)
    values = [m.average_precision for m in ours.values()]
    assert values == sorted(values, reverse=True)
