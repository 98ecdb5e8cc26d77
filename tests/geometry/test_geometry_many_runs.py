"""Run lengths of many masks as columns: they are the masks, in any selection and order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.geometry import Box, Mask, mask_ious
from napari_sam.geometry import suppression as suppression_module
from napari_sam.geometry.overlap import pair_ious, runs_of, shared_pixels
from napari_sam.geometry.runs import MaskRuns, draw
from napari_sam.geometry.suppression import iter_neighbours, keep_best

SIZE = (40, 50)


def random_masks(seed: int, n: int) -> list[Mask]:
    """Ragged ones, some full, some without a pixel."""
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(n):
        height, width = rng.integers(1, 20, 2).tolist()
        y, x = int(rng.integers(0, SIZE[0] - height)), int(rng.integers(0, SIZE[1] - width))
        pixels = rng.random((height, width)) < rng.choice([0.0, 0.3, 0.8, 1.0])
        masks.append(Mask.from_window(pixels, Box(x, y, x + width, y + height), SIZE))
    return masks


def drawn(runs: MaskRuns, number: int) -> np.ndarray:
    return draw(runs.take(np.array([number])).strips(), Box.of_size(SIZE))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 12))
def test_columns_are_the_masks_in_any_selection(seed, n):
    masks = random_masks(seed, n)
    runs = runs_of(masks)
    assert len(runs) == n
    assert runs.strips().areas(n).tolist() == [mask.area for mask in masks]
    rows = np.random.default_rng(seed).integers(0, max(n, 1), 2 * n)
    taken = runs.take(rows)
    assert len(taken) == len(rows)
    for number, row in enumerate(rows.tolist()):
        np.testing.assert_array_equal(drawn(taken, number), masks[row].to_array())


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(0, 9), max_size=3))
def test_parts_joined_are_the_whole(seed, cuts):
    masks = random_masks(seed, 9)
    bounds = [0, *sorted(cuts), 9]
    joined = MaskRuns.joined([runs_of(masks[a:b]) for a, b in pairwise(bounds)])
    whole = runs_of(masks)
    for name in ("boxes", "counts", "offsets"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))


def test_nothing_joined_is_nothing():
    nothing = MaskRuns.joined([])
    assert (len(nothing), nothing.boxes.shape, nothing.offsets.tolist()) == (0, (0, 4), [0])
    assert len(nothing.strips().owner) == 0


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_overlaps_of_columns_are_those_of_the_masks(seed):
    masks = random_masks(seed, 8)
    pairs = np.stack(np.triu_indices(8, k=1), axis=1)
    pixels = [mask.to_array() for mask in masks]
    shared = [int(np.count_nonzero(pixels[a] & pixels[b])) for a, b in pairs.tolist()]
    areas = np.array([mask.area for mask in masks])
    assert shared_pixels(runs_of(masks), pairs).tolist() == shared
    np.testing.assert_array_equal(pair_ious(runs_of(masks), areas, pairs), mask_ious(masks, pairs))


def random_boxes(seed: int, n: int, *, whole: bool) -> np.ndarray:
    """Small ones, a few as high or wide as everything, some empty."""
    rng = np.random.default_rng(seed)
    sides = np.where(rng.random((n, 2)) < 0.05, rng.uniform(0, 300, (n, 2)), rng.uniform(0, 15, (n, 2)))
    corners = rng.uniform(-50, 200, (n, 2))
    boxes = np.concatenate([corners, corners + sides], axis=1)
    return np.floor(boxes).astype(np.int64) if whole else boxes


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), whole=st.booleans(), band=st.sampled_from([0.3, 4, 100]))
def test_neighbours_found_in_bands_are_all_pairs_that_meet_each_once(seed, whole, band):
    boxes = random_boxes(seed, 60, whole=whole)
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    meet = (np.maximum(low, low[:, 0]) < np.minimum(high, high[:, 0])).all(axis=2)
    expected = np.argwhere(np.triu(meet, k=1)).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suppression_module, "PAIRS_PER_CHUNK", 20)
        patch.setattr(suppression_module, "BAND_IN_BOXES", band)
        found = [pair for pairs in iter_neighbours(boxes, 0.0) for pair in pairs.tolist()]
    assert sorted(found) == expected


def test_candidates_for_a_plane_of_boxes_do_not_grow_with_it(monkeypatch):
    looked_at: list[int] = []
    sweep = suppression_module._sweep

    def noted(boxes, rows, reach):
        looked_at.append(suppression_module._n_candidates(reach))
        return sweep(boxes, rows, reach)

    monkeypatch.setattr(suppression_module, "_sweep", noted)

    def candidates_a_box(n: int) -> float:
        looked_at.clear()
        x, y = (axis.ravel() * 20 for axis in np.mgrid[:n, :n])
        pairs = list(iter_neighbours(np.stack([x, y, x + 22, y + 22], axis=1), 0.0))
        assert sum(map(len, pairs)) == 2 * n * (n - 1) + 2 * (n - 1) ** 2
        return sum(looked_at) / n**2

    assert candidates_a_box(480) == pytest.approx(candidates_a_box(240), rel=0.1)


def test_the_best_are_kept_whatever_pieces_the_work_is_cut_in(monkeypatch):
    rng = np.random.default_rng(3)
    conflicts = rng.integers(0, 80, (150, 2))
    conflicts = conflicts[conflicts[:, 0] != conflicts[:, 1]]
    expected = keep_best(80, conflicts).tolist()
    monkeypatch.setattr(suppression_module, "WINNERS_AT_ONCE", 3)
    assert keep_best(80, conflicts).tolist() == expected
    assert 0 in expected
