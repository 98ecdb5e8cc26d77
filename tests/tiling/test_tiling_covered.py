"""Covered objects: the rule on run lengths equals the plain one on a drawn image, whatever the order of the masks."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.geometry import Box, Mask
from napari_sam.tiling import MergedObjects
from napari_sam.tiling import covered as covered_module
from napari_sam.tiling.covered import uncovered_rows

SIZE = (40, 50)


def order_of(mask: Mask) -> tuple[float, ...]:
    box = mask.box
    return (-mask.predicted_iou, box.y0, box.x0, box.y1, box.x1, mask.area)


def plain(masks: list[Mask], cover_thresh: float) -> list[int]:
    """Best first, each drawn unless the drawn ones cover too much of it."""
    drawn = np.zeros(SIZE, dtype=bool)
    kept = []
    for row in sorted(range(len(masks)), key=lambda row: order_of(masks[row])):
        pixels = masks[row].to_array()
        if np.count_nonzero(pixels & drawn) <= cover_thresh * pixels.sum():
            kept.append(row)
            drawn |= pixels
    return sorted(kept)


def random_masks(seed: int, n: int) -> list[Mask]:
    """Ragged rectangles of all sizes, with few different ratings, so that there are ties."""
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(n):
        height, width = rng.integers(1, 25, 2).tolist()
        y, x = int(rng.integers(0, SIZE[0] - height)), int(rng.integers(0, SIZE[1] - width))
        pixels = rng.random((height, width)) < 0.8
        pixels[0, 0] = True
        window = Box(x, y, x + width, y + height)
        masks.append(Mask.from_window(pixels, window, SIZE, predicted_iou=rng.integers(1, 6) / 5))
    return masks


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 25), cover_thresh=st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]))
def test_what_stays_is_what_the_plain_rule_keeps(seed, n, cover_thresh):
    masks = random_masks(seed, n)
    rows = uncovered_rows(MergedObjects.from_masks(masks, SIZE), cover_thresh)
    assert rows.tolist() == plain(masks, cover_thresh)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_the_rows_does_not_matter(seed):
    masks = random_masks(seed, 15)
    other = np.random.default_rng(seed + 1).permutation(len(masks))
    rows = uncovered_rows(MergedObjects.from_masks(masks, SIZE), 0.5)
    shuffled = uncovered_rows(MergedObjects.from_masks([masks[i] for i in other], SIZE), 0.5)
    assert sorted(other[shuffled].tolist()) == rows.tolist()


def test_pieces_of_the_work_change_nothing(monkeypatch):
    masks = random_masks(3, 40)
    monkeypatch.setattr(covered_module, "PAIRS_PER_READING", 3)
    monkeypatch.setattr(covered_module, "BLOCK_PX", 7)
    assert uncovered_rows(MergedObjects.from_masks(masks, SIZE), 0.5).tolist() == plain(masks, 0.5)


def test_masks_whose_boxes_leave_no_doubt_are_not_read():
    masks = [Mask.from_window(np.ones((8, 8)), Box(x, 4, x + 8, 12), SIZE) for x in (0, 6, 20, 30)]
    read: list[int] = []

    def load(row: int) -> Mask:
        read.append(row)
        return masks[row]

    objects = MergedObjects(MergedObjects.from_masks(masks, SIZE).table, SIZE, load)
    assert uncovered_rows(objects, 0.5).tolist() == [0, 1, 2, 3]
    assert read == []
