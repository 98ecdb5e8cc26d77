"""Bad input, one row a case: each gives an ImageError that says what came and what to do, never a foreign traceback."""

import io
from pathlib import Path

import dask.array
import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile
import zarr

from napari_sam.errors import ImageError
from napari_sam.geometry import Box
from napari_sam.images import open_image

IMAGE = np.random.default_rng(0).integers(0, 256, (100, 120), dtype=np.uint8)


def tiff_bytes(image=IMAGE, **layout):
    file = io.BytesIO()
    tifffile.imwrite(file, image, **layout)
    return file.getvalue()


def overwritten(data, start, stop):
    return data[:start] + b"\x55" * (stop - start) + data[stop:]


def jpeg(mode):
    file = io.BytesIO()
    PIL.Image.fromarray(np.dstack([IMAGE] * 3)).convert(mode).save(file, "jpeg")
    return file.getvalue()


PLAIN = tiff_bytes()
TILED = tiff_bytes(tile=(64, 64), compression="zlib")
PNG = imagecodecs.png_encode(IMAGE)
PALETTE = tiff_bytes(photometric="palette", colormap=np.zeros((3, 256), np.uint16))

FILES = {
    "empty": ("a.tif", b"", "is empty; supported are TIFF.*OME-Zarr"),
    "another format": ("a.gif", b"GIF89a....", r"of no supported format \(it starts with b'GIF89a.*supported are TIFF"),
    "text named TIFF": ("a.tif", b"hello world", "of no supported format"),
    "TIFF header alone": ("a.tif", PLAIN[:8], "without any image, so damaged or truncated; copy or save it again"),
    "TIFF directory cut": ("a.tif", PLAIN[:60], "a.tif (is a damaged TIFF|has no series|is truncated)"),
    "TIFF pixels cut": (
        "a.tif",
        PLAIN[:-5000],
        "is truncated: its pixels need 12[0-9]{3} bytes, the file has 7[0-9]{3}",
    ),
    "TIFF tiles cut": ("a.tif", TILED[:-5000], "is truncated: its pixels need [0-9]+ bytes"),
    "TIFF of complex numbers": (
        "a.tif",
        tiff_bytes(IMAGE.astype(np.complex64)),
        "complex64; allowed are bool, integers",
    ),
    "TIFF with a palette": ("a.tif", PALETTE, "palette indices, not colours; convert it"),
    "PNG cut": ("a.png", PNG[: len(PNG) // 2], "cannot be decoded.*damaged or truncated"),
    "PNG header alone": ("a.png", PNG[:8], "cannot be decoded"),
    "PNG damaged": ("a.png", overwritten(PNG, 100, 3000), "cannot be decoded"),
    "JPEG cut": ("a.jpg", jpeg("RGB")[:-4000], "is truncated: a JPEG file without its end"),
    "JPEG header alone": ("a.jpg", jpeg("RGB")[:30], "cannot be decoded"),
    "JPEG for printing": ("a.jpg", jpeg("CMYK"), "CMYK colours, for printing; save it as RGB"),
}


@pytest.mark.parametrize(("name", "data", "message"), FILES.values(), ids=FILES)
def test_bad_files_are_refused_with_their_name(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError, match=message) as caught:
        open_image(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_missing_file_and_a_folder_without_an_image_are_refused(tmp_path):
    with pytest.raises(ImageError, match=r"there is no file or folder .*missing.tif; check the name"):
        open_image(tmp_path / "missing.tif")
    with pytest.raises(ImageError, match="is a folder but no zarr array or group; supported are TIFF"):
        open_image(str(tmp_path))


def test_a_file_without_permission_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.tif").write_bytes(PLAIN)

    def refuse(self, *_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"a.tif cannot be opened: Permission denied. Check its permissions"):
        open_image(tmp_path / "a.tif")


def test_a_series_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    (tmp_path / "a.tif").write_bytes(PLAIN)
    with pytest.raises(ImageError, match=r"has no series 3; it has: 0 .*\(100, 120\)"):
        open_image(tmp_path / "a.tif", series=3)


def test_one_huge_compressed_strip_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sam.images.tiff._LARGEST_PIECE_BYTES", 1000)
    (tmp_path / "a.tif").write_bytes(tiff_bytes(compression="zlib", rowsperstrip=100))
    with pytest.raises(ImageError, match=r"compressed in pieces of 0.0 GiB.*tiled TIFF or as OME-Zarr"):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize("layout", [{"tile": (64, 64)}, {"rowsperstrip": 8}], ids=["tiles", "strips"])
def test_a_damaged_piece_of_a_tiff_is_an_error_and_the_others_are_read(tmp_path, layout):
    data = tiff_bytes(compression="zlib", **layout)
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        at, size = tif.pages[0].dataoffsets[-1], tif.pages[0].databytecounts[-1]
    (tmp_path / "a.tif").write_bytes(overwritten(data, at, at + size))
    plane = open_image(tmp_path / "a.tif").plane()
    np.testing.assert_array_equal(plane.read_raw(Box(0, 0, 64, 64))[..., 0], IMAGE[:64, :64])
    with pytest.raises(ImageError, match=r"a part of .*a.tif cannot be read \(.*:100, .*\).*damaged or incomplete"):
        plane.read_raw(Box(0, 0, 120, 100))


def test_a_tiff_that_is_cut_after_it_was_opened_is_an_error(tmp_path):
    for data in (PLAIN, TILED):
        (tmp_path / "a.tif").write_bytes(data)
        plane = open_image(tmp_path / "a.tif").plane()
        (tmp_path / "a.tif").write_bytes(data[: len(data) // 2])
        with pytest.raises(ImageError, match=r"a part of .*a.tif cannot be read"):
            plane.read_raw(Box(0, 0, 120, 100))
        del plane


def break_metadata(path):
    zarr.create_array(path, data=IMAGE)
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array"')


def break_shape(path):
    zarr.create_array(path, data=IMAGE)
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array", "shape": "wide"}')


def lose_level(path):
    attributes = {"ome": {"version": "0.5", "multiscales": [{"axes": [], "datasets": [{"path": "0"}]}]}}
    zarr.create_group(path, attributes=attributes)


def lose_datasets(path):
    zarr.create_group(path, attributes={"ome": {"version": "0.5", "multiscales": [{"axes": []}]}})


def strange_axes(path):
    axes = [{"name": name} for name in ("angle", "y", "x")]
    image = {"axes": axes, "datasets": [{"path": "0"}]}
    group = zarr.create_group(path, attributes={"ome": {"version": "0.5", "multiscales": [image]}})
    group.create_array("0", data=IMAGE[np.newaxis])


def two_arrays(path):
    group = zarr.create_group(path)
    group.create_array("a", data=IMAGE)
    group.create_array("b", data=IMAGE)


def complex_array(path):
    zarr.create_array(path, data=IMAGE.astype(np.complex64))


ZARRS = {
    "metadata cut": (break_metadata, "zarr metadata of .*a.zarr cannot be read"),
    "metadata of wrong types": (break_shape, "zarr metadata of .*a.zarr cannot be read"),
    "level missing": (lose_level, "a.zarr lists the level '0' but has no such array"),
    "no levels listed": (lose_datasets, "zarr metadata of .*a.zarr cannot be read: KeyError: 'datasets'"),
    "unknown axes": (strange_axes, "axes 'AYX' of .*a.zarr cannot be used; allowed are letters of 'TCZYXS'"),
    "two arrays": (two_arrays, r"with 2 arrays \(a, b\); give the path of one array, such as .*a.zarr.a"),
    "nothing in it": (zarr.create_group, r"with 0 arrays \(none\)"),
    "complex numbers": (complex_array, "complex64; allowed are bool, integers and floats"),
}


@pytest.mark.parametrize(("make", "message"), ZARRS.values(), ids=ZARRS)
def test_bad_zarr_folders_are_refused(tmp_path, make, message):
    make(tmp_path / "a.zarr")
    with pytest.raises(ImageError, match=message):
        open_image(tmp_path / "a.zarr")


def test_a_damaged_chunk_is_an_error_and_the_others_are_read(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=IMAGE, chunks=(50, 60))
    (tmp_path / "a.zarr" / "c" / "1" / "1").write_bytes(b"rubbish")
    plane = open_image(tmp_path / "a.zarr").plane()
    np.testing.assert_array_equal(plane.read_raw(Box(0, 0, 60, 100))[..., 0], IMAGE[:, :60])
    with pytest.raises(ImageError, match=r"a part of .*a.zarr cannot be read \(50:100, 60:120\)"):
        plane.read_raw(Box(60, 50, 120, 100))


def test_an_array_whose_graph_fails_is_an_error():
    def fail(_block):
        raise ValueError("the disk is gone")

    lazy = dask.array.zeros((20, 20), chunks=10).map_blocks(fail, dtype=float)
    with pytest.raises(ImageError, match=r"a part of this dask array cannot be read.*the disk is gone"):
        open_image(lazy).plane().read_raw(Box(0, 0, 5, 5))


ARRAYS = {
    "no rows": (np.zeros((0, 5)), {}, r"is empty: its shape is \(0, 5\)"),
    "no planes": (np.zeros((0, 50, 50)), {}, r"is empty: its shape is \(0, 50, 50\)"),
    "one axis": (np.zeros(5), {}, r"has shape \(5,\); an image needs at least rows and columns"),
    "a number": (np.float64(3), {}, r"has shape \(\); an image needs at least rows and columns"),
    "six axes": (np.zeros((1, 1, 1, 1, 9, 9)), {}, "say which axis is which, for example axes='TCZYX'"),
    "7 channels unnamed": (np.zeros((30, 40, 7)), {}, "looks like 7 channels; say so with axes='YXC'"),
    "complex": (np.zeros((9, 9), complex), {}, "pixels of type complex128; allowed are bool, integers and floats"),
    "text": (np.full((9, 9), "a"), {}, "pixels of type <U1"),
    "objects": (np.full((9, 9), None), {}, "pixels of type object"),
    "too few axes": (np.zeros((9, 9)), {"axes": "ZYX"}, "axes 'ZYX' name 3 axes, but this numpy array has 2"),
    "an axis twice": (np.zeros((9, 9)), {"axes": "YY"}, "axes 'YY' of this numpy array cannot be used"),
    "an unknown axis": (np.zeros((9, 9, 9)), {"axes": "QYX"}, "allowed are letters of 'TCZYXS'"),
    "no columns named": (np.zeros((9, 9)), {"axes": "ZY"}, "with Y and X among them"),
    "channels of colours": (np.zeros((2, 9, 9, 3)), {"axes": "CYXS"}, "channels of colour pixels"),
    "no image": (7, {}, "must be a path, an array, or a list of arrays .*, got int"),
    "None": (None, {}, "got NoneType"),
    "an empty list": ([], {}, "got list"),
    "a list of numbers": ([[1, 2], [3, 4]], {}, "got list"),
    "levels that grow": ([np.zeros((4, 4)), np.zeros((8, 8))], {}, r"must shrink.*\(4, 4\).*\(8, 8\).*numpy.stack"),
    "levels of two types": ([np.zeros((8, 8)), np.zeros((4, 4), int)], {}, "the same axes and type"),
    "a negative pixel size": (IMAGE, {"pixel_size_um": -1}, "positive, in micrometres, got -1"),
    "an infinite pixel size": (IMAGE, {"pixel_size_um": (1, np.inf)}, "positive, in micrometres"),
}


@pytest.mark.parametrize(("given", "options", "message"), ARRAYS.values(), ids=ARRAYS)
def test_bad_arrays_are_refused(given, options, message):
    with pytest.raises(ImageError, match=message):
        open_image(given, **options)


SEVEN = open_image(np.zeros((2, 7, 9, 9)), axes="ZCYX")
CHOICES = {
    "none of 7": ({}, r"has 7 channels \(0 '0', 1 '1', .*6 '6'\); choose one to three.*channels=\(0,\)"),
    "too many": ({"channels": (0, 1, 2, 3)}, "choose one to three channels, got 4; .*has 0 '0'"),
    "an empty choice": ({"channels": ()}, "got 0"),
    "one beyond": ({"channels": 7}, "has no channel 7; it has 0 '0'"),
    "a negative one": ({"channels": -1}, "has no channel -1"),
    "an unknown name": ({"channels": ("DAPI",)}, "has no channel 'DAPI'"),
    "half a channel": ({"channels": (0.5,)}, "has no channel 0.5"),
    "depth beyond": ({"channels": 0, "z": 2}, "z = 2 lies outside .*axis Z has 2 planes; allowed are 0 to 1"),
    "time that is not there": ({"channels": 0, "t": 1}, "t = 1 lies outside .*axis T has 1 planes"),
    "negative depth": ({"channels": 0, "z": -1}, "z = -1 lies outside"),
}


@pytest.mark.parametrize(("chosen", "message"), CHOICES.values(), ids=CHOICES)
def test_bad_choices_of_a_plane_are_refused(chosen, message):
    with pytest.raises(ImageError, match=message):
        SEVEN.plane(**chosen)
