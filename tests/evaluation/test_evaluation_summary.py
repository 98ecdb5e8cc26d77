"""Figures with known answers, and intervals against scipy's bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from napari_sam.evaluation import (
    IOU_THRESHOLDS,
    ObjectScores,
    bootstrap_interval,
    clicks_to,
    find_overlaps,
    match_all,
    summarise_automatic,
    summarise_boxes,
    summarise_clicks,
    summarise_points,
)
from napari_sam.geometry import Box


def scored(*clicks, oracle=1.0, random=(), box=0.5, noised=0.4):
    return ObjectScores(1, 100, Box(0, 0, 10, 10), tuple(clicks), oracle, tuple(random), box, noised)


@pytest.mark.parametrize(
    ("clicks", "expected"),
    [((0.2, 0.86, 0.84, 0.95), (2, 4)), ((0.9,), (1, 1)), ((0.5,) * 20, (20, 20)), ((0.85, 0.2), (1, 20))],
    ids=["second and fourth", "at once", "never", "lost again"],
)
def test_clicks_are_counted_until_the_goal_is_reached_first(clicks, expected):
    assert (clicks_to(scored(*clicks), 0.85), clicks_to(scored(*clicks), 0.90)) == expected


def test_the_number_of_clicks_is_a_mean_and_objects_that_fail_count_twenty():
    figures = summarise_clicks([[scored(0.2, 0.86, 0.95), scored(*[0.5] * 20)], [scored(0.99)]])
    assert figures["noc85"] == pytest.approx((2 + 20 + 1) / 3)
    assert figures["noc90"] == pytest.approx((3 + 20 + 1) / 3)
    assert figures["failed85"] == figures["failed90"] == pytest.approx(1 / 3)
    assert figures["ci95_85"][0] < figures["noc85"] < figures["ci95_85"][1]


def test_points_are_means_over_all_objects_after_the_reported_clicks():
    images = [[scored(*np.linspace(0.1, 0.9, 9), oracle=0.8)], [scored(*[0.5] * 9, oracle=0.6)] * 3]
    figures = summarise_points(images)
    assert list(figures) == ["1", "2", "3", "5", "9"]
    assert figures["1"]["miou"] == pytest.approx((0.1 + 3 * 0.5) / 4)
    assert figures["9"]["miou"] == pytest.approx((0.9 + 3 * 0.5) / 4)
    assert figures["1"]["miou_oracle"] == pytest.approx((0.8 + 3 * 0.6) / 4)
    assert "miou_random" not in figures["1"]
    assert figures["2"]["ci95"] == pytest.approx([0.2, 0.5])  # the means of the two images


def test_random_clicks_are_means_over_objects_and_draws():
    images = [[scored(0.9, 0.9, random=((0.2, 0.3), (0.4, 0.5)))], [scored(0.9, 0.9, random=((0.6, 0.7), (0.8, 0.9)))]]
    figures = summarise_points(images)
    assert [figures[n]["miou_random"] for n in ("1", "2")] == pytest.approx([0.5, 0.6])
    assert figures["1"]["ci95_random"] == pytest.approx([0.3, 0.7])


def test_exact_and_noised_boxes_are_told_apart():
    figures = summarise_boxes([[scored(box=0.9, noised=0.7)], [scored(box=0.7, noised=0.3)]])
    assert [figures[k] for k in ("miou", "miou_noised")] == pytest.approx([0.8, 0.5])
    assert figures["ci95"] == pytest.approx([0.7, 0.9])
    assert figures["ci95_noised"] == pytest.approx([0.3, 0.7])


def test_nothing_measured_gives_no_figures():
    assert summarise_points([]) == summarise_boxes([[]]) == summarise_clicks([[], []]) == {}
    assert summarise_automatic([], seconds=0, megapixels=0) == {}


def test_automatic_figures_are_means_over_images_and_pooled_over_objects():
    truth = np.eye(4, dtype=int) * np.arange(1, 5)
    right = match_all(find_overlaps(truth, truth))
    wrong = match_all(find_overlaps(np.ones((2, 2), int), np.zeros((2, 2), int)))
    figures = summarise_automatic([right, wrong], seconds=3.0, megapixels=2.0)
    assert figures["ap"]["0.50"] == figures["msa"] == figures["f1"] == figures["recall"] == 0.5
    assert figures["precision"] == 1  # nothing found is nothing wrong
    assert figures["count_error"] == 0.5
    assert figures["pooled"]["msa"] == pytest.approx(4 / 5)
    assert figures["seconds_per_megapixel"] == 1.5
    assert list(figures["ap"]) == list(figures["ap_ci95"]) == [f"{t:.2f}" for t in IOU_THRESHOLDS]
    assert figures["msa_ci95"] == [0, 1]


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_agrees_with_scipys_bootstrap(seed):
    values = np.random.default_rng(seed).beta(5, 2, 60)
    expected = bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    assert bootstrap_interval(values, rounds=4000) == pytest.approx([expected.low, expected.high], abs=0.006)


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_over_images_agrees_with_scipys_bootstrap_of_a_ratio(seed):
    rng = np.random.default_rng(seed)
    images = [rng.normal(rng.uniform(0.3, 0.8), 0.05, rng.integers(1, 12)) for _ in range(40)]
    sums, counts = (np.array([f(image) for image in images]) for f in (np.sum, len))
    expected = bootstrap(
        (sums, counts),
        lambda s, n, axis=-1: s.sum(axis) / n.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=4000,
        rng=1,
    ).confidence_interval
    numbers = np.repeat(np.arange(40), counts)
    ours = bootstrap_interval(np.concatenate(images), numbers, rounds=4000)
    assert ours == pytest.approx([expected.low, expected.high], abs=0.008)
    alone = bootstrap_interval(np.concatenate(images))
    assert alone[1] - alone[0] < ours[1] - ours[0]  # objects of one image are alike: fewer independent values


def test_the_interval_holds_the_mean_and_shrinks_with_more_values():
    rng = np.random.default_rng(3)
    few, many = rng.random(20), rng.random(2000)
    (a, b), (c, d) = bootstrap_interval(few), bootstrap_interval(many)
    assert a < few.mean() < b
    assert c < 0.5 < d
    assert d - c < (b - a) / 5


def test_a_single_image_gives_an_interval_over_its_objects_and_a_single_value_none():
    assert bootstrap_interval([0.2, 0.4, 0.6], [7, 7, 7]) == bootstrap_interval([0.2, 0.4, 0.6])
    assert bootstrap_interval([0.2]) is None
    assert bootstrap_interval([]) is None
