from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.geometry import ModelFrame
from napari_sam.predict import AutoMaskConfig, generate_masks, proposal_points

SQUARE = ModelFrame((128, 128), 128)  # cells of 8 px on a map of 16 x 16


def peaks(logits, frame=SQUARE, *, threshold=0.3, min_distance_px=8.0, max_points=100):
    return proposal_points(
        torch.as_tensor(logits, dtype=torch.float32),
        frame,
        threshold=threshold,
        min_distance_px=min_distance_px,
        max_points=max_points,
    )


def heat(*cells, low=-5.0):
    logits = np.full((16, 16), low)
    for row, column, value in cells:
        logits[row, column] = value
    return logits


def test_a_peak_is_a_point_in_the_middle_of_its_cell_the_best_first():
    assert peaks(heat((2, 3, 1.0), (10, 5, 2.0))).tolist() == [[43.5, 83.5], [27.5, 19.5]]


def test_points_are_in_image_pixels():
    in_frame = peaks(heat((2, 3, 1.0)))
    np.testing.assert_allclose(peaks(heat((2, 3, 1.0)), ModelFrame((512, 512), 128)), in_frame * 4)


def test_a_neighbour_of_a_peak_is_none():
    assert len(peaks(heat((5, 5, 2.0), (5, 6, 1.9), (6, 6, 1.0)))) == 1


def test_a_plateau_is_one_point():
    assert len(peaks(heat((5, 5, 2.0), (5, 6, 2.0), (6, 5, 2.0)), min_distance_px=12)) == 1


def test_below_the_threshold_there_is_nothing():
    logits = heat((2, 3, 0.0))  # probability 0.5
    assert len(peaks(logits, threshold=0.5)) == 1
    assert peaks(logits, threshold=0.51).shape == (0, 2)


def test_an_empty_map_has_no_points():
    assert peaks(heat()).shape == (0, 2)


def test_the_padding_is_not_searched():
    logits = heat((2, 3, 1.0), (12, 3, 3.0))
    assert peaks(logits, ModelFrame((64, 128), 128)).tolist() == [[27.5, 19.5]]


def test_a_cell_half_in_the_padding_gives_a_point_inside():
    frame = ModelFrame((1, 128), 128)
    assert peaks(heat((0, 3, 1.0)), frame).tolist() == [[27.5, 0.0]]


def test_only_the_most_probable_are_taken():
    points = peaks(heat((2, 2, 1.0), (2, 8, 3.0), (8, 2, 2.0)), max_points=2)
    assert points.tolist() == [[67.5, 19.5], [19.5, 67.5]]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), distance=st.floats(0, 60))
def test_points_keep_their_distance_and_nothing_far_from_all_is_left_out(seed, distance):
    logits = np.random.default_rng(seed).normal(size=(16, 16))
    points = peaks(logits, min_distance_px=distance)
    everything = peaks(logits, min_distance_px=0)
    gaps = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)) + np.where(np.eye(len(points)), np.inf, 0)
    to_nearest = np.hypot(*(everything[:, None] - points[None]).transpose(2, 0, 1)).min(axis=1)
    assert gaps.min(initial=np.inf) >= distance
    assert ((to_nearest < distance) | (to_nearest == 0)).all()


def test_the_map_decides_where_a_model_is_prompted(proposing_model, clouds):
    config = AutoMaskConfig(pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=1)
    masks = generate_masks(proposing_model, clouds(128, 128), config)
    assert {m.point_xy for m in masks} == {(35.5, 35.5), (99.5, 35.5), (67.5, 91.5)}
    assert {m.prompt for m in masks} == {"proposal"}
    assert 3 < len(masks) <= 9
