"""Windows around cut objects, and answers brought back from a reduced view."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiling_synthetic import Picture, reprompt

from napari_sam.geometry import Box, Mask
from napari_sam.tiling import TilingConfig, plan_tiles
from napari_sam.tiling.reprompt import ask_for_whole, enlarged, iter_windows


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(1, 400), st.integers(1, 400), st.floats(0, 1), st.floats(0, 1), st.integers(4, 60), st.integers(16, 90)
)
def test_windows_hold_the_fragment_and_double_until_one_is_the_image(
    height, width, at_y, at_x, first_px, max_window_px
):
    side = max(1, min(first_px // 2, height, width))
    y0, x0 = int(at_y * (height - side)), int(at_x * (width - side))
    box = Box(x0, y0, x0 + side, y0 + side)
    windows = list(iter_windows(box, (height, width), first_px, max_window_px))
    image = Box.of_size((height, width))
    assert windows[-1][0] == image
    for i, (window, step) in enumerate(windows):
        assert image.contains_box(window)
        assert window.contains_box(box) or step > 1
        assert step & (step - 1) == 0
        assert (window.x0 % step, window.y0 % step) == (0, 0)
        longest = min(first_px * 2**i, max(height, width))
        assert longest / step <= max_window_px < 2 * longest / step or step == 1
        assert max(window.size) < longest + step
        assert window.width >= min(width, first_px * 2**i)


@pytest.mark.parametrize("step", [1, 2, 3, 8])
def test_an_enlarged_mask_has_each_pixel_step_by_step(step):
    small = np.random.default_rng(step).random((9, 7)) < 0.6
    frame = (9 * step - step // 2, 7 * step - step // 2)
    big = enlarged(Mask.from_array(small, predicted_iou=0.4), step, frame)
    expected = np.kron(small, np.ones((step, step), dtype=bool))[: frame[0], : frame[1]]
    assert big == Mask.from_array(expected, predicted_iou=0.4)


def test_the_point_of_an_enlarged_mask_stays_in_the_middle_of_its_pixel():
    mask = Mask.from_array(np.ones((4, 4)), point_xy=(1.0, 2.0))
    assert enlarged(mask, 4, (16, 16)).point_xy == (5.5, 9.5)


def ask(values: np.ndarray, fragment: np.ndarray, **settings_of_tiling: int):
    """Asks for the object of a fragment seen by the first tile; also what was read."""
    picture, reads = Picture(values), []
    config = TilingConfig(core_px=32, halo_px=4, **settings_of_tiling)
    plan = plan_tiles(values.shape, config)

    def read(box: Box, step: int) -> np.ndarray:
        reads.append((max(box.size), step))
        return picture.read(box, step)

    return ask_for_whole(Mask.from_array(fragment), plan.tiles[0], read, reprompt, plan, config), reads


def bar(length: int) -> tuple[np.ndarray, np.ndarray]:
    values = np.zeros((40, 600), dtype=np.uint8)
    values[10:20, 5 : 5 + length] = 9
    fragment = np.zeros(values.shape, dtype=bool)
    fragment[10:20, 5:36] = True
    return values, fragment


def test_the_window_grows_until_the_object_is_whole():
    values, fragment = bar(250)
    answer, reads = ask(values, fragment)
    assert answer.mask is not None
    assert (answer.mask.to_array() == (values > 0)).all()
    assert reads == [(80, 1), (160, 1), (320, 1)]


def test_windows_above_the_largest_are_read_reduced():
    values, fragment = bar(250)
    answer, reads = ask(values, fragment, max_window_px=80)
    assert answer.mask is not None
    assert reads == [(80, 1), (160, 2), (320, 4)]
    found = answer.mask.to_array()
    assert (found & (values > 0)).sum() / (found | (values > 0)).sum() > 0.75


def test_a_fragment_too_thin_for_the_reduced_view_is_still_shown():
    values, fragment = np.zeros((40, 600), dtype=np.uint8), np.zeros((40, 600), dtype=bool)
    values[:38, 5:505] = 9
    fragment[17, 70:74] = True
    answer, reads = ask(values, fragment, max_window_px=32)
    assert reads[-1][1] > 8
    assert answer.reason == "whole"


def test_no_answer_ends_the_asking():
    values, fragment = bar(250)
    values[:] = 0
    answer, reads = ask(values, fragment)
    assert (answer.mask, answer.reason) == (None, "nothing")
    assert len(reads) == 1
