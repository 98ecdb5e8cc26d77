from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from napari_sam.geometry import Box, Mask, ModelFrame, remove_small_regions
from napari_sam.predict import LogitUpsampler
from napari_sam.predict.filtering import (
    is_cut_by_crop,
    mask_and_stability,
    piece_of_point,
    without_covered,
    without_duplicates,
    without_small_regions,
)

FRAME = ModelFrame((50, 70), 64)


def rectangle(x0, y0, x1, y1, size=(40, 60), **fields) -> Mask:
    pixels = np.zeros(size, dtype=bool)
    pixels[y0:y1, x0:x1] = True
    return Mask.from_array(pixels, **fields)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.floats(-2, 2), offset=st.floats(0.01, 3))
def test_mask_and_stability_equal_those_of_the_whole_image(seed, threshold, offset):
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(16, 16)) + rng.uniform(-4, 1)).astype(np.float32)
    framed = F.interpolate(torch.from_numpy(logits)[None, None], (64, 64), mode="bilinear")[..., :46, :64]
    whole = F.interpolate(framed, FRAME.image_size, mode="bilinear")[0, 0].numpy()
    window, pixels, stability = mask_and_stability(
        logits, LogitUpsampler((16, 16), FRAME), threshold=threshold, offset=offset
    )
    mask = np.zeros(FRAME.image_size, dtype=bool)
    mask[window.slices] = pixels
    outer = np.count_nonzero(whole > threshold - offset)
    # Rounding may put a pixel on the other side of a threshold.
    assert np.count_nonzero(mask != (whole > threshold)) <= 1
    expected = np.count_nonzero(whole > threshold + offset) / outer if outer else 0
    assert stability == pytest.approx(expected, abs=1.5 / max(outer, 1))


@pytest.mark.parametrize(("x", "columns"), [(12.49, [12]), (12.6, [14]), (13.5, [14]), (10.0, [14]), (99.0, [14])])
def test_a_point_lies_on_the_pixel_whose_centre_is_nearest(x, columns):
    # Columns 12 and 14 to 15 of the image are the mask, the larger piece is the second.
    pixels = np.array([[False, False, True, False, True, True]])
    piece = piece_of_point(pixels, Box(10, 20, 16, 21), (x, 20.2))
    assert (10 + np.flatnonzero(piece[0]))[:1].tolist() == columns


def test_nothing_at_all_is_not_stable():
    logits = np.full((16, 16), -9, dtype=np.float32)
    window, pixels, stability = mask_and_stability(logits, LogitUpsampler((16, 16), FRAME), threshold=0, offset=1)
    assert (window.is_empty, pixels.size, stability) == (True, 0, 0.0)


CROP, IMAGE = Box(100, 100, 300, 300), (300, 400)


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ((150, 150, 250, 250), False),
        ((120, 150, 250, 250), True),
        ((121, 150, 250, 250), False),
        ((150, 120, 250, 250), True),
        ((150, 150, 281, 250), True),
        ((150, 150, 280, 250), False),
        ((150, 150, 250, 300), False),  # the crop ends there with the image
    ],
    ids=["inside", "20 px left", "21 px left", "20 px above", "20 px right", "21 px right", "the image's edge"],
)
def test_a_mask_within_20_px_of_an_inner_edge_is_cut(box, cut):
    assert is_cut_by_crop(Box(*box), CROP, IMAGE) == cut


def test_the_whole_image_cuts_nothing():
    assert not is_cut_by_crop(Box(0, 0, 400, 300), Box(0, 0, 400, 300), IMAGE)


def test_of_equal_boxes_the_best_score_stays():
    masks = [rectangle(0, 0, 20, 20), rectangle(0, 0, 20, 19), rectangle(30, 0, 50, 20)]
    kept = without_duplicates(masks, [0.5, 0.9, 0.7], box_iou_thresh=0.7, mask_iou_thresh=None)
    assert kept == [masks[1], masks[2]]


def test_box_iou_is_measured_between_pixel_centres():
    # 7/9 between the centres of the outermost pixels; 8/10 as ranges of pixels.
    masks = [rectangle(0, 0, 10, 21), rectangle(0, 0, 8, 21)]
    assert len(without_duplicates(masks, [1, 0], box_iou_thresh=0.78, mask_iou_thresh=None)) == 2
    assert len(without_duplicates(masks, [1, 0], box_iou_thresh=0.77, mask_iou_thresh=None)) == 1


def test_masks_one_pixel_thin_are_compared_too():
    masks = [rectangle(0, 3, 30, 4), rectangle(0, 3, 30, 4), rectangle(5, 0, 6, 20)]
    assert without_duplicates(masks, [1, 2, 0], box_iou_thresh=0.7, mask_iou_thresh=None) == [masks[1], masks[2]]


