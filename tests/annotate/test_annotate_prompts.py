"""Prompts: what they hold, where they lie, and which ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
from annotate_scenes import FRAME, drawn, lines, rectangle

from napari_sam.annotate.prompts import (
    BoxPrompt,
    Click,
    MaskPrompt,
    Scribble,
    check_prompt,
    extent_of,
    polygon_mask,
)
from napari_sam.errors import PromptError
from napari_sam.geometry import Box, Mask


def test_a_scribble_becomes_points_at_even_distances():
    points = Scribble(((0.0, 0.0), (30.0, 0.0), (30.0, 10.0))).points_xy(spacing_px=10)
    np.testing.assert_allclose(points, [[0, 0], [10, 0], [20, 0], [30, 0], [30, 10]])
    assert len(Scribble(((0.0, 0.0), (1000.0, 0.0))).points_xy(spacing_px=1, most=7)) == 7
    np.testing.assert_array_equal(Scribble(((2.0, 3.0),)).points_xy(), [[2, 3]])
    np.testing.assert_array_equal(Scribble(((2.0, 3.0), (3.0, 3.0))).points_xy(), [[2, 3], [3, 3]])


def test_a_polygon_holds_the_pixels_whose_centre_it_holds():
    mask = polygon_mask([(0.5, 0.5), (4.5, 0.5), (4.5, 2.5), (0.5, 2.5)], (4, 6))
    assert drawn(mask.to_array().astype(int)) == lines("......\n.1111.\n.1111.\n......")
    assert polygon_mask([(-5, -5), (1.5, -5), (1.5, 20), (-5, 20)], (4, 6)).area == 8
    assert polygon_mask([(50, 50), (60, 50), (60, 60)], (4, 6)).is_empty


def test_the_extent_of_a_prompt_is_its_pixels():
    assert extent_of(Click((3.4, 2.6))) == Box(3, 3, 4, 4)
    assert extent_of(Scribble(((1.0, 1.0), (4.6, 0.0)))) == Box(1, 0, 6, 2)
    assert extent_of(BoxPrompt((0.5, 1.0, 3.2, 4.0))) == Box(0, 1, 4, 4)
    assert extent_of(MaskPrompt(rectangle(2, 3, 5, 6))) == Box(2, 3, 5, 6)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Click((float("nan"), 1)), "a click needs finite points"),
        (lambda: Scribble(()), "a scribble needs finite points"),
        (lambda: BoxPrompt((3, 0, 3, 5)), "x0 < x1 and y0 < y1, got .3, 0, 3, 5."),
        (lambda: BoxPrompt((0, 0, float("inf"), 5)), "must be finite"),
        (lambda: MaskPrompt(Mask.from_array(np.zeros((3, 3)))), "at least one pixel"),
        (lambda: polygon_mask([(0, 0), (1, 1)], (5, 5)), "at least three corners, got 2"),
        (lambda: check_prompt(Click((-1, 3)), FRAME), r"x -1:0, y 3:4.*16 wide and 12 high"),
        (lambda: check_prompt(BoxPrompt((16, 0, 20, 5)), FRAME), "outside the image"),
    ],
)
def test_a_prompt_that_cannot_be_is_named(make, told):
    with pytest.raises(PromptError, match=told):
        make()


def test_prompts_that_reach_over_the_border_are_welcome():
    check_prompt(BoxPrompt((-3, -3, 1, 1)), FRAME)
    check_prompt(Click((-0.4, 11.4)), FRAME)
