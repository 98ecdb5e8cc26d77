"""Windows for boxes: each box in exactly one of them, inside it, with room around, and few windows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.geometry import Box
from napari_sam.workflows.experiments.box_windows import LARGEST_PART, plan_windows

WINDOW_PX = 64


@st.composite
def scenes(draw):
    """An image size and boxes inside it."""
    height, width = (draw(st.integers(1, 700)) for _ in range(2))
    boxes = []
    for _ in range(draw(st.integers(0, 12))):
        x0, y0 = draw(st.floats(0, width - 0.5)), draw(st.floats(0, height - 0.5))
        x1, y1 = draw(st.floats(x0 + 0.25, width)), draw(st.floats(y0 + 0.25, height))
        boxes.append((x0, y0, x1, y1))
    return (height, width), np.array(boxes).reshape(-1, 4)


@settings(deadline=None)
@given(scenes())
def test_each_box_lies_inside_its_only_window_and_is_small_in_it(scene):
    size, boxes = scene
    windows = plan_windows(boxes, size, WINDOW_PX)
    assert sorted(row for w in windows for row in w.rows.tolist()) == list(range(len(boxes)))
    for window in windows:
        seen = window.window
        assert Box.of_size(size).contains_box(seen)
        assert window.step & (window.step - 1) == 0
        assert max(seen.size) < WINDOW_PX * window.step + window.step
        assert seen.x0 % window.step == seen.y0 % window.step == 0
        for x0, y0, x1, y1 in boxes[window.rows].tolist():
            assert seen.x0 <= x0 < x1 <= seen.x1
            assert seen.y0 <= y0 < y1 <= seen.y1
            is_whole = seen == Box.of_size(size)
            assert is_whole or max(x1 - x0, y1 - y0) <= LARGEST_PART * WINDOW_PX * window.step


@settings(deadline=None)
@given(scenes())
def test_no_coarser_window_is_taken_than_a_box_needs(scene):
    size, boxes = scene
    for window in plan_windows(boxes, size, WINDOW_PX):
        largest = max(max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes[window.rows].tolist())
        assert window.step == 1 or largest > LARGEST_PART * WINDOW_PX * window.step / 2


def test_boxes_near_one_another_share_a_window():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1000, (400, 2))
    windows = plan_windows(np.hstack([corners, corners + 10]), (1024, 1024), WINDOW_PX)
    assert len(windows) <= (2 * 1024 / WINDOW_PX) ** 2
    assert all(w.step == 1 for w in windows)
    assert len(plan_windows(np.array([[2, 2, 9, 9], [11, 12, 20, 20]]), (1024, 1024), WINDOW_PX)) == 1


def test_no_boxes_need_no_windows():
    assert plan_windows(np.zeros((0, 4)), (10, 10), WINDOW_PX) == []
