"""Levels of labels written by several threads: the same bytes as by one, each shard once."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from export.scenes import Relabelled, blobs, flattened
from napari_sam.errors import OutputError
from napari_sam.geometry import Box
from napari_sam.tiling import pyramid as pyramid_module
from napari_sam.tiling.labels import paint_labels, write_labels
from napari_sam.tiling.multiscale import MARKER, create_level
from napari_sam.tiling.pyramid import LabelPlace
from napari_sam.tiling.spread import in_threads

SMALL = {"chunk_px": 32, "shard_px": 64}


def digest(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("workers", [2, 5])
@pytest.mark.parametrize("size", [(560, 300), (1, 1), (2, 1200), (641, 129)], ids=str)
def test_any_number_of_threads_writes_the_same_bytes(size, workers, tmp_path):
    objects = blobs(size, n=30)
    write_labels(objects, tmp_path / "one" / "a.ome.zarr", **SMALL)
    write_labels(objects, tmp_path / "many" / "a.ome.zarr", spread=in_threads(workers), **SMALL)
    assert digest(tmp_path / "many") == digest(tmp_path / "one")


@pytest.mark.parametrize("workers", [1, 4])
def test_each_shard_of_each_level_is_written_once(workers, tmp_path, monkeypatch):
    written: Counter[tuple[str, Box]] = Counter()
    write = LabelPlace.write

    def noted(place: LabelPlace, k: int, box: Box, labels: np.ndarray) -> None:
        written[str(k), box] += 1
        write(place, k, box, labels)

    monkeypatch.setattr(LabelPlace, "write", noted)
    path = write_labels(blobs((560, 300), n=30), tmp_path / "a.ome.zarr", spread=in_threads(workers), **SMALL)
    assert set(written.values()) == {1}
    root = zarr.open_group(path, mode="r")
    for name, level in root.arrays():
        covered = np.zeros(level.shape, dtype=int)
        for (of, box), times in written.items():
            covered[box.slices] += times * (of == name)
        assert (covered == 1).all()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(rows=st.integers(1, 150), columns=st.integers(1, 150), seed=st.integers(0, 100))
def test_a_coarser_level_is_every_second_pixel_whatever_pieces_it_is_read_in(rows, columns, seed):
    fine = np.random.default_rng(seed).integers(0, 99, (rows, columns)).astype(np.uint32)
    stored = zarr.create_array(store={}, data=fine, chunks=(16, 16), shards=(32, 64))
    expected = fine[::2, ::2]
    np.testing.assert_array_equal(pyramid_module._halved(stored, Box.of_size(expected.shape)), expected)


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_in_a_thread_is_raised_and_leaves_nothing(workers, tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(pyramid_module, "_halved", broken)
    with pytest.raises(MemoryError, match="no more"):
        write_labels(blobs((560, 300)), tmp_path / "a.ome.zarr", spread=in_threads(workers), **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_objects_that_only_know_their_masks_are_painted_alike():
    objects = blobs((300, 200), n=50)
    whole = Box.of_size(objects.image_size)
    expected = flattened(objects)
    moved = paint_labels(Relabelled(objects, by=7), whole)
    np.testing.assert_array_equal(moved, np.where(expected > 0, expected + 7, 0))


def test_a_worker_that_comes_late_writes_nothing(tmp_path):
    folder = tmp_path / "a.ome.zarr.partial"
    labels = np.ones((64, 64), np.uint32)
    root = zarr.create_group(folder, zarr_format=3)
    create_level(root, "0", (64, 64), labels.dtype, chunk_px=32, shard_px=64)
    place = LabelPlace(folder, "mine")
    for mark in (None, "another run's"):
        if mark is not None:
            (folder / MARKER).write_text(mark)
        with pytest.raises(OutputError, match=r"a.ome.zarr.partial was removed or replaced while .* was writing to it"):
            place.write(0, Box(0, 0, 64, 64), labels)
    assert sorted(path.name for path in folder.rglob("*")) == ["0", MARKER, "zarr.json", "zarr.json"]
    (folder / MARKER).write_text("mine")
    place.write(0, Box(0, 0, 64, 64), labels)
    assert (np.asarray(place.level(0)) == 1).all()


def test_what_a_killed_worker_left_of_a_shard_is_not_published(tmp_path):
    target = tmp_path / "a.ome.zarr"

    def leave(done: int, total: int) -> None:
        (tmp_path / "a.ome.zarr.partial" / "0" / "c" / "0" / "0.1234.partial").write_bytes(b"half")

    write_labels(blobs((560, 300)), target, progress=leave, **SMALL)
    assert not list(target.rglob("*.partial"))
    assert digest(target) == digest(write_labels(blobs((560, 300)), tmp_path / "b" / "a.ome.zarr", **SMALL))
