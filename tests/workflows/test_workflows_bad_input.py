"""Bad input to the whole job, one row a case (design.md, section 8): it works with a checked result, or it is refused
with our own error and what was there before is as it was."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import safetensors.torch
import tifffile
import torch
import zarr

from napari_sam.errors import CheckpointError, ImageError, OutputError
from napari_sam.tiling import TilingConfig, labels, writing
from napari_sam.workflows import SegmentConfig, segment
from workflows.workflows_scenes import TILES, digest, found, squares, stand_in, tiny_checkpoint, tiny_model

SQUARES = squares() > 100


def as_type(dtype, low=0.0, high=1.0):
    return np.where(SQUARES, high, low).astype(dtype)


def with_holes():
    image = as_type(np.float32, 0.25, 0.75)
    image[:6, :6], image[0, 30:40], image[1, 30:40] = np.nan, np.inf, -np.inf
    return image


def strip():
    image = np.zeros((2, 100_000), np.uint8)
    image[:, 10::10_000] = image[:, 11::10_000] = 200
    return image


def in_channel(number, count):
    return np.stack([SQUARES * np.uint8(200 if i == number else 0) for i in range(count)])


RGBA = np.dstack([as_type(np.uint8, 0, 200)] * 3 + [np.full_like(squares(), 255)])

WORKS = {
    "NaN and infinity": (with_holes(), {}, 16),
    "NaN alone": (np.full((70, 70), np.nan), {}, 0),
    "constant": (np.full((200, 200), 7, np.uint16), {}, 0),
    "one pixel": (np.full((1, 1), 5, np.uint8), {}, 0),
    "one row": (as_type(np.uint8, 0, 200)[10:11], {}, 4),
    "one column": (as_type(np.uint8, 0, 200)[:, 10:11], {}, 4),
    "a strip of 2 x 100000": (strip(), {"tiling": TilingConfig(core_px=16384, halo_px=64)}, 10),
    "bool": (SQUARES, {}, 16),
    "uint8": (as_type(np.uint8, 3, 250), {}, 16),
    "int8": (as_type(np.int8, -100, 100), {}, 16),
    "uint16": (as_type(np.uint16, 100, 60_000), {}, 16),
    "int16": (as_type(np.int16, -3000, 3000), {}, 16),
    "uint32": (as_type(np.uint32, 0, 4e9), {}, 16),
    "int32": (as_type(np.int32, -2e9, 2e9), {}, 16),
    "uint64": (as_type(np.uint64, 0, 1e19), {}, 16),
    "int64": (as_type(np.int64, -9e18, 9e18), {}, 16),
    "float16": (as_type(np.float16, -1, 1), {}, 16),
    "float32": (as_type(np.float32, -1e30, 1e30), {}, 16),
    "float64": (as_type(np.float64, 0, 1e-200), {}, 16),
    "big-endian integers": (as_type(">u2", 0, 5000), {}, 16),
    "big-endian floats": (as_type(">f8", 0, 5000), {}, 16),
    "RGBA": (RGBA, {}, 16),
    "the sixth of 7 channels": (in_channel(5, 7), {"config": SegmentConfig(axes="CYX", channels=(5,))}, 16),
    "another of 7 channels": (in_channel(5, 7), {"config": SegmentConfig(axes="CYX", channels=(4,))}, 0),
}


@pytest.mark.parametrize(("image", "options", "objects"), WORKS.values(), ids=WORKS)
def test_strange_images_have_the_objects_one_sees(tmp_path, monkeypatch, image, options, objects):
    stand_in(monkeypatch)
    result = segment(image, tmp_path / "out.ome.zarr", tiny_model(), **{"tiling": TILES, **options})
    assert len(result.objects) == objects
    assert result.is_complete
    assert np.count_nonzero(result.labels) == result.table.area_px.sum()
    if objects == 16:
        np.testing.assert_array_equal(np.asarray(result.labels) > 0, SQUARES)


THIN = {
    "one pixel": np.full((1, 1), 5, np.uint8),
    "one bright pixel of two": np.array([[0, 200]], np.uint8),
    "a thin strip": strip()[:, :3000],
}


@pytest.mark.parametrize("image", THIN.values(), ids=THIN)
def test_a_real_network_takes_images_of_any_size(tmp_path, image):
    result = segment(image, tmp_path / "out.tif", tiny_model(), tiling=TilingConfig(core_px=1024, halo_px=8))
    assert result.is_complete
    assert result.labels.shape == image.shape


def test_byte_order_and_format_do_not_matter(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    image = as_type(np.uint16, 0, 5000)
    tifffile.imwrite(tmp_path / "big.tif", image, byteorder=">")
    tifffile.imwrite(tmp_path / "little.tif", image, byteorder="<")
    results = [segment(tmp_path / f"{o}.tif", tmp_path / f"{o}-out.tif", tiny_model()) for o in ("big", "little")]
    assert found(results[0]) == found(results[1])
    assert len(results[0].objects) == 16


def test_a_missing_zarr_chunk_is_empty_as_zarr_defines_it(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    zarr.create_array(tmp_path / "image.zarr", data=as_type(np.uint8, 0, 200), chunks=(64, 64))
    (tmp_path / "image.zarr" / "c" / "0" / "1").unlink()
    result = segment(tmp_path / "image.zarr", tmp_path / "out.tif", tiny_model(), tiling=TILES)
    assert len(result.objects) == 12
    assert not np.asarray(result.labels)[:64, 64:].any()


class Flaky:
    """An array of which a corner can be read once, and never again."""

    def __init__(self, pixels):
        self.pixels, self.shape, self.dtype, self.times = pixels, pixels.shape, pixels.dtype, 0

    def __getitem__(self, key):
        if key[0].stop > 240 and key[1].stop > 240:
            self.times += 1
            if self.times > 1:
                raise OSError("the cable was pulled")
        return self.pixels[key]


def test_a_part_that_cannot_be_read_any_more_costs_its_tile_alone(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    image = np.where(squares((256, 256)) > 100, 200, 0).astype(np.uint8)
    result = segment(Flaky(image), tmp_path / "out.tif", tiny_model(), tiling=TilingConfig(core_px=64, halo_px=8))
    failed = result.report.tiles_failed
    assert list(failed) == [15, 16], "the last one, and the one of reduced resolution"
    assert "cannot be read (176:256, 176:256): OSError: the cable was pulled" in failed[15]
    np.testing.assert_array_equal(np.asarray(result.labels)[:192] > 0, image[:192] > 0)


def tiff(tmp_path):
    tifffile.imwrite(tmp_path / "image.tif", squares())
    return tmp_path / "image.tif"


def truncated_tiff(tmp_path):
    path = tiff(tmp_path)
    path.write_bytes(path.read_bytes()[:-5000])
    return path


def corrupt_png(tmp_path):
    data = bytearray(imagecodecs.png_encode(np.random.default_rng(0).integers(0, 256, (100, 100), np.uint8)))
    data[100:3000] = b"\x55" * 2900
    (tmp_path / "image.png").write_bytes(data)
    return tmp_path / "image.png"


def damaged_chunk(tmp_path):
    zarr.create_array(tmp_path / "image.zarr", data=squares(), chunks=(64, 64))
    (tmp_path / "image.zarr" / "c" / "1" / "1").write_bytes(b"rubbish")
    return tmp_path / "image.zarr"


def empty_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


IMAGES = {
    "no rows": (lambda _: np.zeros((0, 5)), {}, r"is empty: its shape is \(0, 5\)"),
    "no columns": (lambda _: np.zeros((5, 0, 3)), {}, r"is empty: its shape is \(5, 0, 3\)"),
    "complex": (lambda _: np.zeros((9, 9), complex), {}, "allowed are bool, integers and floats"),
    "7 channels": (lambda _: np.zeros((7, 9, 9)), {"axes": "CYX"}, "has 7 channels .*choose one to three"),
    "a plane that is not there": (tiff, {"z": 3}, "z = 3 lies outside .*image.tif"),
    "no such channel": (tiff, {"channels": (2,)}, "has no channel 2"),
    "a truncated TIFF": (truncated_tiff, {}, "image.tif is truncated: its pixels need"),
    "a corrupt PNG": (corrupt_png, {}, "image.png cannot be decoded"),
    "a damaged chunk": (damaged_chunk, {}, r"a part of .*image.zarr cannot be read.*damaged or incomplete"),
    "a missing file": (lambda path: path / "none.tif", {}, "there is no file or folder .*none.tif"),
    "an empty folder": (empty_folder, {}, "is a folder but no zarr array or group"),
    "no image at all": (lambda _: 17, {}, "must be a path, an array, or a list of arrays"),
}


@pytest.mark.parametrize(("make", "config", "message"), IMAGES.values(), ids=IMAGES)
def test_images_that_cannot_be_read_are_refused_and_nothing_is_written(tmp_path, make, config, message):
    image = make(tmp_path)
    before = digest(tmp_path)
    with pytest.raises(ImageError, match=message):
        segment(image, tmp_path / "out.ome.zarr", tiny_model(), config=SegmentConfig(**config))
    assert digest(tmp_path) == before


ROIS = {
    "another shape": (np.ones((5, 9), np.uint8), r"has shape \(5, 9\), the image \(128, 128\)"),
    "a missing file": ("none.geojson", "none.geojson cannot be opened"),
}


@pytest.mark.parametrize(("roi", "message"), ROIS.values(), ids=ROIS)
def test_regions_that_do_not_fit_are_refused(tmp_path, roi, message):
    with pytest.raises(ImageError, match=message):
        segment(squares(), tmp_path / "out.tif", tiny_model(), roi=roi)
    assert list(tmp_path.iterdir()) == []


class Malicious:
    """Would write a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def malicious(folder):
    with (folder / "model.pth").open("wb") as file:
        pickle.dump({"model": Malicious(folder / "owned")}, file)
    return folder / "model.pth"


