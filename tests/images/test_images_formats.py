"""Each format is written here and must come back pixel for pixel, with what its file says about it."""

import json
import pickle

import dask.array
import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr

from napari_sam.geometry import Box
from napari_sam.images import open_image

GRAY = np.random.default_rng(1).integers(0, 4000, (150, 170), dtype=np.uint16)
RGB = np.random.default_rng(2).integers(0, 256, (90, 110, 3), dtype=np.uint8)
WINDOW = Box(13, 27, 101, 88)


def raw_window(source, **chosen):
    return source.plane(**chosen).read_raw(WINDOW)


def expect_gray(source, expected=GRAY):
    assert source.shape == expected.shape
    np.testing.assert_array_equal(raw_window(source)[..., 0], expected[WINDOW.slices])


TIFF_LAYOUTS = {
    "one uncompressed piece": {},
    "big-endian": {"byteorder": ">"},
    "big-endian, compressed": {"byteorder": ">", "compression": "lzw"},
    "tiles": {"tile": (64, 64)},
    "compressed tiles with a predictor": {"tile": (64, 64), "compression": "zlib", "predictor": True},
    "strips of 7 rows, the last shorter": {"rowsperstrip": 7, "compression": "zstd"},
    "one compressed strip": {"rowsperstrip": 150, "compression": "zlib"},
    "BigTIFF": {"bigtiff": True, "tile": (32, 48), "compression": "zlib"},
}


