"""Review: the order of the queue, random samples, and intervals against other formulas for the same thing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from annotate.annotate_scenes import new_session, rectangle
from napari_sam.annotate.objects import AnnotatedObject, ObjectPart, PlaneMask
from napari_sam.annotate.review import (
    Z_95,
    Place,
    PlaceCount,
    audit_places,
    audit_sample,
    objects_in,
    precision_of,
    recall_of,
    review_item,
    review_queue,
    wilson_interval,
)
from napari_sam.errors import AnnotationError
from napari_sam.geometry import Box

BOX = Box(0, 0, 4, 4)


def known(label, iou=0.9, stability=1.0, *, origin="prefilled", cut=False, verdict=None, box=BOX):
    part = ObjectPart((), box, box.area, predicted_iou=iou, stability_score=stability, unsure=cut)
    return AnnotatedObject(label, (part,), origin, verdict=verdict)


def by_label(*objects):
    return {each.label: each for each in objects}


def test_the_queue_begins_with_what_a_seam_cuts_then_with_what_is_doubtful():
    objects = by_label(
        known(1, 0.9),
        known(2, 0.6),
        known(3, 0.99, cut=True),
        known(4, 0.9, 0.5),
        known(5, 0.9),
        known(6, 0.3, cut=True),
    )
    assert [item.label for item in review_queue(objects)] == [6, 3, 4, 2, 1, 5]
    assert review_item(objects[4]).uncertainty == pytest.approx(1 - 0.9 * 0.5)


def test_the_queue_leaves_out_what_a_person_has_seen_unless_it_is_asked_for():
    objects = by_label(known(1, verdict="accepted"), known(2, origin="clicked"), known(3))
    assert [item.label for item in review_queue(objects)] == [3]
    assert {item.label for item in review_queue(objects, origins=("prefilled", "clicked"))} == {2, 3}
    assert {item.label for item in review_queue(objects, include_reviewed=True)} == {1, 3}


def test_an_object_of_a_stack_is_shown_in_its_most_doubtful_plane():
    parts = [ObjectPart((z,), BOX, 16, predicted_iou=iou, unsure=cut) for z, iou, cut in ((0, 0.9, 0), (1, 0.2, 0))]
    assert review_item(AnnotatedObject(1, tuple(parts), "prefilled")).plane == (1,)
    lost = ObjectPart((2,), BOX, 16, predicted_iou=0.8, unsure=True)
    assert review_item(AnnotatedObject(1, (*parts, lost), "prefilled")).plane == (2,)


def test_what_a_seam_cuts_is_known_after_prefilling_and_after_a_restart(tmp_path):
    journal = tmp_path / "journal.jsonl"
    with new_session(journal) as session:
        whole, cut = rectangle(0, 0, 3, 3, predicted_iou=0.5), rectangle(6, 6, 9, 9, predicted_iou=0.9)
        session.prefill([[PlaneMask((), whole, 0.5)], [PlaneMask((), cut, 0.9, unsure=True)]])
        before = review_queue(session.objects)
        image = session.image
    assert [item.label for item in before] == [2, 1]
    with type(session).resume(journal, image) as again:
        assert review_queue(again.objects) == before


@given(st.sets(st.integers(1, 999), min_size=1), st.integers(1, 50), st.integers(0, 5))
def test_a_sample_has_each_label_at_most_once_and_is_the_same_for_a_seed(labels, count, seed):
    sample = audit_sample(labels, count, seed)
    assert len(sample) == len(set(sample)) == min(count, len(labels))
    assert set(sample) <= labels
    assert sample == audit_sample(sorted(labels, reverse=True), count, seed)


def test_every_label_is_drawn_as_often_as_any_other():
    drawn = np.bincount([label for seed in range(600) for label in audit_sample(range(1, 11), 3, seed)], minlength=11)[
        1:
    ]
    assert stats.chisquare(drawn).pvalue > 0.01


def test_places_lie_in_the_image_and_everywhere_in_it():
    places = audit_places([(0,), (1,)], (40, 100), 300, 20, seed=1)
    assert all(Box(0, 0, 100, 40).contains_box(place.box) and place.box.size == (20, 20) for place in places)
    assert {place.plane for place in places} == {(0,), (1,)}
    starts = np.array([place.box.as_xyxy()[:2] for place in places])
    assert starts.min(axis=0).tolist() == [0, 0]
    assert starts.max(axis=0).tolist() == [80, 20]
    assert audit_places([()], (5, 6), 1, 99, seed=0)[0].box == Box(0, 0, 6, 5)


def test_an_object_belongs_to_the_place_its_middle_lies_in():
    objects = [known(1, box=Box(0, 0, 6, 6)), known(2, box=Box(8, 0, 14, 6)), known(3, verdict="rejected")]
    assert [each.label for each in objects_in(Place((), Box(0, 0, 8, 8)), objects)] == [1]
    assert objects_in(Place((3,), Box(0, 0, 8, 8)), objects) == []


def test_wilson_of_known_cases():
    # Newcombe (1998), table I: 81 of 263 and 15 of 148, without continuity correction.
    np.testing.assert_allclose(wilson_interval(81, 263), (0.2553, 0.3662), atol=5e-5)
    np.testing.assert_allclose(wilson_interval(15, 148), (0.0624, 0.1605), atol=5e-5)
    np.testing.assert_allclose(wilson_interval(0, 20), (0.0, Z_95**2 / (20 + Z_95**2)), atol=1e-12)
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 400), st.floats(0, 1))
def test_wilson_is_where_the_score_test_just_rejects(total, share):
    count = round(share * total)
    low, high = wilson_interval(count, total)
    found = stats.binomtest(count, total).proportion_ci(method="wilson")
    np.testing.assert_allclose((low, high), (found.low, found.high), atol=1e-9)
    assert 0 <= low <= count / total <= high <= 1

    def score(p):
        return (count / total - p) ** 2 * total - Z_95**2 * p * (1 - p)

    if 0 < count < total:
        assert optimize.brentq(score, 1e-12, count / total) == pytest.approx(low, abs=1e-6)


def test_precision_counts_what_was_accepted_as_it_was():
    verdicts = ["accepted"] * 18 + ["fixed", "rejected", None, None]
    found = precision_of(verdicts)
    assert (found.count, found.total, found.value) == (18, 20, 0.9)
    assert (found.low, found.high) == wilson_interval(18, 20)
    assert str(found) == "90.0% (69.9% to 97.2%; 18 of 20)"
    assert precision_of([None]) is None


def counts(*rows):
    return [PlaceCount(Place((), BOX), found, missed) for found, missed in rows]


def test_recall_is_the_ratio_of_sums_with_an_interval_for_alike_neighbours():
    found = recall_of(counts((8, 2), (1, 9), (9, 1), (6, 4)))
    assert (found.count, found.total, found.value) == (24, 40, 0.6)
    # By hand: deviations found - 0.6 * 10 are 2, -5, 3, 0, so V = 4/3 * 38 / 1600, and 0.6 * 0.4 / 40 = 0.006.
    effect = (4 / 3 * 38 / 1600) / 0.006
    np.testing.assert_allclose((found.low, found.high), wilson_interval(24 / effect, 40 / effect))
    alike = recall_of(counts((6, 4), (6, 4), (6, 4), (6, 4)))
    assert (alike.low, alike.high) == wilson_interval(24, 40)
    assert alike.low > found.low
    assert recall_of(counts((0, 0))) is None
    assert recall_of(counts((5, 0))).high == 1.0


def test_the_interval_of_recall_holds_the_truth_about_as_often_as_it_says():
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        shares = rng.beta(8, 2, 25)  # places differ; the truth is 0.8
        there = rng.poisson(12, 25)
        found = rng.binomial(there, shares)
        estimate = recall_of(counts(*zip(found.tolist(), (there - found).tolist(), strict=True)))
        held += estimate.low <= 0.8 <= estimate.high
    assert 0.91 < held / 400 < 0.985


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: audit_sample([1], 0, 0), "looks at 1 object at least, got 0; 30 to 100 are usual"),
        (lambda: audit_places([()], (5, 5), 0, 5, 0), "needs 1 place at least.*got 0 places of 5 px in 1 planes"),
        (lambda: wilson_interval(3, 2), "0 <= count <= total, got 3 of 2"),
        (lambda: PlaceCount(Place((), BOX), 1, -1), "at least 0, got 1 and -1"),
    ],
    ids=["sample", "places", "wilson", "counts"],
)
def test_what_makes_no_sense_is_refused(call, said):
    with pytest.raises(AnnotationError, match=said):
        call()


def test_z_is_the_quantile_it_says():
    assert math.isclose(Z_95, stats.norm.ppf(0.975), rel_tol=1e-12)
