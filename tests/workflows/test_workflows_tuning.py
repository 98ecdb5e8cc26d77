"""Limits proposed from a few good objects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.errors import ConfigError
from napari_sam.workflows.tuning import propose_limits


def features(n: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "label": np.arange(1, n + 1, dtype=np.uint64),
        "predicted_iou": rng.uniform(0.2, 1.02, n),  # the model's own rating may be above 1
        "stability_score": rng.uniform(0.0, 1.0, n),
        "area_px": rng.integers(1, 100_000, n),
    }


@given(st.integers(0, 10_000), st.sets(st.integers(1, 30), min_size=3, max_size=10))
def test_every_example_passes_whatever_the_objects_are(seed, good):
    table = features(30, seed)
    proposal = propose_limits(table, good)
    kept = proposal.limits.keeps(table)
    assert kept[[label - 1 for label in good]].all()
    assert (proposal.kept, proposal.total) == (np.count_nonzero(kept), 30)


@given(st.integers(0, 10_000), st.permutations(range(1, 8)))
def test_the_order_of_the_clicks_does_not_matter(seed, clicks):
    table = features(30, seed)
    assert propose_limits(table, clicks) == propose_limits(table, sorted(clicks))


def test_the_limits_go_beyond_the_examples_by_their_mean_distance():
    table = {
        "label": np.arange(1, 6),
        "predicted_iou": np.array([0.8, 0.85, 0.9, 0.74, 0.76]),
        "stability_score": np.array([0.9, 0.9, 0.9, 0.9, 0.9]),
        "area_px": np.array([100, 200, 400, 49, 51]),
    }
    proposal = propose_limits(table, [1, 2, 3])
    limits = proposal.limits
    assert limits.min_predicted_iou == pytest.approx(0.75, abs=0.001)
    assert limits.min_stability_score == pytest.approx(0.9, abs=0.001)
    assert (limits.min_area_px, limits.max_area_px) == (50, 800)
    assert proposal.kept == 4  # without the fourth, which the model is less sure of and which is too small


def test_specks_and_clumps_go_when_the_examples_are_alike():
    table = {
        "label": np.arange(1, 9),
        "predicted_iou": np.full(8, 0.9),
        "stability_score": np.full(8, 0.9),
        "area_px": np.array([300, 320, 310, 330, 305, 12, 2400, 315]),
    }
    proposal = propose_limits(table, [1, 2, 3, 4])
    assert table["label"][proposal.limits.keeps(table)].tolist() == [1, 2, 3, 4, 5, 8]
    assert "keeps 6 of 8 objects" in proposal.as_text()


@given(st.integers(0, 10_000))
def test_one_more_example_within_their_range_never_widens_the_limits(seed):
    table = features(12, seed)
    for name in ("predicted_iou", "stability_score", "area_px"):
        table[name][4] = np.median(table[name][:4])
    few, more = propose_limits(table, [1, 2, 3, 4]).limits, propose_limits(table, [1, 2, 3, 4, 5]).limits
    assert more.min_predicted_iou >= few.min_predicted_iou
    assert more.min_stability_score >= few.min_stability_score
    assert more.min_area_px >= few.min_area_px
    assert more.max_area_px <= few.max_area_px


def test_too_few_examples_are_counted_and_a_label_twice_counts_once():
    with pytest.raises(ConfigError, match="at least 3 good objects, got 2; ten are plenty"):
        propose_limits(features(9, 0), [4, 5, 5])


def test_a_label_that_is_no_object_is_named():
    with pytest.raises(ConfigError, match="no object of the result has the label 77"):
        propose_limits(features(9, 0), [1, 2, 77])