@pytest.mark.parametrize("layout", TIFF_LAYOUTS.values(), ids=TIFF_LAYOUTS)
def test_a_tiff_of_any_layout_comes_back(tmp_path, layout):
    tifffile.imwrite(tmp_path / "a.tif", GRAY, **layout)
    source = open_image(tmp_path / "a.tif")
    assert source.axes == "YX"
    assert source.dtype == np.uint16
    expect_gray(source)


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_any_pixel_type_comes_back(tmp_path, dtype, order):
    pixels = (GRAY > 2000) if dtype == "?" else (GRAY % 120).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(64, 64), byteorder=order)
    expect_gray(open_image(tmp_path / "a.tif"), pixels)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_colour_tiff_comes_back_however_its_samples_lie(tmp_path, planar):
    pixels = RGB if planar == "contig" else np.moveaxis(RGB, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", planarconfig=planar, tile=(32, 32))
    source = open_image(tmp_path / "a.tif")
    assert source.channel_names == ("red", "green", "blue")
    np.testing.assert_array_equal(source.plane().read(WINDOW), RGB[WINDOW.slices])


def test_a_multiband_tiff_has_channels_and_no_colours(tmp_path):
    bands = np.stack([GRAY] * 4, axis=2) + np.arange(4, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", bands, photometric="minisblack", planarconfig="contig", tile=(64, 64))
    source = open_image(tmp_path / "a.tif")
    assert source.axes == "YXC"
    np.testing.assert_array_equal(raw_window(source, channels=(3, 1)), bands[WINDOW.slices][..., [3, 1]])


def test_a_gray_tiff_with_alpha_is_gray(tmp_path):
    pixels = np.stack([GRAY, np.full_like(GRAY, 9)], axis=2)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", extrasamples=["unassalpha"])
    expect_gray(open_image(tmp_path / "a.tif"))


def test_pages_of_a_plain_tiff_are_depth(tmp_path):
    stack = np.stack([GRAY, GRAY + 1, GRAY + 2])
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in stack:
            writer.write(page, contiguous=False, metadata=None, tile=(64, 64))
    source = open_image(tmp_path / "a.tif")
    assert source.axes == "ZYX"
    np.testing.assert_array_equal(raw_window(source, z=2)[..., 0], stack[2][WINDOW.slices])


def test_an_imagej_stack_keeps_axes_and_pixel_size(tmp_path):
    stack = np.arange(2 * 3 * 120 * 130, dtype=np.uint16).reshape(2, 3, 120, 130)
    tifffile.imwrite(
        tmp_path / "a.tif", stack, imagej=True, resolution=(4.0, 2.0), metadata={"axes": "ZCYX", "unit": "um"}
    )
    source = open_image(tmp_path / "a.tif")
    assert source.axes == "ZCYX"
    assert source.pixel_size_um == (0.5, 0.25)
    np.testing.assert_array_equal(raw_window(source, z=1, channels=2)[..., 0], stack[1, 2][WINDOW.slices])


def test_an_ome_tiff_keeps_axes_levels_sizes_and_names(tmp_path):
    pixels = np.stack([(GRAY[:96, :96] + c).repeat(2, axis=0).repeat(2, axis=1) for c in range(2)])
    metadata = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 250, "PhysicalSizeYUnit": "nm"}
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(pixels, subifds=1, tile=(64, 64), metadata=metadata | {"Channel": {"Name": ["DAPI", "GFP"]}})
        writer.write(pixels[:, ::2, ::2], subfiletype=1, tile=(64, 64))
    source = open_image(tmp_path / "a.ome.tif")
    assert (source.axes, source.pixel_size_um, source.channel_names) == ("CYX", (0.25, 0.5), ("DAPI", "GFP"))
    assert source.level_factors == (1, 2)
    np.testing.assert_array_equal(raw_window(source, channels="GFP")[..., 0], pixels[1][WINDOW.slices])
    np.testing.assert_array_equal(source.plane().read_raw(Box(0, 0, 192, 192), 2)[..., 0], pixels[0, ::2, ::2])


def test_a_slide_keeps_its_pyramid_and_resolution_and_leaves_the_thumbnail_out(tmp_path):
    slide = RGB.repeat(16, axis=0).repeat(16, axis=1)
    about = "Aperio Image Library v12\r\n1760x1440 |AppMag = 20|MPP = 0.4990"
    kept = {"tile": (128, 128), "photometric": "rgb", "metadata": None, "compression": "zlib"}
    with tifffile.TiffWriter(tmp_path / "a.svs") as writer:
        writer.write(slide, description=about, **kept)
        writer.write(slide[::9, ::9], description=about, photometric="rgb", metadata=None)
        writer.write(slide[::4, ::4], description=about, **kept)
        writer.write(slide[::16, ::16], description=about, **kept)
    source = open_image(tmp_path / "a.svs")
    assert source.pixel_size_um == (0.499, 0.499)
    assert source.level_factors == (1, 4, 16)
    np.testing.assert_array_equal(source.plane().read(Box(0, 0, 1760, 1440), 16), RGB)
    np.testing.assert_array_equal(source.plane().read(Box(160, 320, 1600, 1440), 16), RGB[20:, 10:100])


@pytest.mark.parametrize(("metadata", "number"), [(None, 1), ({}, 2)], ids=["bare pages", "pages with descriptions"])
def test_a_pyramid_of_plain_pages_is_found_and_other_pages_are_no_levels(tmp_path, metadata, number):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in (GRAY, GRAY[::2, ::2], GRAY[:50, :20], GRAY[::4, ::4]):
            writer.write(page, tile=(64, 64), metadata=metadata)
    source = open_image(tmp_path / "a.tif")
    assert [level.shape for level in source.levels] == [(150, 170), (75, 85), (38, 43)]
    assert open_image(tmp_path / "a.tif", series=number).shape == (50, 20)


def geo_tags(pixel_is_point):
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 2 if pixel_is_point else 1, 3072, 0, 1, 32632)
    return [
        (33550, 12, 3, (0.5, 0.25, 0.0), True),
        (33922, 12, 6, (10.0, 20.0, 0.0, 1000.0, 2000.0, 0.0), True),
        (34735, 3, len(keys), keys, True),
        (42113, 2, 5, "7", True),
    ]


@pytest.mark.parametrize(("pixel_is_point", "centre"), [(False, 0.5), (True, 0.0)], ids=["area", "point"])
def test_a_geotiff_keeps_its_place_on_the_map(tmp_path, pixel_is_point, centre):
    tifffile.imwrite(tmp_path / "a.tif", GRAY, tile=(64, 64), extratags=geo_tags(pixel_is_point), metadata=None)
    source = open_image(tmp_path / "a.tif")
    assert source.geo.epsg == 32632
    assert source.geo.tags[33922] == (10.0, 20.0, 0.0, 1000.0, 2000.0, 0.0)
    assert source.nodata == 7.0
    mapped = source.geo.to_map([[10, 20], [12, 24]])
    expected = np.array([[1000 + centre * 0.5, 2000 - centre * 0.25], [1001 + centre * 0.5, 1999 - centre * 0.25]])
    np.testing.assert_allclose(mapped, expected)


