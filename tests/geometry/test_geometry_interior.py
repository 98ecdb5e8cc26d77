"""Points inside masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.errors import PromptError
from napari_sam.geometry import Mask, interior_points, most_interior_point


def disc(size, centre, radius):
    y, x = np.indices(size)
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2


def test_the_first_click_is_the_middle_of_a_disc():
    assert most_interior_point(disc((40, 50), (30, 12), 8)).tolist() == [30, 12]


def test_the_image_edge_counts_as_a_border():
    x, y = most_interior_point(np.ones((9, 21), bool))
    assert y == 4
    assert 4 <= x <= 16


def test_the_most_interior_point_of_a_bar_lies_on_its_middle_line():
    mask = np.zeros((9, 30), bool)
    mask[2:7, 1:29] = True
    assert most_interior_point(mask)[1] == 4


@pytest.mark.parametrize("seed", range(8))
def test_no_pixel_lies_deeper_than_the_most_interior_one(seed):
    mask = np.random.default_rng(seed).random((14, 17)) < 0.8
    outside = np.argwhere(~np.pad(mask, 1)) - 1

    def depth(x, y):
        return np.sqrt(((outside - (y, x)) ** 2).sum(axis=1)).min()

    x, y = most_interior_point(mask)
    assert mask[int(y), int(x)]
    assert depth(x, y) == max(depth(b, a) for a, b in np.argwhere(mask))


def test_an_empty_mask_is_refused():
    with pytest.raises(PromptError, match="an empty mask has no point inside"):
        most_interior_point(np.zeros((4, 4), bool))


def test_the_first_point_is_the_most_interior_and_the_others_are_spread():
    pixels = np.zeros((40, 60), bool)
    pixels[10:21, 5:50] = True
    points = interior_points(Mask.from_array(pixels), 3)
    assert points.shape == (3, 2)
    assert points[0, 1] == 15
    assert sorted(points[:, 0])[2] - sorted(points[:, 0])[0] > 30


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), density=st.floats(0.02, 1), count=st.integers(1, 5))
def test_interior_points_lie_on_the_mask_and_differ(seed, density, count):
    pixels = np.random.default_rng(seed).random((12, 17)) < density
    pixels[5, 6] = True
    points = interior_points(Mask.from_array(pixels), count).astype(int)
    assert pixels[points[:, 1], points[:, 0]].all()
    assert len(np.unique(points, axis=0)) == len(points) <= count
