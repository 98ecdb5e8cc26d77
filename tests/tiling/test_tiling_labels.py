"""The OME-Zarr label writer and the painting behind every label image."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr_models.v05 import ImageLabel

from export.scenes import Relabelled, blobs, flattened, grid_of_squares, squares
from napari_sam.errors import ConfigError, OutputError
from napari_sam.geometry import Box, Mask
from napari_sam.tiling import painting as painting_module
from napari_sam.tiling import writing
from napari_sam.tiling.labels import _start, check_labels_path, is_own_labels, paint_labels, write_labels
from napari_sam.tiling.multiscale import iter_blocks
from napari_sam.tiling.objects import MergedObjects
from napari_sam.tiling.writing import atomic_path

SMALL = {"chunk_px": 32, "shard_px": 64}


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


# Painting ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1 << 18, 400, 0], ids=["all at once", "mixed", "one by one"])
def test_painted_blocks_equal_painting_whole_masks_one_after_another(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(painting_module, "_PIXELS_AT_ONCE", at_once)
    objects = blobs(n=60)
    expected = flattened(objects)
    for block in iter_blocks(objects.image_size, 100):
        np.testing.assert_array_equal(paint_labels(objects, block), expected[block.slices])


@settings(max_examples=50, deadline=None)
@given(
    corners=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 16)), max_size=12),
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
)
def test_painting_does_not_depend_on_the_blocks(corners: list[tuple[int, int]], rows: int, columns: int) -> None:
    objects = squares((20, 16), corners)
    painted = np.zeros((20, 16), np.uint32)
    for block in iter_blocks((20, 16), (rows, columns)):
        painted[block.slices] = paint_labels(objects, block)
    np.testing.assert_array_equal(painted, flattened(objects))


def test_blocks_cover_every_pixel_once() -> None:
    covered = np.zeros((7, 10), int)
    for block in iter_blocks((7, 10), (3, 4)):
        covered[block.slices] += 1
    assert (covered == 1).all()


# Contents ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(300, 420), (1, 1), (2, 5000), (1100, 3), (129, 65)], ids=str)
def test_every_level_is_every_second_pixel_of_the_one_above(size: tuple[int, int], tmp_path: Path) -> None:
    objects = blobs(size, n=25)
    path = write_labels(objects, tmp_path / "out.ome.zarr", **SMALL)
    expected = flattened(objects)
    root = zarr.open_group(path, mode="r")
    levels = root.attrs["ome"]["multiscales"][0]["datasets"]
    for k, level in enumerate(levels):
        assert level["path"] == str(k)
        np.testing.assert_array_equal(root[level["path"]][:], expected[:: 2**k, :: 2**k])
    assert max(root[levels[-1]["path"]].shape) <= 512


def test_another_implementation_of_zarr_reads_the_same_labels(tmp_path: Path) -> None:
    objects = blobs((700, 300), n=60)
    path = write_labels(objects, tmp_path / "out.ome.zarr", **SMALL)
    opened = tensorstore.open({"driver": "zarr3", "kvstore": f"file://{path}/0/"}).result()
    np.testing.assert_array_equal(opened.read().result(), flattened(objects))
    np.testing.assert_array_equal(da.from_zarr(str(path), component="1"), flattened(objects)[::2, ::2])


@pytest.mark.parametrize("pixel_size_um", [None, (0.5, 0.25)], ids=["pixels", "micrometres"])
def test_the_metadata_are_those_of_an_ome_zarr_label_image(
    pixel_size_um: tuple[float, float] | None, tmp_path: Path
) -> None:
    path = write_labels(blobs((1100, 300)), tmp_path / "cells.ome.zarr", pixel_size_um=pixel_size_um)
    image = ImageLabel.from_zarr(zarr.open_group(path, mode="r"))
    (multiscale,) = image.attributes.ome.multiscales  # type: ignore[attr-defined]
    unit = None if pixel_size_um is None else "micrometer"
    size = pixel_size_um or (1.0, 1.0)
    assert [(axis.name, axis.type, axis.unit) for axis in multiscale.axes] == [
        ("y", "space", unit),
        ("x", "space", unit),
    ]
    scales = [list(dataset.coordinateTransformations[0].scale) for dataset in multiscale.datasets]
    assert scales == [[size[0] * 2**k, size[1] * 2**k] for k in range(3)]
    assert multiscale.name == "cells"
    attributes = json.loads((path / "zarr.json").read_text())["attributes"]
    assert attributes["ome"]["version"] == "0.5"
    assert "image-label" in attributes["ome"]
    assert attributes["napari_sam"] == {"objects": 40}


def test_labels_are_32_bit_and_sharded_in_few_files(tmp_path: Path) -> None:
    path = write_labels(blobs((600, 600), n=200), tmp_path / "out.ome.zarr", chunk_px=64, shard_px=256)
    level = zarr.open_group(path, mode="r")["0"]
    assert (level.dtype, level.chunks, level.shards) == (np.uint32, (64, 64), (256, 256))
    assert len([file for file in (path / "0" / "c").rglob("*") if file.is_file()]) == 9


def test_labels_beyond_32_bits_are_kept_in_64(tmp_path: Path) -> None:
    objects = blobs(n=20)
    path = write_labels(Relabelled(objects, by=2**40), tmp_path / "out.ome.zarr", **SMALL)
    level = zarr.open_group(path, mode="r")["0"]
    expected = flattened(objects)
    expected[expected > 0] += np.uint64(2**40)
    assert level.dtype == np.uint64
    np.testing.assert_array_equal(level[:], expected)


def test_the_largest_32_bit_label_stays_in_32_bits(tmp_path: Path) -> None:
    objects = squares((40, 40), [(3, 3)])
    path = write_labels(Relabelled(objects, by=2**32 - 2), tmp_path / "out.ome.zarr", **SMALL)
    level = zarr.open_group(path, mode="r")["0"]
    assert (level.dtype, int(level[5, 5])) == (np.uint32, 2**32 - 1)


def test_an_image_without_objects_is_all_background(tmp_path: Path) -> None:
    path = write_labels(MergedObjects.from_masks([], (50, 60)), tmp_path / "out.ome.zarr")
    level = zarr.open_group(path, mode="r")["0"]
    assert level.shape == (50, 60)
    assert not level[:].any()


def test_the_same_objects_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_labels(blobs(), tmp_path / name / "out.ome.zarr", **SMALL) for name in "ab")
    assert hashes(first) == hashes(second)
    assert len(hashes(first)) > 10


def test_progress_counts_every_shard_of_every_level(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_labels(blobs((600, 100)), tmp_path / "out.ome.zarr", **SMALL, progress=lambda *step: seen.append(step))
    assert seen == [(i, 25) for i in range(1, 26)]  # 10 x 2 shards, then 5 x 1


def test_a_hundred_thousand_small_objects_are_written_in_seconds(tmp_path: Path) -> None:
    objects = grid_of_squares(317)
    started = time.process_time()
    path = write_labels(objects, tmp_path / "out.ome.zarr")
    assert time.process_time() - started < 15
    assert len(np.unique(zarr.open_group(path, mode="r")["0"][:])) == 317**2 + 1 > 100_000


# What was there before, and what goes wrong --------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [(0, 64), (33, 66), (64, 32), (64, 96)], ids=str)
def test_chunks_and_shards_that_do_not_fit_are_refused(layout: tuple[int, int], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"chunk_px must be even.*got {layout[0]} and {layout[1]}; the defaults"):
        write_labels(blobs(n=1), tmp_path / "out.ome.zarr", chunk_px=layout[0], shard_px=layout[1])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("size", [(0.0, 1.0), (1.0, float("nan")), (1.0,), (1.0, -2.0)], ids=str)
def test_an_impossible_pixel_size_is_refused(size: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"two positive numbers \(y, x\) in micrometres, got .*leave it out"):
        write_labels(blobs(n=1), tmp_path / "out.ome.zarr", pixel_size_um=size)


def test_missing_parent_folders_are_made(tmp_path: Path) -> None:
    path = write_labels(blobs(n=3), tmp_path / "a" / "b" / "out.ome.zarr", **SMALL)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["out.ome.zarr"]


def test_a_folder_of_someone_else_is_never_touched(tmp_path: Path) -> None:
    path = tmp_path / "out.ome.zarr"
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"out\.ome\.zarr exists and was not written by napari-sam"):
            write_labels(blobs(n=1), path, overwrite=overwrite)
    assert hashes(tmp_path).keys() == {"out.ome.zarr/thesis.txt"}


@pytest.mark.parametrize("content", ["{}", "no json", '{"attributes": []}', '{"attributes": {"ome": {}}}'], ids=str)
def test_a_zarr_of_another_program_is_not_ours(content: str, tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_text(content)
    assert not is_own_labels(tmp_path)


def test_a_file_with_the_name_of_the_output_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.ome.zarr"
    path.write_text("a file")
    with pytest.raises(OutputError, match=r"not replaced; choose another output name, or move it away"):
        write_labels(blobs(n=1), path, overwrite=True)
    assert path.read_text() == "a file"


def test_someone_elses_folder_at_the_temporary_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.ome.zarr.partial").mkdir()
    (tmp_path / "out.ome.zarr.partial" / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match=r"out\.ome\.zarr\.partial exists and was not written by napari-sam"):
        write_labels(blobs(n=1), tmp_path / "out.ome.zarr")


def test_own_labels_are_replaced_only_when_asked(tmp_path: Path) -> None:
    path = write_labels(blobs(n=3), tmp_path / "out.ome.zarr", **SMALL)
    before = hashes(path)
    with pytest.raises(OutputError, match=r"already holds labels; choose another output name, or ask .* overwritten"):
        write_labels(blobs(n=9), path, **SMALL)
    assert hashes(path) == before
    write_labels(blobs(n=9), path, **SMALL, overwrite=True)
    np.testing.assert_array_equal(zarr.open_group(path, mode="r")["0"][:], flattened(blobs(n=9)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.ome.zarr"]


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "out.ome.zarr").mkdir()
    check_labels_path(tmp_path / "out.ome.zarr")
    write_labels(blobs(n=3), tmp_path / "out.ome.zarr", **SMALL)
    assert is_own_labels(tmp_path / "out.ome.zarr")


def stop_after(steps: int, error: BaseException) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == steps:
            raise error

    return progress


@pytest.mark.parametrize("steps", [1, 30, 41], ids=["at once", "in the middle", "at the last shard"])
def test_a_killed_writing_leaves_no_output_and_starts_again_to_the_same_bytes(steps: int, tmp_path: Path) -> None:
    objects = blobs((300, 600))
    undisturbed = hashes(write_labels(objects, tmp_path / "calm.ome.zarr", **SMALL))
    path = tmp_path / "out" / "calm.ome.zarr"
    total = [0]
    write_labels(objects, tmp_path / "count.ome.zarr", **SMALL, progress=lambda _, n: total.__setitem__(0, n))
    with pytest.raises(KeyboardInterrupt):
        write_labels(objects, path, **SMALL, progress=stop_after(min(steps, total[0]), KeyboardInterrupt()))
    assert not path.exists()
    write_labels(objects, path, **SMALL)
    assert hashes(path) == undisturbed
    assert [entry.name for entry in path.parent.iterdir()] == ["calm.ome.zarr"]


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    path = tmp_path / "out.ome.zarr"
    _start(tmp_path / "out.ome.zarr.partial", "of another run")
    (tmp_path / "out.ome.zarr.partial" / "0").write_text("half a shard")
    (tmp_path / "out.ome.zarr.old").mkdir()
    write_labels(blobs(n=3), path, **SMALL)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.ome.zarr"]
    np.testing.assert_array_equal(zarr.open_group(path, mode="r")["0"][:], flattened(blobs(n=3)))


def test_labels_that_cannot_take_their_name_leave_the_old_ones_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_labels(blobs(n=3), tmp_path / "out.ome.zarr", **SMALL)
    before = hashes(path)
    rename = Path.rename

    def refuse_the_new(self: Path, target: Path) -> Path:
        if self.suffix == ".partial":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new)
    with pytest.raises(OutputError, match="Choose a folder you may write to"):
        write_labels(blobs(n=9), path, **SMALL, overwrite=True)
    assert hashes(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.ome.zarr"]


def test_a_failed_replacement_keeps_the_labels_that_were_there(tmp_path: Path) -> None:
    path = write_labels(blobs(n=3), tmp_path / "out.ome.zarr", **SMALL)
    before = hashes(path)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OutputError, match=r"cannot write .*out\.ome\.zarr: No space left.*The disk is full: free some"):
        write_labels(blobs(n=9), path, **SMALL, overwrite=True, progress=stop_after(5, full))
    assert hashes(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.ome.zarr"]


def test_a_parent_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*A part of this path is a file, not a folder"):
        write_labels(blobs(n=1), tmp_path / "file" / "out.ome.zarr")


# The shared way to write one file ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "The disk is full: free some space"),
        (errno.EACCES, "Choose a folder you may write to"),
        (errno.EROFS, "This file system is read-only"),
        (errno.EIO, "Choose another place, or mend the cause"),
    ],
    ids=["full", "forbidden", "read-only", "anything else"],
)
def test_what_the_system_refuses_is_explained_and_the_old_file_stays(
    number: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def refuse(_: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(writing, "flush_to_disk", refuse)
    with (
        pytest.raises(OutputError, match=rf"cannot write .*table\.csv: {re.escape(os.strerror(number))}\. {advice}"),
        atomic_path(path) as partial,
    ):
        partial.write_text("new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


def test_a_folder_with_the_name_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(OutputError, match="A folder has this name"), atomic_path(tmp_path / "table.csv") as partial:
        partial.write_text("new")


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "table.csv"
    with atomic_path(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["table.csv"]


def test_a_mask_beyond_its_block_is_painted_as_far_as_it_reaches() -> None:
    whole = Mask.from_array(np.ones((200, 300), bool))
    objects = MergedObjects.from_masks([whole], (200, 300))
    assert (paint_labels(objects, Box(250, 150, 300, 200)) == 1).all()
