import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from napari_sam.errors import ConfigError, ImageError
from napari_sam.geometry import Box, Mask, Rle, piece_at, remove_small_regions, tight_box

frames = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=10))


def disk(size, x, y, radius):
    rows, columns = np.ogrid[: size[0], : size[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


@given(frames)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_mask_survives_and_its_frame_runs_are_cocos(pixels):
    mask = Mask.from_array(pixels)
    oracle = coco.encode(np.asfortranarray(pixels.astype(np.uint8)))
    np.testing.assert_array_equal(mask.to_array(), pixels)
    assert mask.to_coco_rle() == {"size": list(pixels.shape), "counts": oracle["counts"].decode()}
    assert mask.area == pixels.sum()
    assert mask.box == tight_box(pixels)


@given(frames)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_the_centroid_is_the_mean_of_the_pixel_centres(pixels):
    rows, columns = np.nonzero(pixels)
    expected = (columns.mean(), rows.mean()) if len(rows) else (math.nan, math.nan)
    np.testing.assert_allclose(Mask.from_array(pixels).centroid_xy, expected)


def test_only_the_pixels_in_the_box_are_stored():
    mask = Mask.from_array(disk((50, 80), 60, 20, 5))
    assert mask.box == Box(55, 15, 66, 26)
    assert (mask.rle.height, mask.rle.width) == (11, 11)
    assert mask.box_xyxy.tolist() == [55, 15, 66, 26]


def test_a_mask_in_a_huge_frame_costs_its_outline():
    frame = (100_000, 100_000)
    mask = Mask.from_array(disk((11, 11), 5, 5, 5)).shifted(99_000, 98_000, frame)
    text = mask.to_coco_rle()["counts"]
    assert len(text) < 100
    assert mask.window(Box(99_000, 98_000, 99_011, 98_011)).sum() == mask.area
    assert mask.centroid_xy == pytest.approx((99_005, 98_005))


def test_a_window_is_that_part_of_the_frame_also_beyond_its_edges():
    pixels = np.random.default_rng(0).random((9, 13)) < 0.5
    mask = Mask.from_array(pixels)
    np.testing.assert_array_equal(mask.window(Box(3, 2, 8, 9)), pixels[2:9, 3:8])
    np.testing.assert_array_equal(mask.window(Box(-2, -1, 14, 10)), np.pad(pixels, ((1, 1), (2, 1))))
    assert mask.window(Box(20, 20, 25, 25)).sum() == 0
    assert mask.window(Box(2, 2, 2, 5)).shape == (3, 0)


def test_shifting_moves_box_point_and_crop_and_keeps_the_rest():
    mask = Mask.from_array(
        disk((20, 20), 8, 9, 3), predicted_iou=0.7, stability_score=0.9, point_xy=(8, 9), prompt="grid"
    )
    moved = mask.shifted(100, 50, (200, 300))
    assert moved.box == mask.box.shifted(100, 50)
    assert moved.frame_size == (200, 300)
    assert moved.point_xy == (108, 59)
    assert moved.crop_box == Box(100, 50, 120, 70)
    assert moved.crop_box_xyxy.tolist() == [100, 50, 120, 70]
    assert (moved.predicted_iou, moved.stability_score, moved.prompt) == (0.7, 0.9, "grid")
    assert moved.shifted(-100, -50, (20, 20)) == mask


def test_cropping_gives_the_part_in_a_window_with_the_window_as_frame():
    pixels = disk((20, 30), 15, 10, 6)
    mask = Mask.from_array(pixels, point_xy=(15, 10), predicted_iou=0.5)
    cropped = mask.cropped(Box(12, 4, 40, 12))
    expected = np.pad(pixels, ((0, 0), (0, 10)))[4:12, 12:40]
    np.testing.assert_array_equal(cropped.to_array(), expected)
    assert cropped.point_xy == (3, 6)
    assert cropped.crop_box == Box(0, 0, 18, 8)
    assert cropped.predicted_iou == 0.5
    assert mask.cropped(Box(0, 0, 3, 3)).is_empty


def test_from_window_places_the_pixels_and_finds_the_tight_box():
    pixels = np.zeros((4, 5), dtype=bool)
    pixels[1, 2] = True
    mask = Mask.from_window(pixels, Box(10, 20, 15, 24), (50, 60))
    assert mask.box == Box(12, 21, 13, 22)
    assert np.argwhere(mask.to_array()).tolist() == [[21, 12]]


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 2.0, 3.0])
def test_scaling_takes_the_nearest_pixel(factor):
    pixels = np.random.default_rng(1).random((24, 32)) < 0.6
    size = (int(24 * factor), int(32 * factor))
    rows = np.floor((np.arange(size[0]) + 0.5) / factor).astype(int)
    columns = np.floor((np.arange(size[1]) + 0.5) / factor).astype(int)
    scaled = Mask.from_array(pixels).scaled(factor, factor, size)
    np.testing.assert_array_equal(scaled.to_array(), pixels[np.ix_(rows, columns)])