def test_a_geotiff_with_a_matrix_may_be_rotated(tmp_path):
    matrix = (0.0, -2.0, 0.0, 100.0, -3.0, 0.0, 0.0, 200.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    tifffile.imwrite(tmp_path / "a.tif", GRAY, extratags=[(34264, 12, 16, matrix, True)], metadata=None)
    geo = open_image(tmp_path / "a.tif").geo
    assert geo.epsg is None
    np.testing.assert_allclose(geo.to_map([[0, 0], [9, 1]]), [[99.0, 198.5], [97.0, 171.5]])


def test_a_plain_tiff_has_no_place_on_the_map(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GRAY)
    assert open_image(tmp_path / "a.tif").geo is None


def test_a_resolution_in_centimetres_is_a_pixel_size_and_one_in_inches_is_not(tmp_path):
    tifffile.imwrite(tmp_path / "cm.tif", GRAY, resolution=(20000, 10000), resolutionunit="CENTIMETER")
    tifffile.imwrite(tmp_path / "inch.tif", GRAY, resolution=(300, 300), resolutionunit="INCH")
    assert open_image(tmp_path / "cm.tif").pixel_size_um == (1.0, 0.5)
    assert open_image(tmp_path / "inch.tif").pixel_size_um is None


PICTURES = {
    "gray": RGB[..., 0],
    "gray of 16 bits": GRAY,
    "colour": RGB,
    "colour of 16 bits": RGB.astype(np.uint16) * 257,
    "with alpha": np.dstack([RGB, RGB[..., 0]]),
    "gray with alpha": RGB[..., :2],
}


@pytest.mark.parametrize("pixels", PICTURES.values(), ids=PICTURES)
def test_a_png_comes_back_without_its_alpha(tmp_path, pixels):
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))
    shown = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels[..., : 3 if pixels.shape[2] > 2 else 1]
    np.testing.assert_array_equal(raw_window(open_image(tmp_path / "a.png")), shown[WINDOW.slices])


@pytest.mark.parametrize("pixels", [RGB, RGB[..., 0]], ids=["colour", "gray"])
def test_a_jpeg_comes_back_nearly(tmp_path, pixels):
    ramp = np.arange(pixels.shape[1], dtype=np.uint8).reshape(1, -1, *[1] * (pixels.ndim - 2))
    smooth = np.ascontiguousarray(np.broadcast_to(ramp, pixels.shape))
    (tmp_path / "a.jpg").write_bytes(imagecodecs.jpeg_encode(smooth, level=95))
    read = raw_window(open_image(tmp_path / "a.jpg")).squeeze()
    np.testing.assert_allclose(read.astype(int), smooth[WINDOW.slices].astype(int), atol=3)


@pytest.mark.parametrize("version", [2, 3])
def test_a_zarr_array_comes_back_and_missing_chunks_are_the_fill_value(tmp_path, version):
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=GRAY.shape, chunks=(64, 64), dtype="u2", fill_value=5, zarr_format=version
    )
    array[:64, :64] = GRAY[:64, :64]
    expected = np.full_like(GRAY, 5)
    expected[:64, :64] = GRAY[:64, :64]
    expect_gray(open_image(tmp_path / "a.zarr"), expected)
    expect_gray(open_image(array), expected)


def test_a_sharded_zarr_array_with_named_axes_comes_back(tmp_path):
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=(2, 150, 170),
        chunks=(1, 16, 16),
        shards=(1, 64, 64),
        dtype=">u2",
        dimension_names=["c", "y", "x"],
    )
    array[:] = np.stack([GRAY, GRAY + 1])
    source = open_image(tmp_path / "a.zarr")
    assert source.axes == "CYX"
    np.testing.assert_array_equal(raw_window(source, channels=1)[..., 0], GRAY[WINDOW.slices] + 1)


def write_ome_zarr(path, version):
    names = [("t", "time"), ("c", "channel"), ("y", "space"), ("x", "space")]
    axes = [{"name": n, "type": k} | ({"unit": "nanometer"} if k == "space" else {}) for n, k in names]
    scales = [[1, 1, 500.0 * f, 250.0 * f] for f in (1, 2)]
    datasets = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": s}]} for i, s in enumerate(scales)
    ]
    image = {
        "axes": axes,
        "datasets": datasets,
        "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 2, 2]}],
    }
    ome = {"multiscales": [image], "omero": {"channels": [{"label": "DNA"}, {"label": "actin"}]}}
    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    if version == "0.5":
        group.attrs["ome"] = ome | {"version": version}
    else:
        image["version"] = version
        group.attrs.update(ome)
    pixels = np.stack([GRAY, GRAY + 1])[np.newaxis]
    for i, level in enumerate((pixels, pixels[..., ::2, ::2])):
        group.create_array(str(i), shape=level.shape, chunks=(1, 1, 64, 64), dtype="u2")[:] = level
    return pixels


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_ome_zarr_keeps_axes_levels_sizes_and_names(tmp_path, version):
    pixels = write_ome_zarr(tmp_path / "a.ome.zarr", version)
    source = open_image(tmp_path / "a.ome.zarr")
    assert (source.axes, source.pixel_size_um, source.channel_names) == ("TCYX", (1.0, 0.5), ("DNA", "actin"))
    assert source.level_factors == (1, 2)
    np.testing.assert_array_equal(raw_window(source, channels="actin")[..., 0], pixels[0, 1][WINDOW.slices])


