"""Clicks and windows of the single-object protocols."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.evaluation.prompted import mask_iou, next_click, window_for
from napari_sam.geometry import Box


def disc(size, centre, radius):
    y, x = np.indices(size)
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2


def test_the_next_click_is_positive_in_a_missed_region():
    truth = disc((60, 60), (20, 20), 10) | disc((60, 60), (45, 45), 6)
    point, sign = next_click(disc((60, 60), (20, 20), 10), truth)
    assert (point.tolist(), sign) == ([45, 45], 1)


def test_the_next_click_is_negative_in_an_invented_region():
    truth = disc((60, 60), (20, 20), 10)
    point, sign = next_click(truth | disc((60, 60), (45, 45), 6), truth)
    assert (point.tolist(), sign) == ([45, 45], 0)


def test_the_larger_of_two_errors_is_clicked():
    truth = disc((60, 60), (20, 20), 10)
    mask = disc((60, 60), (45, 45), 6)  # all of the object missed, a smaller one invented
    assert next_click(mask, truth)[1] == 1


def test_a_perfect_mask_is_clicked_in_its_middle_again():
    truth = disc((60, 60), (20, 20), 10)
    assert next_click(truth, truth)[0].tolist() == [20, 20]


def test_mask_iou_is_that_of_each_pair():
    a = np.zeros((2, 4, 4), bool)
    a[0, :2], a[1, 0, 0] = True, True
    b = np.zeros((2, 4, 4), bool)
    b[0, :1], b[1, 3, 3] = True, True
    assert mask_iou(a, b).tolist() == [0.5, 0.0]


def test_a_small_image_is_one_window():
    assert window_for(Box(3, 3, 5, 5), (300, 400), 512) == Box(0, 0, 400, 300)


@pytest.mark.parametrize("place", [(0, 0), (1400, 20), (700, 700), (1990, 1490)])
def test_a_window_holds_its_object_and_lies_on_the_lattice(place):
    box = Box(place[0], place[1], place[0] + 10, place[1] + 10)
    window = window_for(box, (1500, 2000), 512)
    assert window.clipped(box) == box
    assert window.x0 % 256 == 0 or window.x1 == 2000
    assert max(window.width, window.height) <= 512


def test_an_object_larger_than_a_window_gets_a_coarser_one():
    box = Box(100, 100, 800, 200)
    window = window_for(box, (3000, 3000), 512)
    assert window.clipped(box) == box
    assert window.width == 1024
