"""Mask files whose columns do not fit each other are refused before anything is made of them; large ones streamed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.errors import LedgerError
from napari_sam.geometry import Box, Mask
from napari_sam.tiling import store as store_module
from napari_sam.tiling.store import MaskCache, StoredMasks, TileStore, archive_of, gathered, read_arrays, write_arrays

SIZE = (60, 80)
Columns = dict[str, np.ndarray]


def masks() -> list[Mask]:
    rng = np.random.default_rng(0)
    windows = [Box(3, 5, 20, 30), Box(40, 10, 45, 50), Box(0, 0, 80, 60)]
    return [Mask.from_window(rng.random(window.size) < 0.6, window, SIZE) for window in windows]


def longer_run(columns: Columns) -> None:
    columns["counts"][4] += 1


def shifted_offsets(columns: Columns) -> None:
    columns["offsets"][1] += 2


def falling_offsets(columns: Columns) -> None:
    columns["offsets"][1] = columns["offsets"][2] + 1


def offsets_beyond_the_end(columns: Columns) -> None:
    columns["offsets"][-1] += 1000


def box_outside(columns: Columns) -> None:
    columns["boxes"][0] += [70, 0, 70, 0]


def box_inside_out(columns: Columns) -> None:
    columns["boxes"][0] = columns["boxes"][0][[2, 1, 0, 3]]


def missing_row(columns: Columns) -> None:
    columns["areas"] = columns["areas"][1:]


def flat_boxes(columns: Columns) -> None:
    columns["boxes"] = columns["boxes"].ravel()


def fractional_counts(columns: Columns) -> None:
    columns["counts"] = columns["counts"].astype(np.float64)


WRONG = [
    *(longer_run, shifted_offsets, falling_offsets, offsets_beyond_the_end, box_outside, box_inside_out),
    *(missing_row, flat_boxes, fractional_counts),
]


@pytest.mark.parametrize("spoil", WRONG)
def test_columns_that_do_not_fit_count_as_not_done_and_are_named(tmp_path, spoil: Callable[[Columns], None]):
    store = TileStore(tmp_path, SIZE)
    store.write(0, masks())
    columns = {name: column.copy() for name, column in store.read(0).columns().items()}
    spoil(columns)
    write_arrays(store.path(0), columns)
    assert not store.is_finished(0)
    with pytest.raises(LedgerError, match=r"tile-0000000.npz is damaged \(its columns do not fit.*run the same again"):
        store.read(0)


def test_run_lengths_come_in_the_order_asked_for_and_each_file_is_read_once(tmp_path):
    store = TileStore(tmp_path, SIZE)
    for index in (0, 1, 2):
        store.write(index, [mask.shifted(0, 0, SIZE) for mask in masks()[index:]])
    asked: list[int] = []

    def load(index: int):
        asked.append(index)
        return store.read(index)

    tile, index = np.array([2, 0, 1, 0, 2]), np.array([0, 2, 0, 1, 0])
    runs = gathered(MaskCache(load), tile, index)
    expected = [store.read(t).mask(i) for t, i in zip(tile.tolist(), index.tolist(), strict=True)]
    assert sorted(asked) == [0, 1, 2]
    np.testing.assert_array_equal(runs.boxes, [mask.box_xyxy for mask in expected])
    np.testing.assert_array_equal(runs.counts, np.concatenate([mask.rle.counts for mask in expected]))
    assert len(gathered(MaskCache(load), tile[:0], index[:0])) == 0


def test_a_large_archive_is_streamed_to_the_same_bytes(tmp_path, monkeypatch):
    arrays = {"numbers": np.arange(5000), "text": np.array("x"), "wide": np.zeros((30, 4), np.int32)}
    monkeypatch.setattr(store_module, "LARGEST_ARCHIVE_IN_MEMORY", 1000)
    write_arrays(tmp_path / "a.npz", arrays)
    assert (tmp_path / "a.npz").read_bytes() == archive_of(arrays)
    np.testing.assert_array_equal(read_arrays(tmp_path / "a.npz", ["numbers"])["numbers"], np.arange(5000))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 8))
def test_areas_and_centroids_are_those_of_each_mask_to_the_last_bit(seed, n):
    rng = np.random.default_rng(seed)
    far = (3_000_000, 70_000)
    made = [
        Mask.from_window(rng.random((h, w)) < rng.choice([0.0, 0.5, 1.0]), Box(x, y, x + w, y + h), far)
        for h, w, x, y in rng.integers([1, 1, 0, 0], [30, 30, 69_000, 2_999_000], (n, 4)).tolist()
    ]
    stored = StoredMasks.of(made, far)
    assert stored.areas.tolist() == [mask.area for mask in made]
    expected = np.array([mask.centroid_xy for mask in made], dtype=np.float64).reshape(-1, 2)
    assert stored.centroids_xy.tobytes() == expected.tobytes()