def test_a_group_of_several_ome_zarr_images_is_opened_by_series(tmp_path):
    zarr.create_group(tmp_path / "a.zarr").attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    pixels = write_ome_zarr(tmp_path / "a.zarr" / "1", "0.5")
    source = open_image(tmp_path / "a.zarr", series=1)
    np.testing.assert_array_equal(raw_window(source, channels=0)[..., 0], pixels[0, 0][WINDOW.slices])


def test_a_group_of_one_array_is_that_array(tmp_path):
    zarr.create_group(tmp_path / "a.zarr").create_array("data", data=GRAY)
    expect_gray(open_image(tmp_path / "a.zarr"))


ARRAYS = {
    "numpy": GRAY,
    "big-endian": GRAY.astype(">u2"),
    "not contiguous": np.asfortranarray(GRAY),
    "dask": dask.array.from_array(GRAY, chunks=(64, 50)),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_are_read_as_they_are(array):
    source = open_image(array)
    assert source.dtype.isnative
    expect_gray(source)


def test_levels_of_a_pyramid_may_be_given_as_a_list():
    source = open_image([GRAY, GRAY[::2, ::2]])
    np.testing.assert_array_equal(source.plane().read_raw(Box(0, 0, 170, 150), 2)[..., 0], GRAY[::2, ::2])


@pytest.mark.parametrize("axes", ["YXC", "CYX", "XYC", "YXS", "SYX", "CXY"])
def test_any_order_of_axes_gives_the_same_plane(axes):
    letter = "S" if "S" in axes else "C"
    moved = np.transpose(RGB, [f"YX{letter}".index(axis) for axis in axes])
    np.testing.assert_array_equal(raw_window(open_image(moved, axes=axes)), RGB[WINDOW.slices])


def test_time_and_depth_are_chosen():
    stack = np.arange(2 * 3 * 100 * 110, dtype=np.int32).reshape(2, 3, 100, 110)
    source = open_image(stack, axes="TZYX")
    np.testing.assert_array_equal(raw_window(source, t=1, z=2)[..., 0], stack[1, 2][WINDOW.slices])


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((9, 8), "YX"),
        ((9, 8, 3), "YXS"),
        ((9, 8, 4), "YXS"),
        ((9, 8, 1), "YXS"),
        ((5, 30, 40), "ZYX"),
        ((2, 5, 30, 40), "TZYX"),
        ((5, 30, 40, 3), "ZYXS"),
        ((2, 100000), "YX"),
        ((1, 1), "YX"),
    ],
)
def test_axes_are_guessed_where_the_shape_leaves_no_doubt(shape, axes):
    assert open_image(np.zeros(shape, np.uint8)).axes == axes


def test_the_pixel_size_can_be_overridden():
    assert open_image(GRAY, pixel_size_um=0.5).pixel_size_um == (0.5, 0.5)
    assert open_image(GRAY, pixel_size_um=(2, 1)).pixel_size_um == (2.0, 1.0)


def identity(image):
    return json.dumps(open_image(image).identity, sort_keys=True)


def test_identity_is_json_and_changes_with_the_image(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GRAY)
    zarr.create_array(tmp_path / "a.zarr", data=GRAY)
    lazy = dask.array.from_array(GRAY, chunks=50)
    given = [GRAY, GRAY + 1, GRAY.view(">u2"), lazy, tmp_path / "a.tif", tmp_path / "a.zarr"]
    before = [identity(image) for image in given]
    assert len(set(before)) == len(given)
    assert before == [identity(image) for image in given]
    tifffile.imwrite(tmp_path / "a.tif", GRAY[:-1])
    assert identity(tmp_path / "a.tif") != before[4]


def test_a_plane_travels_to_another_process(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GRAY, tile=(64, 64), compression="zlib")
    for image in (tmp_path / "a.tif", GRAY, dask.array.from_array(GRAY, chunks=50)):
        plane = open_image(image).plane()
        plane = plane.with_normalisation(plane.normalisation)
        there = pickle.loads(pickle.dumps(plane))
        assert there.normalisation == plane.normalisation
        np.testing.assert_array_equal(there.read(WINDOW), plane.read(WINDOW))
