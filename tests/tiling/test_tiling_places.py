"""Indices of boxes by place: what they find is what looking at every box finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.geometry import Box
from napari_sam.tiling import places as places_module
from napari_sam.tiling.places import BoxPlaces, GrowingPlaces


def random_boxes(seed: int, n: int) -> list[Box]:
    """Mostly small ones, some as large as everything, some empty."""
    rng = np.random.default_rng(seed)
    sides = np.where(rng.random((n, 1)) < 0.1, rng.integers(0, 200, (n, 2)), rng.integers(0, 12, (n, 2)))
    corners = rng.integers(0, 150, (n, 2))
    return [Box(x, y, x + w, y + h) for (x, y), (w, h) in zip(corners.tolist(), sides.tolist(), strict=True)]


def questions(seed: int) -> list[Box]:
    return [*random_boxes(seed + 1, 12), Box(0, 0, 400, 400), Box(380, 0, 400, 20), Box(5, 5, 5, 9)]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 60), cell_px=st.sampled_from([7, 32, 512]))
def test_boxes_that_meet_are_found_in_their_order(seed, n, cell_px):
    boxes = random_boxes(seed, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places_module, "CELL_PX", cell_px)
        columns = np.array([box.as_xyxy() for box in boxes], dtype=np.int64).reshape(-1, 4).T
        fixed, growing = BoxPlaces(*columns), GrowingPlaces()
        for number, box in enumerate(boxes):
            growing.add(number, box)
        for asked in questions(seed):
            expected = [number for number, box in enumerate(boxes) if box.intersects(asked)]
            assert fixed.meeting(asked).tolist() == expected
            assert growing.meeting(asked) == expected
    assert len(growing) == n


def test_an_index_needs_a_few_bytes_a_box():
    n = 200_000
    x0, y0 = np.divmod(np.arange(n, dtype=np.int64), 500)
    places = BoxPlaces(40 * x0, 40 * y0, 40 * x0 + 30, 40 * y0 + 30)
    own = [getattr(places, name) for name in ("_order", "_first", "_long")]
    assert sum(array.nbytes for array in own) < 9 * n
    assert places.meeting(Box(85, 85, 90, 90)).tolist() == [1002]
