"""Regions mended by clicks: every click is met, and what is far from it stays as it was."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.predict.mending import mended

SIZE = 40
ROWS, COLUMNS = np.indices((SIZE, SIZE))


def disc(x: int, y: int, radius: float) -> np.ndarray:
    return np.hypot(ROWS - y, COLUMNS - x) <= radius


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A region of two discs that touch, another region beside it, and how probable each pixel is foreground."""
    labels = np.where(disc(12, 12, 7) | disc(24, 12, 7), 1, 0) + np.where(disc(20, 32, 5), 2, 0)
    depth = np.max(
        [
            7 - np.hypot(ROWS - 12, COLUMNS - 12),
            7 - np.hypot(ROWS - 12, COLUMNS - 24),
            5 - np.hypot(ROWS - 32, COLUMNS - 20),
        ],
        axis=0,
    )
    return labels.astype(np.int32), 1 / (1 + np.exp(-depth))


def points(*places: tuple[int, int]) -> np.ndarray:
    return np.array(places, dtype=np.intp).reshape(-1, 2)


def test_a_negative_click_cuts_off_the_cell_it_lies_in():
    labels, probability = scene()
    found = mended(labels, probability, points((12, 12)), points((25, 12)))
    assert found is not None
    assert (found & disc(12, 12, 7)).sum() > 0.9 * disc(12, 12, 7).sum()
    assert (found & disc(24, 12, 7)).sum() < 0.2 * disc(24, 12, 7).sum()


def test_a_positive_click_beside_the_region_adds_what_is_around_it_alone():
    labels, probability = scene()
    found = mended(labels, probability, points((12, 12), (12, 20)), points())
    assert found is not None
    assert found[20, 12]
    added = found & (labels != 1)
    assert not added[:, 20:].any()
    assert (found | (labels != 1)).all()


def test_without_a_region_under_a_positive_point_there_is_nothing_to_mend():
    labels, probability = scene()
    assert mended(labels, probability, points((2, 38)), points((12, 12))) is None
    assert mended(labels, probability, points(), points((12, 12))) is None


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1)), min_size=1, max_size=6, unique=True),
    st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1)), max_size=6, unique=True),
)
def test_all_clicks_that_do_not_touch_are_met(positive, negative):
    labels, probability = scene()
    apart = [p for p in positive if all(max(abs(p[0] - n[0]), abs(p[1] - n[1])) > 2 for n in negative)]
    found = mended(labels, probability, points(*apart), points(*negative))
    if found is not None:
        assert all(found[y, x] for x, y in apart)
        assert not any(found[y, x] for x, y in negative)
