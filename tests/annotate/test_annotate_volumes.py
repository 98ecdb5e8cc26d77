"""Objects followed through the planes of generated volumes, by a stand-in whose answers are exact."""

from __future__ import annotations

import numpy as np
import pytest
from annotate_flood import FloodSegmenter, bright_image
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.annotate.embeddings import EmbeddingStore
from napari_sam.annotate.volumes import PropagateConfig, has_ended, is_unsure, propagate
from napari_sam.errors import AnnotationError, ConfigError, PromptError, RunInterrupted
from napari_sam.geometry import Mask

SHAPE = (24, 64, 64)
Z, Y, X = np.indices(SHAPE)


def ball(z, y, x, radius):
    return (Z - z) ** 2 + (Y - y) ** 2 + (X - x) ** 2 <= radius**2


def tube(radius, y, x, z0=0, z1=SHAPE[0]):
    """A tube along z whose axis is at (y, x), numbers or arrays (Z,)."""
    y, x = (np.broadcast_to(c, SHAPE[0])[:, None, None] for c in (y, x))
    return ((Y - y) ** 2 + (X - x) ** 2 <= radius**2) & (z0 <= Z) & (z1 > Z)


def store_of(volume, window_px=64, axes="ZYX"):
    return EmbeddingStore(FloodSegmenter(window_px), bright_image(volume, axes))


def followed(volume, truth, z, **options):
    """The object `truth` of a volume as propagated from plane z, (Z, H, W), and what was yielded."""
    found = np.zeros_like(truth)
    found[z] = truth[z]
    masks = list(propagate(store_of(volume), (z,), Mask.from_array(truth[z]), **options))
    for part in masks:
        assert not found[part.plane].any()
        found[part.plane] = part.mask.to_array()
    return found, masks


@settings(max_examples=15, deadline=None)
@given(radius=st.integers(2, 10), start=st.floats(-0.8, 0.8))
def test_a_ball_is_found_whole_from_any_of_its_planes(radius, start):
    truth = ball(12, 30, 33, radius)
    other = ball(12, 30, 54, 6)
    found, _ = followed(truth | other, truth, 12 + round(start * radius))
    np.testing.assert_array_equal(found, truth)


def test_an_object_larger_than_a_window_is_found_whole():
    truth = tube(26, 32, 32, 4, 9)
    store = store_of(truth, window_px=32)
    masks = list(propagate(store, (6,), Mask.from_array(truth[6])))
    assert [part.plane for part in masks] == [(7,), (8,), (5,), (4,)]
    assert all(part.mask.area > 0.97 * truth[6].sum() for part in masks)


def test_a_tube_is_followed_to_both_of_its_ends_and_not_into_its_neighbour():
    truth = tube(5, 20 + np.arange(24), 30, 3, 21)
    neighbour = tube(5, 44 - np.arange(24), 50)
    found, masks = followed(truth | neighbour, truth, 11)
    np.testing.assert_array_equal(found, truth)
    assert [part.plane[0] for part in masks] == [*range(12, 21), *range(10, 2, -1)]
    assert not any(part.unsure for part in masks)


def test_both_branches_of_a_tube_are_followed():
    apart = np.maximum(np.arange(24) - 10, 0) * 1.5
    truth = tube(6, 32 - apart, 32) | tube(6, 32 + apart, 32)
    found, _ = followed(truth, truth, 4)
    np.testing.assert_array_equal(found, truth)


def test_an_object_that_jumps_away_has_ended():
    truth = tube(5, 15, 15, 0, 12)
    found, _ = followed(truth | tube(5, 50, 50, 12), truth, 5)
    np.testing.assert_array_equal(found, truth)


def test_a_leak_into_the_ground_ends_the_object():
    truth = tube(7, 32, 32, 0, 10)
    volume = truth.copy()
    volume[10:] = True
    found, _ = followed(volume, truth, 5)
    np.testing.assert_array_equal(found, truth)


def test_a_sudden_change_is_marked_as_unsure():
    truth = tube(8, 32, 32, 0, 12) | tube(5, 32, 32, 12)
    found, masks = followed(truth, truth, 9)
    np.testing.assert_array_equal(found, truth)
    assert [part.plane for part in masks if part.unsure] == [(12,)]


def test_a_mask_the_model_doubts_is_marked_and_one_it_denies_ends_the_object():
    truth = tube(8, 32, 32)
    store = store_of(truth)
    store.segmenter.score = 0.6
    masks = list(propagate(store, (22,), Mask.from_array(truth[22])))
    assert {part.unsure for part in masks} == {True}
    assert masks[0].predicted_iou == masks[0].mask.predicted_iou == 0.6
    store.segmenter.score = 0.4
    assert list(propagate(store, (22,), Mask.from_array(truth[22]))) == []