def test_equal_boxes_with_different_pixels_are_told_apart_by_mask_iou_alone():
    cross, frame = np.zeros((40, 60), bool), np.zeros((40, 60), bool)
    cross[10, 5:16] = cross[5:16, 10] = True
    frame[5:16, 5:16] = True
    frame[6:15, 6:15] = False
    masks = [Mask.from_array(cross), Mask.from_array(frame), Mask.from_array(frame)]
    assert len(without_duplicates(masks, [3, 2, 1], box_iou_thresh=1.0, mask_iou_thresh=0.5)) == 2
    assert len(without_duplicates(masks, [3, 2, 1], box_iou_thresh=0.7, mask_iou_thresh=None)) == 1


def test_no_masks_stay_no_masks():
    assert without_duplicates([], [], box_iou_thresh=0.7, mask_iou_thresh=0.5) == []
    assert without_small_regions([], 9, box_iou_thresh=0.7, mask_iou_thresh=None) == []


@settings(max_examples=200, deadline=None)
@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    density=st.floats(0.05, 0.95),
    grain=st.integers(1, 6),
    area=st.integers(1, 60),
    seed=st.integers(0, 10**6),
)
def test_small_regions_are_those_of_the_whole_frame(height, width, density, grain, area, seed):
    coarse = np.random.default_rng(seed).random((height, width)) < density
    pixels = np.kron(coarse, np.ones((grain, grain), bool))[:height, :width]
    pixels[: height // 3] &= seed % 2 == 0  # often a margin
    if not pixels.any():
        pixels[-1, -1] = True
    expected, _ = remove_small_regions(pixels, area, "holes")
    expected, _ = remove_small_regions(expected, area, "islands")
    [mask] = without_small_regions([Mask.from_array(pixels)], area, box_iou_thresh=0.7, mask_iou_thresh=None)
    np.testing.assert_array_equal(mask.to_array(), expected)


def test_a_mask_without_small_regions_is_handed_through_with_its_scores():
    mask = rectangle(5, 5, 20, 20, predicted_iou=0.7, point_xy=(9.0, 9.0), prompt="grid")
    [kept] = without_small_regions([mask], 10, box_iou_thresh=0.7, mask_iou_thresh=None)
    assert kept is mask


def test_a_cleaned_mask_keeps_its_scores_and_gets_a_tight_box():
    pixels = rectangle(5, 5, 20, 20).to_array()
    pixels[30, 50] = True
    pixels[10, 10] = False
    mask = Mask.from_array(pixels, predicted_iou=0.7, stability_score=0.9, point_xy=(9.0, 9.0), prompt="grid")
    [kept] = without_small_regions([mask], 10, box_iou_thresh=0.7, mask_iou_thresh=None)
    assert kept.box == Box(5, 5, 20, 20)
    assert kept.area == 225
    assert (kept.predicted_iou, kept.stability_score, kept.point_xy, kept.prompt) == (0.7, 0.9, (9.0, 9.0), "grid")


def test_among_duplicates_the_one_that_was_clean_stays():
    speckled = rectangle(5, 5, 20, 20).to_array()
    speckled[30, 50] = True
    masks = [Mask.from_array(speckled, predicted_iou=0.9), rectangle(5, 5, 20, 20, predicted_iou=0.8)]
    kept = without_small_regions(masks, 10, box_iou_thresh=0.7, mask_iou_thresh=None)
    assert [m.predicted_iou for m in kept] == [0.8]


def test_a_part_that_better_masks_cover_is_dropped_and_a_neighbour_stays():
    whole, part, neighbour = rectangle(0, 0, 20, 20), rectangle(2, 2, 8, 8), rectangle(18, 0, 38, 20)
    assert without_covered([whole, part, neighbour], 0.5) == [whole, neighbour]


def test_a_better_part_does_not_drop_the_whole():
    part, whole = rectangle(2, 2, 8, 8), rectangle(0, 0, 20, 20)
    assert without_covered([part, whole], 0.5) == [part, whole]


def test_several_better_masks_cover_one_together():
    left, right, both = rectangle(0, 0, 10, 20), rectangle(10, 0, 20, 20), rectangle(2, 5, 18, 15)
    assert without_covered([left, right, both], 0.5) == [left, right]
    assert without_covered([], 0.5) == []


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), thresh=st.floats(0, 1))
def test_what_stays_is_covered_by_better_ones_no_more_than_allowed(seed, thresh):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 30, (12, 2))
    masks = [rectangle(x, y, x + int(w), y + 7) for (x, y), w in zip(corners, rng.integers(3, 15, 12), strict=True)]
    painted = np.zeros((40, 60), bool)
    expected = []
    for mask in masks:
        if np.count_nonzero(painted & mask.to_array()) <= thresh * mask.area:
            expected.append(mask)
            painted |= mask.to_array()
    assert without_covered(masks, thresh) == expected
