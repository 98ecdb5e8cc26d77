import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_sam.errors import ConfigError, ImageError, PromptError
from napari_sam.geometry import (
    Box,
    Mask,
    intersection_area,
    intersection_areas,
    mask_iou,
    mask_iou_matrix,
    mask_iou_window,
    mask_ious,
    mask_nms,
)

stacks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda size: hnp.arrays(bool, (2, *size)))


def plain_iou(a, b):
    union = (a | b).sum()
    return (a & b).sum() / union if union else 0.0


def random_disks(rng, n, size=60, radius=9):
    x, y = rng.uniform(0, size, (2, n, 1, 1))
    r = rng.uniform(1, radius, (n, 1, 1))
    rows, columns = np.ogrid[:size, :size]
    disks = (columns - x) ** 2 + (rows - y) ** 2 <= r**2
    return disks & (rng.random(disks.shape) < 0.9)  # ragged, so that boxes say little


@given(stacks)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_overlaps_from_runs_equal_those_of_the_pixels(stack):
    a, b = (Mask.from_array(pixels) for pixels in stack)
    assert intersection_area(a, b) == (stack[0] & stack[1]).sum()
    assert mask_iou(a, b) == pytest.approx(plain_iou(*stack))
    assert mask_iou(b, a) == mask_iou(a, b)


@given(stacks, st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_iou_in_a_window_sees_nothing_outside_it(stack, data):
    height, width = stack.shape[1:]
    x0, y0 = data.draw(st.integers(0, width)), data.draw(st.integers(0, height))
    window = Box(x0, y0, data.draw(st.integers(x0, width + 2)), data.draw(st.integers(y0, height + 2)))
    a, b = (Mask.from_array(pixels) for pixels in stack)
    expected = plain_iou(stack[0][window.slices], stack[1][window.slices])
    assert mask_iou_window(a, b, window) == pytest.approx(expected)


def test_a_cut_mask_equals_the_whole_one_inside_its_window():
    whole = Mask.from_array(np.ones((40, 40), dtype=bool))
    window = Box(0, 0, 10, 40)
    cut = whole.cropped(window).shifted(0, 0, (40, 40))
    assert mask_iou(cut, whole) == pytest.approx(0.25)
    assert mask_iou_window(cut, whole, window) == 1.0


def test_many_pairs_equal_one_by_one():
    rng = np.random.default_rng(0)
    disks = random_disks(rng, 30)
    masks = [Mask.from_array(pixels) for pixels in disks]
    pairs = np.argwhere(np.ones((30, 30), dtype=bool))
    np.testing.assert_array_equal(intersection_areas(masks, pairs), [(disks[i] & disks[j]).sum() for i, j in pairs])
    np.testing.assert_allclose(mask_ious(masks, pairs), [plain_iou(disks[i], disks[j]) for i, j in pairs])
    np.testing.assert_allclose(mask_iou_matrix(masks, masks).ravel(), mask_ious(masks, pairs))
    np.testing.assert_allclose(mask_iou_matrix(masks[:4], masks[4:]), mask_iou_matrix(masks, masks)[:4, 4:])


def test_overlaps_in_a_frame_of_a_hundred_thousand_are_exact():
    frame = (100_000, 100_000)
    square = Mask.from_array(np.ones((100, 100), dtype=bool))
    masks = [square.shifted(99_900 - 50 * i, 99_900 - i, frame) for i in range(3)]
    areas = intersection_areas(masks, np.array([[0, 1], [0, 2], [1, 2], [2, 2]]))
    assert areas.tolist() == [50 * 99, 0, 50 * 99, 10_000]


@pytest.mark.parametrize("shape", [(0, 2), (2, 0)])
def test_no_masks_make_an_empty_matrix(shape):
    masks = [Mask.from_array(np.ones((2, 2)))] * 2
    assert mask_iou_matrix(masks[: shape[0]], masks[: shape[1]]).shape == shape


def test_empty_masks_overlap_nothing():
    empty, full = Mask.from_array(np.zeros((3, 3))), Mask.from_array(np.ones((3, 3)))
    assert mask_iou(empty, full) == 0.0
    assert mask_iou(empty, empty) == 0.0
    assert mask_iou_window(empty, full, Box(0, 0, 2, 2)) == 0.0


@pytest.mark.parametrize("thresh", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("n", [1, 40, 150])
def test_mask_nms_equals_the_double_loop(n, thresh):
    rng = np.random.default_rng(n)
    disks = random_disks(rng, n, size=40, radius=15)
    order = rng.permutation(n)
    kept = []
    for i in order:
        if all(plain_iou(disks[i], disks[k]) <= thresh for k in kept):
            kept.append(i)
    assert mask_nms([Mask.from_array(pixels) for pixels in disks], order, thresh).tolist() == kept


def test_mask_nms_keeps_masks_whose_boxes_alone_agree():
    diagonal = np.eye(20, dtype=bool)
    masks = [Mask.from_array(diagonal), Mask.from_array(diagonal[::-1])]
    assert mask_nms(masks, [1, 0], 0.5).tolist() == [1, 0]


def test_mask_nms_removes_equal_masks_whose_boxes_differ():
    pixels = np.zeros((40, 40), dtype=bool)
    pixels[:10, :10] = True
    stray = pixels.copy()
    stray[39, 39] = True
    assert mask_nms([Mask.from_array(pixels), Mask.from_array(stray)], [0, 1], 0.7).tolist() == [0]


def test_mask_nms_of_nothing_keeps_nothing():
    assert mask_nms([], [], 0.7).tolist() == []


@pytest.mark.parametrize("spread", [60, 2000], ids=["crowd", "scattered"])
def test_mask_nms_of_ten_thousand_masks_is_quick(spread):
    rng = np.random.default_rng(3)
    shapes = [Mask.from_array(pixels) for pixels in random_disks(rng, 200, size=30)]
    masks = [shapes[i % 200].shifted(*map(int, rng.integers(0, spread, 2)), (2100, 2100)) for i in range(10_000)]
    start = time.process_time()
    kept = mask_nms(masks, np.arange(10_000), 0.7)
    assert kept[0] == 0
    assert time.process_time() - start < 4.0


def test_masks_of_different_frames_cannot_be_compared():
    masks = [Mask.from_array(np.ones((2, 2))), Mask.from_array(np.ones((3, 3)))]
    with pytest.raises(ImageError, match=r"one frame only, got frames \[\(2, 2\), \(3, 3\)\]; use Mask.shifted"):
        mask_iou(*masks)
    with pytest.raises(ImageError, match="one frame only"):
        mask_iou_window(*masks, Box(0, 0, 2, 2))


@pytest.mark.parametrize("order", [[0], [0, 0], [0, 1, 2]])
def test_an_order_that_misses_masks_is_refused(order):
    with pytest.raises(PromptError, match="each of the 2 masks once, got"):
        mask_nms([Mask.from_array(np.ones((2, 2)))] * 2, order, 0.5)


def test_a_threshold_that_is_no_iou_is_refused():
    with pytest.raises(ConfigError, match=r"must lie in \[0, 1\], got 7"):
        mask_nms([], [], 7)
