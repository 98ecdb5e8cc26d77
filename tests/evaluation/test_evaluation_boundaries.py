"""The BSDS protocol on cases whose answer is known, and against an assignment of all pixels at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from napari_sam.errors import ConfigError, TrainingError
from napari_sam.evaluation.boundaries import (
    BoundaryCounts,
    count_boundaries,
    label_boundaries,
    match_boundaries,
    score_boundaries,
)
from napari_sam.evaluation.protocols import boundary_thresholds

SIZE = (80, 80)
"""Its diagonal is 113 pixels: with a tolerance of 0.02 lines may lie two pixels apart."""
TWO_PX = 0.02


def line(row, start=10, stop=70):
    drawn = np.zeros(SIZE, dtype=bool)
    drawn[row, start:stop] = True
    return drawn


def counts_of(found, *truths, thresholds=(0.5,), max_distance=TWO_PX):
    return count_boundaries(found.astype(float), list(truths), np.array(thresholds), max_distance=max_distance)


def largest_assignment(found, truth, reach):
    """Pairs of the cheapest assignment in which a pixel without a partner costs far more than any distance."""
    distance = np.linalg.norm(found[:, None] - truth[None], axis=2)
    chosen = linear_sum_assignment(np.where(distance <= reach, distance, 1e6))
    return int((distance[chosen] <= reach).sum())


places = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=14, unique=True)


@settings(deadline=None)
@given(places, places, st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.2]))
def test_as_many_pixels_are_matched_as_the_cheapest_assignment_matches(found, truth, reach):
    a, b = (np.array(p, dtype=np.int64).reshape(-1, 2) for p in (found, truth))
    i, j = match_boundaries(a, b, reach)
    assert len(i) == (largest_assignment(a, b, reach) if len(a) and len(b) else 0)
    assert len(set(i.tolist())) == len(i)
    assert len(set(j.tolist())) == len(j)
    assert (np.linalg.norm(a[i] - b[j], axis=1) <= reach).all()


def test_a_map_equal_to_the_boundary_scores_1_in_everything():
    counts = counts_of(line(30), line(30), thresholds=boundary_thresholds(3))
    scores = score_boundaries([counts], boundary_thresholds(3))
    assert (scores.ods, scores.ois, scores.r50) == (1, 1, 1)
    assert counts.true_total.tolist() == counts.found_matched.tolist() == [60, 60, 60]


@pytest.mark.parametrize(("apart", "matched"), [(1, 60), (2, 60), (3, 0)])
def test_a_line_is_found_within_the_tolerance_only(apart, matched):
    counts = counts_of(line(30 + apart), line(30))
    assert counts.true_matched.tolist() == counts.found_matched.tolist() == [matched]


def test_one_true_pixel_is_matched_once_however_many_lie_near():
    counts = counts_of(line(29) | line(31), line(30))
    assert counts.true_matched.tolist() == [60]
    assert counts.found_matched.tolist() == [60]
    assert counts.found_total.tolist() == [120]
    assert counts.precision[0] == 0.5


def test_thick_edges_are_made_thin_before_they_are_counted():
    counts = counts_of(line(29) | line(30) | line(31), line(30))
    assert counts.found_total[0] == pytest.approx(60, abs=3)
    assert counts.precision[0] == 1


def test_found_pixels_may_match_any_annotator_but_each_annotator_is_to_be_found():
    counts = counts_of(line(20), line(20), line(50))
    assert (counts.true_matched[0], counts.true_total[0]) == (60, 120)
    assert (counts.found_matched[0], counts.found_total[0]) == (60, 60)


def test_ods_takes_one_threshold_for_all_images_and_ois_one_for_each():
    """Of two images, one is perfect at low thresholds only and the other at high ones only."""
    thresholds = boundary_thresholds(2)

    def counts(found_matched, found_total):
        true_total = np.array([100, 100])
        return BoundaryCounts(np.array(found_matched), true_total, np.array(found_matched), np.array(found_total))

    faint, noisy = counts([100, 0], [100, 0]), counts([100, 100], [300, 100])
    scores = score_boundaries([faint, noisy], thresholds)
    assert scores.ois == 1
    # At 1/3 of both: precision 200 / 400, recall 1. At 2/3: precision 1, recall 1/2. Both give 2/3; between them less
    # than the middle of a line of precision 3/4 and recall 3/4 cannot be had.
    assert scores.ods == pytest.approx(0.75)
    assert scores.ods_threshold == pytest.approx(0.5)


def test_r50_is_the_recall_where_precision_falls_below_one_half():
    thresholds = boundary_thresholds(3)
    counts = BoundaryCounts(
        true_matched=np.array([80, 60, 20]),
        true_total=np.array([100, 100, 100]),
        found_matched=np.array([80, 60, 20]),
        found_total=np.array([320, 80, 20]),
    )
    # Precision 0.25, 0.75, 1 at recalls 0.8, 0.6, 0.2: one half lies in the middle of the last piece.
    scores = score_boundaries([counts], thresholds)
    assert scores.r50 == pytest.approx(0.7)
    # Trapezoids from 0.2 to 0.6 and to 0.8, read at steps of 0.01 with both ends.
    recalls = np.arange(20, 81) / 100
    by_hand = np.interp(recalls, [0.2, 0.6, 0.8], [1, 0.75, 0.25]).sum() / 100
    assert scores.ap == pytest.approx(by_hand)


@pytest.mark.parametrize(("precision", "r50"), [([0.2, 0.3, 0.4], 0.0), ([0.6, 0.7, 0.8], 0.9)], ids=["below", "above"])
def test_r50_of_a_curve_that_never_crosses_one_half(precision, r50):
    recall = np.array([0.9, 0.6, 0.2])
    matched = (1000 * recall).astype(int)
    total = np.round(matched / np.array(precision)).astype(int)
    counts = BoundaryCounts(matched, np.full(3, 1000), matched, total)
    assert score_boundaries([counts], boundary_thresholds(3)).r50 == pytest.approx(r50)


def test_an_empty_map_scores_0_and_does_not_divide_by_it():
    counts = counts_of(np.zeros(SIZE), line(30))
    scores = score_boundaries([counts], np.array([0.5]))
    assert (scores.ods, scores.ois, scores.ap, scores.r50) == (0, 0, 0, 0)


def test_labels_become_lines_one_pixel_wide_between_regions():
    labels = np.zeros((20, 20), dtype=int)
    labels[:, 10:] = 7
    drawn = label_boundaries(labels)
    assert drawn[:, 9].sum() >= 18
    assert drawn.sum() <= 20


def test_the_published_thresholds():
    assert boundary_thresholds()[[0, 49, 98]] == pytest.approx([0.01, 0.5, 0.99])


def test_errors_say_what_came():
    with pytest.raises(TrainingError, match=r"as large as the edge map \(80, 80\).*\(4, 4\)"):
        counts_of(line(3), np.zeros((4, 4), dtype=bool))
    with pytest.raises(TrainingError, match="at least one annotator"):
        counts_of(line(3))
    with pytest.raises(TrainingError, match="no image to score"):
        score_boundaries([], boundary_thresholds())
    with pytest.raises(ConfigError, match="at least 1 threshold, got 0"):
        boundary_thresholds(0)