def test_scaling_up_and_back_is_the_same_mask():
    mask = Mask.from_array(disk((30, 40), 20, 12, 7), point_xy=(20.0, 12.0))
    there = mask.scaled(4, 2, (120, 80))
    assert there.area == 8 * mask.area
    assert there.point_xy == (40.5, 49.5)
    assert there.crop_box == Box(0, 0, 80, 120)
    assert there.scaled(0.25, 0.5, (30, 40)) == mask


def test_a_mask_too_thin_for_the_scale_loses_its_pixels():
    pixels = np.zeros((8, 8), dtype=bool)
    pixels[0, :] = True
    assert Mask.from_array(pixels).scaled(0.25, 0.25, (2, 2)).is_empty


def test_scaling_stays_inside_the_new_frame():
    mask = Mask.from_array(np.ones((5, 5), dtype=bool)).scaled(0.5, 0.5, (2, 2))
    np.testing.assert_array_equal(mask.to_array(), np.ones((2, 2), dtype=bool))


def test_an_empty_mask_is_a_mask():
    mask = Mask.from_array(np.zeros((4, 6), dtype=bool))
    assert mask.is_empty
    assert mask.box == Box(0, 0, 0, 0)
    assert mask.to_array().shape == (4, 6)
    assert mask.shifted(50, 50, (100, 100)).is_empty
    assert mask.scaled(2, 2, (8, 12)).is_empty


def test_masks_can_be_members_of_a_set():
    a, b = (Mask.from_array(disk((9, 9), 4, 4, r)) for r in (2, 3))
    assert len({a, b, Mask.from_array(a.to_array())}) == 2


def test_a_mask_larger_than_its_box_is_refused():
    with pytest.raises(ImageError, match="got a 2 x 2 mask for Box"):
        Mask(Rle.encode(np.ones((2, 2))), Box(0, 0, 3, 3), (9, 9))


def test_a_mask_outside_its_frame_is_refused():
    with pytest.raises(ImageError, match=r"must lie in its frame \(4, 4\).*see Mask.cropped"):
        Mask.from_array(np.ones((4, 4))).shifted(1, 0, (4, 4))


def test_a_mask_that_is_not_2d_is_refused():
    with pytest.raises(ImageError, match=r"shape \(H, W\), got \(3,\)"):
        Mask.from_array(np.ones(3))


def test_pixels_that_do_not_fit_their_window_are_refused():
    with pytest.raises(ImageError, match=r"has \(4, 3\) pixels \(H, W\), got a mask of \(3, 4\)"):
        Mask.from_window(np.ones((3, 4)), Box(0, 0, 3, 4), (9, 9))


def test_a_scale_that_is_not_positive_is_refused():
    with pytest.raises(ConfigError, match="scale factors must be positive, got 0 and 1"):
        Mask.from_array(np.ones((2, 2))).scaled(0, 1, (2, 2))


