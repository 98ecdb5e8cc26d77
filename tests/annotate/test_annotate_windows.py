"""The lattice of windows: what they hold, what they share, and how they grow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.annotate.windows import MARGIN, Lattice, Window
from napari_sam.errors import PromptError
from napari_sam.geometry import Box, Mask

FRAME = Box(0, 0, 300, 170)
LATTICE = Lattice((170, 300), 16)
steps = st.sampled_from([1, 2, 4, 8, 16, 32])


@st.composite
def extents(draw, frame=FRAME):
    x0, y0 = draw(st.integers(frame.x0, frame.x1 - 1)), draw(st.integers(frame.y0, frame.y1 - 1))
    x1, y1 = draw(st.integers(x0 + 1, frame.x1)), draw(st.integers(y0 + 1, frame.y1))
    return Box(x0, y0, x1, y1)


@settings(deadline=None)
@given(extent=extents(), step=steps)
def test_a_window_shows_the_extent_with_room_around_it_or_the_whole_image(extent, step):
    window = LATTICE.window_for((3,), extent, step)
    room = extent.grown(int(16 * window.step * MARGIN)).clipped(FRAME)
    assert window.plane == (3,)
    assert window.box.contains_box(room)
    assert window.box == FRAME or window.step >= step


@settings(deadline=None)
@given(extent=extents(), step=steps)
def test_a_window_is_never_larger_than_the_model_s_frame_nor_off_the_image(extent, step):
    window = LATTICE.window_for((), extent, step)
    assert FRAME.contains_box(window.box)
    assert max(window.size) <= 16
    assert window.box.x0 % window.step == window.box.y0 % window.step == 0


@settings(deadline=None)
@given(extent=extents(), step=steps)
def test_windows_are_as_large_as_the_image_allows(extent, step):
    window = LATTICE.window_for((), extent, step)
    side = 16 * window.step
    for length, whole in zip(window.box.size, FRAME.size, strict=True):
        assert min(side, whole) - window.step < length <= min(side, whole)


@settings(deadline=None)
@given(x=st.integers(0, 299), y=st.integers(0, 169), step=st.sampled_from([1, 2, 4]))
def test_a_click_away_from_the_image_s_border_is_at_least_a_quarter_window_from_the_window_s_edge(x, y, step):
    window = LATTICE.window_for((), Box(x, y, x + 1, y + 1), step)
    quarter = 16 * step // 4
    assert window.step == step
    box = window.box
    assert x - box.x0 >= quarter - step or box.x0 == 0
    assert y - box.y0 >= quarter - step or box.y0 == 0
    assert box.x1 - x >= quarter - step or box.x1 == FRAME.x1
    assert box.y1 - y >= quarter - step or box.y1 == FRAME.y1


def test_all_clicks_of_a_region_share_few_windows():
    clicks = [(x, y) for x in range(100, 132) for y in range(60, 92)]
    windows = {LATTICE.window_for((), Box(x, y, x + 1, y + 1)) for x, y in clicks}
    assert len(windows) <= 25  # 32 pixels are four half windows: at most five starts on each axis


@settings(deadline=None)
@given(extent=extents(), step=steps, towards=st.sets(st.sampled_from(["left", "top", "right", "bottom"])))
def test_the_coarser_window_holds_the_finer_one(extent, step, towards):
    window = LATTICE.window_for((1, 2), extent, step)
    coarser = LATTICE.coarser(window, towards)
    if window.box == FRAME:
        assert coarser is None
    else:
        assert coarser.plane == (1, 2)
        assert coarser.box.contains_box(window.box)
        assert coarser.step == 2 * window.step or coarser.box == FRAME


def test_growing_ends_with_the_whole_image():
    window, count = LATTICE.window_for((), Box(150, 80, 151, 81)), 0
    while (coarser := LATTICE.coarser(window)) is not None:
        window, count = coarser, count + 1
    assert window.box == FRAME
    assert window.step == LATTICE.coarsest_step == 32
    assert count == 5


def test_the_coarser_window_reaches_beyond_the_edge_that_cut():
    window = Window((), Box(64, 64, 80, 80), 1)
    assert LATTICE.coarser(window, ["left"]).box.x0 < 64
    assert LATTICE.coarser(window, ["right"]).box.x1 > 80
    assert LATTICE.coarser(window, ["top"]).box.y0 < 64
    assert LATTICE.coarser(window, ["bottom"]).box.y1 > 80


@settings(max_examples=30, deadline=None)
@given(view=extents(), step=steps)
def test_the_windows_of_a_view_are_all_that_clicks_in_it_need(view, step):
    windows = LATTICE.windows_for_view((), view, step, most=1000)
    xs = range(view.x0, view.x1, max(1, view.width // 7))
    ys = range(view.y0, view.y1, max(1, view.height // 7))
    assert {LATTICE.window_for((), Box(x, y, x + 1, y + 1), step) for x in xs for y in ys} <= set(windows)
    assert len(set(windows)) == len(windows)


@settings(max_examples=30, deadline=None)
@given(view=extents(), step=steps, most=st.integers(1, 9))
def test_the_windows_of_a_view_come_nearest_to_its_centre_first(view, step, most):
    x, y = view.center_xy

    def distance(window):
        return np.hypot(window.box.center_xy[0] - x, window.box.center_xy[1] - y)

    everything = LATTICE.windows_for_view((), view, step, most=1000)
    some = LATTICE.windows_for_view((), view, step, most=most)
    assert sorted(map(distance, everything)) == pytest.approx(list(map(distance, everything)))
    assert some == everything[:most]


def test_the_windows_of_a_huge_view_are_not_all_counted():
    lattice = Lattice((10**7, 10**7), 512)
    assert len(lattice.windows_for_view((), Box(0, 0, 10**7, 10**7), 1)) == 64


def test_a_view_off_the_image_needs_no_window():
    assert LATTICE.windows_for_view((), Box(400, 0, 500, 10), 1) == []


@settings(max_examples=30, deadline=None)
@given(extent=extents(), step=st.sampled_from([1, 2, 4]), seed=st.integers(0, 99))
def test_a_mask_of_a_window_goes_to_the_plane_and_back(extent, step, seed):
    window = LATTICE.window_for((), extent, step)
    mask = Mask.from_array(np.random.default_rng(seed).random(window.size) < 0.4)
    there = window.mask_to_plane(mask, (170, 300))
    assert there.frame_size == (170, 300)
    assert there.crop_box == window.box
    back = window.mask_to_window(there)
    # A partial block at the image's border has no centre to be sampled at.
    whole = np.s_[: window.box.height // window.step, : window.box.width // window.step]
    np.testing.assert_array_equal(back.to_array()[whole], mask.to_array()[whole])


def test_points_and_boxes_go_to_window_pixels():
    window = Window((), Box(32, 64, 64, 96), 2)
    np.testing.assert_allclose(window.points_to_window([(32, 64), (33, 65)]), [(-0.25, -0.25), (0.25, 0.25)])
    assert window.box_to_window((34, 64, 40, 200)) == (1, 0, 4, 16)


def test_a_mask_is_cut_by_inner_edges_only():
    window = Window((), Box(0, 8, 16, 24), 1)
    pixels = np.zeros((16, 16), bool)
    pixels[1:15, 0:15] = True
    assert window.cut_edges(Mask.from_array(pixels), (24, 40)) == ["top", "right"]
    assert window.cut_edges(Mask.from_array(np.zeros((16, 16), bool)), (24, 40)) == []


def test_a_view_step_that_is_no_power_of_two_is_named():
    with pytest.raises(PromptError, match=r"power of two.*got 3"):
        LATTICE.window_for((), Box(0, 0, 1, 1), 3)


def test_an_extent_off_the_image_is_named():
    with pytest.raises(PromptError, match=r"x 400:401, y 0:1 lies outside.*300 wide and 170 high"):
        LATTICE.window_for((), Box(400, 0, 401, 1))
