from __future__ import annotations

import numpy as np
import pytest

from napari_sam.errors import PromptError
from napari_sam.predict import check_prompts

SIZE, MASK = (20, 30), (8, 8)


def test_one_click_is_one_prompt_set():
    prompts = check_prompts(SIZE, MASK, points_xy=[[3, 4]])
    assert len(prompts) == 1
    assert prompts.points_xy.tolist() == [[[3, 4]]]
    assert prompts.point_labels.tolist() == [[1]]


def test_a_batch_of_sets_keeps_its_shape():
    points, labels = np.full((5, 3, 2), 7), np.tile([1, 0, -1], (5, 1))
    prompts = check_prompts(SIZE, MASK, points_xy=points, point_labels=labels, boxes_xyxy=np.tile([0, 0, 9, 9], (5, 1)))
    assert len(prompts) == 5
    assert prompts.points_xy.shape == (5, 3, 2)
    assert prompts.boxes_xyxy.shape == (5, 4)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (1, 1, 8, 8)], ids=str)
def test_a_mask_prompt_may_have_its_batch_and_channel_axes_or_not(shape):
    assert check_prompts(SIZE, MASK, mask_logits=np.zeros(shape)).mask_logits.shape == (1, 8, 8)


@pytest.mark.parametrize("point", [(-0.5, -0.5), (29.5, 19.5), (0, 0)], ids=str)
def test_a_point_may_lie_anywhere_on_a_pixel_of_the_edge(point):
    assert len(check_prompts(SIZE, MASK, points_xy=[point])) == 1


def test_padding_may_hold_anything():
    prompts = check_prompts(SIZE, MASK, points_xy=[[3, 4], [np.nan, -99]], point_labels=[1, -1])
    assert prompts.points_xy.tolist() == [[[3, 4], [0, 0]]]


def test_padding_alone_is_fine_beside_a_box():
    assert len(check_prompts(SIZE, MASK, points_xy=[[0, 0]], point_labels=[-1], boxes_xyxy=[1, 2, 3, 4])) == 1


def test_a_box_that_sticks_out_is_clipped():
    assert check_prompts(SIZE, MASK, boxes_xyxy=[-5, 3, 99, 10]).boxes_xyxy.tolist() == [[0, 3, 30, 10]]


def test_no_boxes_are_a_batch_of_none():
    assert len(check_prompts(SIZE, MASK, boxes_xyxy=np.empty((0, 4)))) == 0


def test_inputs_are_left_as_they_were():
    points, boxes = np.array([[np.nan, 0.0], [1, 1]]), np.array([[-1.0, 0, 5, 5]])
    check_prompts(SIZE, MASK, points_xy=points, point_labels=[-1, 1], boxes_xyxy=boxes)
    assert np.isnan(points[0, 0])
    assert boxes[0, 0] == -1


WRONG = {
    "nothing": ({}, r"no prompt was given; pass points_xy, boxes_xyxy or mask_logits"),
    "a flat point": ({"points_xy": [3, 4]}, r"\(N, 2\).*got \(2,\); a single click is \[\[x, y\]\]"),
    "three coordinates": ({"points_xy": [[3, 4, 5]]}, r"\(N, 2\).*got \(1, 3\)"),
    "four axes": ({"points_xy": np.zeros((1, 1, 1, 2))}, r"\(P, N, 2\).*got \(1, 1, 1, 2\)"),
    "text": ({"points_xy": [["a", "b"]]}, "points_xy must be an array of numbers"),
    "ragged rows": ({"points_xy": [[1, 2], [3]]}, "equally long rows"),
    "labels without points": ({"point_labels": [1]}, "point_labels came without points_xy"),
    "too few labels": ({"points_xy": [[1, 1], [2, 2]], "point_labels": [1]}, r"shape \(1, 2\).*got \(1, 1\)"),
    "a label of 2": ({"points_xy": [[1, 1]], "point_labels": [2]}, r"1 \(inside\), 0 \(outside\).*got 2"),
    "a label of 0.5": ({"points_xy": [[1, 1]], "point_labels": [0.5]}, "got 0.5"),
    "a label of NaN": ({"points_xy": [[1, 1]], "point_labels": [np.nan]}, "got nan"),
    "a point of NaN": ({"points_xy": [[1, 1], [np.nan, 1]]}, r"point 1 of prompt set 0 is \(nan, 1\): NaN"),
    "an infinite point": ({"points_xy": [[1, np.inf]]}, r"point 0 of prompt set 0 is \(1, inf\)"),
    "x too large": (
        {"points_xy": [[[1, 1]], [[30, 1]]]},
        r"point 0 of prompt set 1 at \(30, 1\).*x must be in \[-0.5, 29.5\]",
    ),
    "row and column swapped": ({"points_xy": [[1, 25]]}, r"y in \[-0.5, 19.5\], in the order \(x, y\)"),
    "a negative point": ({"points_xy": [[-0.6, 0]]}, r"\(-0.6, 0\) lies outside the image"),
    "no points": ({"points_xy": np.empty((0, 2))}, "prompt set 0 is empty"),
    "only padding": ({"points_xy": [[1, 1]], "point_labels": [-1]}, "no point that is not padding"),
    "a box of two numbers": ({"boxes_xyxy": [1, 2]}, r"\(P, 4\).*got \(1, 2\); a single box is \[x0, y0, x1, y1\]"),
    "a box with three axes": ({"boxes_xyxy": np.zeros((1, 1, 4))}, r"got \(1, 1, 4\)"),
    "a box of NaN": ({"boxes_xyxy": [[1, 2, 3, np.nan]]}, r"box 0 holds NaN.*\(1, 2, 3, nan\)"),
    "a box turned around": ({"boxes_xyxy": [[0, 0, 5, 5], [9, 2, 3, 4]]}, r"box 1 is empty: \(9, 2, 3, 4\).*x0 < x1"),
    "a box of no height": ({"boxes_xyxy": [1, 2, 3, 2]}, "box 0 is empty"),
    "a box beside the image": ({"boxes_xyxy": [30, 0, 40, 5]}, r"box 0 at \(30, 0, 40, 5\).*image of 30 x 20 pixels"),
    "a mask of the image's size": ({"mask_logits": np.zeros((20, 30))}, r"\(P, 8, 8\).*got \(20, 30\).*low_res_logits"),
    "three masks of one prompt": (
        {"mask_logits": np.zeros((1, 3, 8, 8))},
        r"got \(1, 3, 8, 8\).*low_res_logits\[:, 0\]",
    ),
    "a mask of NaN": ({"mask_logits": np.full((8, 8), np.nan)}, "prompt set 0 hold NaN"),
    "two points, one set, and two boxes": (
        {"points_xy": [[1, 1], [2, 2]], "boxes_xyxy": [[0, 0, 5, 5], [1, 1, 6, 6]]},
        r"points_xy has 1, boxes_xyxy has 2; \(N, 2\) points are one object",
    ),
}


@pytest.mark.parametrize(("prompts", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_prompt_is_named(prompts, message):
    with pytest.raises(PromptError, match=message):
        check_prompts(SIZE, MASK, **prompts)