def test_small_holes_are_filled_and_large_ones_stay():
    pixels = np.ones((12, 12), dtype=bool)
    pixels[2:4, 2:4] = False
    pixels[6:11, 6:11] = False
    filled, changed = remove_small_regions(pixels, 10, "holes")
    pixels[2:4, 2:4] = True
    assert changed
    np.testing.assert_array_equal(filled, pixels)


def test_small_islands_go_and_diagonal_neighbours_belong_together():
    pixels = np.zeros((10, 10), dtype=bool)
    pixels[0, 0] = pixels[1, 1] = pixels[2, 2] = True
    pixels[7, 7] = True
    cleaned, changed = remove_small_regions(pixels, 3, "islands")
    assert changed
    assert np.argwhere(cleaned).tolist() == [[0, 0], [1, 1], [2, 2]]


def test_the_largest_island_stays_when_all_are_small():
    pixels = np.zeros((5, 9), dtype=bool)
    pixels[0, :2] = pixels[2, :3] = pixels[4, :1] = True
    cleaned, changed = remove_small_regions(pixels, 100, "islands")
    assert changed
    assert np.argwhere(cleaned).tolist() == [[2, 0], [2, 1], [2, 2]]


@pytest.mark.parametrize("mode", ["holes", "islands"])
@pytest.mark.parametrize("value", [False, True])
def test_a_mask_without_small_regions_is_left_alone(mode, value):
    pixels = np.full((12, 12), value)
    cleaned, changed = remove_small_regions(pixels, 100, mode)
    assert not changed
    np.testing.assert_array_equal(cleaned, pixels)


def test_the_piece_a_pixel_lies_on_reaches_over_diagonals():
    pixels = np.zeros((6, 8), dtype=bool)
    pixels[0, 0] = pixels[1, 1] = True
    pixels[3:6, 4:8] = True
    assert np.argwhere(piece_at(pixels, 1, 1)).tolist() == [[0, 0], [1, 1]]
    np.testing.assert_array_equal(piece_at(pixels, 4, 5), pixels & (np.arange(6) > 2)[:, None])


@pytest.mark.parametrize(("row", "column"), [(2, 2), (-1, 0), (0, -1), (6, 0), (0, 8)])
def test_beside_the_mask_the_piece_is_the_largest(row, column):
    pixels = np.zeros((6, 8), dtype=bool)
    pixels[0, :2] = pixels[5, :3] = pixels[5, 7] = True
    assert np.argwhere(piece_at(pixels, row, column)).tolist() == [[5, 0], [5, 1], [5, 2]]


@pytest.mark.parametrize("pixels", [np.zeros((3, 4), bool), np.zeros((0, 0), bool), np.eye(3, dtype=bool)])
def test_a_mask_of_one_piece_or_none_is_its_own_piece(pixels):
    np.testing.assert_array_equal(piece_at(pixels, 1, 1), pixels)


def test_pieces_of_several_masks_at_once_are_refused():
    with pytest.raises(ImageError, match=r"must have shape \(H, W\), got \(2, 3, 4\); take the pieces of one"):
        piece_at(np.zeros((2, 3, 4)), 0, 0)


def test_cleaning_leaves_its_input_untouched():
    pixels = np.zeros((6, 6), dtype=bool)
    pixels[0, 0] = pixels[3:6, 3:6] = True
    before = pixels.copy()
    remove_small_regions(pixels, 5, "islands")
    np.testing.assert_array_equal(pixels, before)


def test_an_unknown_mode_of_cleaning_is_named():
    with pytest.raises(ConfigError, match="holes, islands, got 'dots'"):
        remove_small_regions(np.ones((2, 2)), 5, "dots")


def test_cleaning_wants_one_mask():
    with pytest.raises(ImageError, match=r"got \(1, 2, 2\); clean one mask"):
        remove_small_regions(np.ones((1, 2, 2)), 5, "holes")