def test_the_model_is_shown_the_mask_the_box_and_points_of_the_plane_before():
    truth = tube(6, 32, 32)
    store = store_of(truth)
    next(propagate(store, (3,), Mask.from_array(truth[3])))
    asked = store.segmenter.questions[0]
    np.testing.assert_array_equal(asked.mask.to_array(), truth[3])
    assert asked.box_xyxy == (26, 26, 39, 39)
    assert asked.point_labels.tolist() == [1, 1, 1]
    assert truth[3][tuple(asked.points_xy[:, ::-1].astype(int).T)].all()


def test_planes_the_user_corrected_are_not_answered_again():
    truth = tube(6, 32, 32)
    planes = [
        p.plane[0] for p in propagate(store_of(truth), (12,), Mask.from_array(truth[12]), corrected={(18,), (4,)})
    ]
    # Between 12 and 18 those up to the middle, 15; between 12 and 4 those down to the middle, 8.
    assert planes == [13, 14, 15, 11, 10, 9, 8]


def test_a_corrected_plane_beside_the_start_leaves_nothing_to_do():
    truth = tube(6, 32, 32)
    store = store_of(truth)
    assert list(propagate(store, (12,), Mask.from_array(truth[12]), corrected={(11,), (13,)})) == []


def test_an_object_is_followed_no_further_than_asked():
    truth = tube(6, 32, 32)
    _, masks = followed(truth, truth, 12, config=PropagateConfig(most_planes=2))
    assert [part.plane for part in masks] == [(13,), (14,), (11,), (10,)]


def test_a_time_series_of_stacks_is_followed_along_the_axis_asked_for():
    truth = tube(6, 32, 32)[:12].reshape(3, 4, 64, 64)
    start = Mask.from_array(truth[0, 0])
    store = store_of(truth, axes="TZYX")
    assert [p.plane for p in propagate(store, (1, 1), start)] == [(1, 2), (1, 3), (1, 0)]
    assert [p.plane for p in propagate(store, (1, 1), start, axis=0)] == [(2, 1), (0, 1)]


def test_propagation_stops_between_planes_when_asked():
    truth = tube(6, 32, 32)
    stops = iter([False, False, True])
    masks = propagate(store_of(truth), (3,), Mask.from_array(truth[3]), should_stop=lambda: next(stops))
    assert [next(masks).plane, next(masks).plane] == [(4,), (5,)]
    with pytest.raises(RunInterrupted):
        next(masks)


def square(side, at=0, score=0.9):
    pixels = np.zeros((64, 64), bool)
    pixels[at : at + side, at : at + side] = True
    return Mask.from_array(pixels, predicted_iou=score)


@pytest.mark.parametrize(
    ("before", "found", "ended"),
    [
        (square(20), square(20), False),
        (square(20), square(0), True),
        (square(20), square(20, score=0.3), True),
        (square(20), square(41), True),
        (square(20), square(39), False),
        (square(5), square(40), False),
        (square(20), square(20, at=15), True),
        (square(20), square(3), False),
    ],
    ids=["same", "empty", "denied", "leaked", "grown", "a cap grown", "moved away", "shrunk"],
)
def test_the_end_of_an_object(before, found, ended):
    assert has_ended(before, found, PropagateConfig()) == ended


def test_what_a_person_should_look_at():
    assert not is_unsure(square(20), square(19), PropagateConfig())
    assert is_unsure(square(20), square(19, score=0.7), PropagateConfig())
    assert is_unsure(square(20), square(12), PropagateConfig())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"least_overlap": 1.5}, r"least_overlap must lie in \[0, 1\], got 1.5"),
        ({"most_growth": 1.0}, "most_growth must be above 1.*got 1.0"),
        ({"most_planes": -1}, "most_planes at least 0.*-1"),
    ],
    ids=["overlap", "growth", "planes"],
)
def test_impossible_settings_are_named(fields, message):
    with pytest.raises(ConfigError, match=message):
        PropagateConfig(**fields)


def test_an_empty_mask_cannot_be_followed():
    with pytest.raises(PromptError, match=r"at least one pixel.*segment the object in this plane first"):
        propagate(store_of(tube(6, 32, 32)), (3,), Mask.from_array(np.zeros((64, 64), bool)))


def test_a_single_plane_has_no_neighbours():
    store = EmbeddingStore(FloodSegmenter(64), bright_image(tube(6, 32, 32)[0]))
    with pytest.raises(PromptError, match="single plane"):
        propagate(store, (), square(5))


def test_a_plane_that_does_not_exist_is_named():
    with pytest.raises(AnnotationError, match=r"\(24,\)"):
        propagate(store_of(tube(6, 32, 32)), (24,), square(5))