def rubbish(folder):
    (folder / "model.pth").write_bytes(b"rubbish" * 100)
    return folder / "model.pth"


def other_network(folder):
    torch.save({"conv1.weight": torch.zeros(3, 3)}, folder / "model.pth")
    return folder / "model.pth"


def without_a_key(folder):
    path = tiny_checkpoint(folder / "model.safetensors")
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in list(file.keys())[1:]}
    safetensors.torch.save_file(tensors, path, metadata)
    return path


def cut_off(folder):
    path = tiny_checkpoint(folder / "model.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    return path


MODELS = {
    "unknown": (lambda _: "vit_bb", "there is no model called 'vit_bb'. Did you mean vit_b"),
    "missing": (lambda folder: folder / "none.pth", "none.pth"),
    "rubbish": (rubbish, "model.pth"),
    "malicious": (malicious, "model.pth"),
    "another network": (other_network, "model.pth"),
    "a key is missing": (without_a_key, "model.safetensors"),
    "cut off": (cut_off, "model.safetensors"),
}


@pytest.mark.parametrize(("make", "message"), MODELS.values(), ids=MODELS)
def test_checkpoints_that_cannot_be_used_are_refused_and_nothing_is_written(tmp_path, make, message):
    model = make(tmp_path)
    before = digest(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        segment(squares(), tmp_path / "out.ome.zarr", model)
    assert digest(tmp_path) == before
    assert not (tmp_path / "owned").exists()


def test_a_folder_one_may_not_write_to_is_refused_at_once(tmp_path, monkeypatch):
    calls = stand_in(monkeypatch)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # modes do not hold for root
    with pytest.raises(OutputError, match=r"cannot write .*out.tif: .* is read-only. Choose a folder you may write to"):
        segment(squares(), tmp_path / "out.tif", tiny_model())
    assert calls.segmented == 0


def test_an_output_below_a_file_is_refused_at_once(tmp_path, monkeypatch):
    calls = stand_in(monkeypatch)
    (tmp_path / "file").write_text("precious")
    for name in ("out.tif", "out.ome.zarr"):
        with pytest.raises(OutputError, match=r"file is a file, not a folder"):
            segment(squares(), tmp_path / "file" / name, tiny_model())
    assert (tmp_path / "file").read_text() == "precious"
    assert calls.segmented == 0


def fill_disk_after(monkeypatch, writes):
    """From now on so many files can be written, then the disk is full."""
    left = [writes]

    def flush(path):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(writing, "flush_to_disk", flush)
    monkeypatch.setattr(labels, "flush_to_disk", flush)


@pytest.mark.parametrize("writes", [0, 2, 4, 7])
@pytest.mark.parametrize("name", ["out.ome.zarr", "out.tif"])
def test_a_full_disk_ends_the_run_and_keeps_the_old_results(tmp_path, monkeypatch, name, writes):
    """The files are: manifest, skipped tiles, five tiles, the merge, the labels."""
    stand_in(monkeypatch)
    output, table = tmp_path / name, tmp_path / "t.csv"
    segment(255 - squares(), output, tiny_model(), tiling=TILES, table=table)
    old = digest(output), digest(table)
    with pytest.MonkeyPatch.context() as patch:
        fill_disk_after(patch, writes)
        with pytest.raises(OutputError, match=r"The disk is full: free some space.*then run the same command again"):
            segment(squares(), output, tiny_model(), tiling=TILES, table=table, restart=True)
    assert (digest(output), digest(table)) == old
    assert not list(tmp_path.glob("*.partial"))
    again = segment(squares(), output, tiny_model(), tiling=TILES, table=table)
    assert again.report.tiles_reused == min(max(writes - 2, 0), 5)
    assert len(again.objects) == np.asarray(again.labels).max() == 16


@pytest.mark.skipif(os.name != "posix", reason="this system sets no limit to the size of files")
def test_a_file_system_that_takes_no_such_file_is_named(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*: File too large"):
            segment(squares(), tmp_path / "out.tif", tiny_model(), tiling=TILES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "out.tif").exists()
