"""Label TIFFs and the overlay picture."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from export.scenes import Relabelled, blobs, flattened, grid_of_squares, squares
from napari_sam.errors import ConfigError, OutputError
from napari_sam.export import check_tiff_path, label_colours, write_label_tiff, write_overlay
from napari_sam.export import overlay as overlay_module
from napari_sam.export import tiff as tiff_module
from napari_sam.geometry import Box
from napari_sam.images.geo import GeoReference
from napari_sam.tiling.objects import MergedObjects


@pytest.mark.parametrize("size", [(300, 420), (1, 1), (2, 5000), (513, 4100)], ids=str)
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tiff"])
def test_the_tiff_holds_the_flattened_labels(size: tuple[int, int], name: str, tmp_path: Path) -> None:
    objects = blobs(size, n=25)
    with tifffile.TiffFile(write_label_tiff(objects, tmp_path / name)) as tiff:
        page = tiff.pages[0]
        assert (page.dtype, page.tile, page.compression.name) == (np.uint32, (512, 512), "ADOBE_DEFLATE")
        assert tiff.is_ome == (name == "a.ome.tiff")
        np.testing.assert_array_equal(tiff.asarray(), flattened(objects))


def test_the_pixel_size_is_written(tmp_path: Path) -> None:
    with tifffile.TiffFile(write_label_tiff(blobs(n=1), tmp_path / "a.tif", pixel_size_um=(0.5, 0.25))) as tiff:
        tags = tiff.pages[0].tags
        x, y = (tags[name].value[0] / tags[name].value[1] for name in ("XResolution", "YResolution"))
        assert (x, y, tags["ResolutionUnit"].value) == (40_000, 20_000, 3)
    with tifffile.TiffFile(write_label_tiff(blobs(n=1), tmp_path / "a.ome.tif", pixel_size_um=(0.5, 0.25))) as tiff:
        assert 'PhysicalSizeX="0.25"' in tiff.ome_metadata
        assert 'PhysicalSizeY="0.5"' in tiff.ome_metadata


def test_a_georeference_is_passed_on(tmp_path: Path) -> None:
    tags = {33550: (0.5, 0.5, 0.0), 33922: (0.0, 0.0, 0.0, 5e5, 5e6, 0.0), 34735: (1, 1, 0, 1, 3072, 0, 1, 32633)}
    geo = GeoReference(affine=(0.5, 0.0, 500_000.25, 0.0, -0.5, 4_999_999.75), epsg=32633, tags=tags | {34737: "UTM|"})
    with tifffile.TiffFile(write_label_tiff(blobs(n=1), tmp_path / "a.tif", geo=geo)) as tiff:
        written = tiff.pages[0].tags
        assert {code: tuple(written[code].value) for code in tags} == tags
        assert written[34737].value == "UTM|"


def test_the_same_objects_give_the_same_tiff(tmp_path: Path) -> None:
    paths = [write_label_tiff(blobs(), tmp_path / name / "a.ome.tif", pixel_size_um=(1.0, 1.0)) for name in "xy"]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_large_images_become_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_module, "_BIGTIFF_PIXELS", 1000)
    with tifffile.TiffFile(write_label_tiff(blobs(n=2), tmp_path / "a.tif")) as tiff:
        assert tiff.is_bigtiff


def test_images_too_large_for_a_tiff_are_sent_to_ome_zarr(tmp_path: Path) -> None:
    objects = MergedObjects.from_masks([], (100_000, 100_000))
    with pytest.raises(OutputError, match=r"100000 x 100000 pixels is too large for one TIFF.*ending in \.ome\.zarr"):
        write_label_tiff(objects, tmp_path / "a.tif")
    assert not any(tmp_path.iterdir())


def test_labels_beyond_32_bits_are_sent_to_ome_zarr(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a label is beyond 2\^32 - 1.*ending in \.ome\.zarr"):
        write_label_tiff(Relabelled(squares((9, 9), [(0, 0)]), by=2**32), tmp_path / "a.tif")


def test_other_endings_than_tif_are_refused() -> None:
    with pytest.raises(OutputError, match=r"a label TIFF ends in \.tif or \.tiff, got a\.png"):
        check_tiff_path("a.png", (9, 9))


def test_a_failure_while_tiles_are_written_keeps_the_old_tiff(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("old")

    def progress(done: int, total: int) -> None:
        assert total == 18
        if done == 10:
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"No space left on device\. The disk is full"):
        write_label_tiff(blobs((513, 4100), n=3), tmp_path / "a.tif", progress=progress)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("a.tif", "old")]


# The overlay ---------------------------------------------------------------------------------------------------------


def gray(box: Box, step: int) -> NDArray[np.uint8]:
    """A dark image without any colour of its own."""
    return np.full((-(-box.height // step), -(-box.width // step), 3), 40, np.uint8)


def drawn(path: Path) -> NDArray[np.bool_]:
    return np.asarray((imagecodecs.png_decode(path.read_bytes()) != 40).any(axis=2))


def test_at_full_size_exactly_the_border_pixels_are_coloured(tmp_path: Path) -> None:
    objects = squares((30, 40), [(5, 6), (20, 10)], side=6)
    expected = np.zeros((30, 40), bool)
    for x, y in [(5, 6), (20, 10)]:
        expected[y : y + 6, x : x + 6] = True
        expected[y + 1 : y + 5, x + 1 : x + 5] = False
    np.testing.assert_array_equal(drawn(write_overlay(objects, tmp_path / "a.png", gray)), expected)


def test_objects_at_the_images_edge_are_closed(tmp_path: Path) -> None:
    objects = squares((10, 10), [(0, 0)], side=10)
    assert drawn(write_overlay(objects, tmp_path / "a.png", gray)).sum() == 36


@pytest.mark.parametrize("max_px", [1024, 300, 64, 16])
def test_the_longer_side_fits_and_no_object_vanishes(max_px: int, tmp_path: Path) -> None:
    objects = squares((400, 1000), [(x, 200) for x in range(10, 990, 70)], side=2)
    picture = drawn(write_overlay(objects, tmp_path / "a.png", gray, max_px=max_px))
    step = {1024: 1, 300: 4, 64: 16, 16: 64}[max_px]
    assert picture.shape == (-(-400 // step), -(-1000 // step))
    for x in range(10, 990, 70):
        assert picture[200 // step, x // step]


@pytest.mark.parametrize("max_px", [1024, 200])
def test_blocks_leave_no_trace(max_px: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write_overlay(blobs(), tmp_path / "whole.png", gray, max_px=max_px)
    monkeypatch.setattr(overlay_module, "_BLOCK_PX", 64)
    assert write_overlay(blobs(), tmp_path / "blocks.png", gray, max_px=max_px).read_bytes() == whole.read_bytes()


def test_the_image_shows_where_no_outline_is(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    path = write_overlay(squares((30, 40), [(5, 5)]), tmp_path / "a.png", lambda box, step: image[box.slices])
    picture = imagecodecs.png_decode(path.read_bytes())
    changed = (picture != image).any(axis=2)
    assert 1 <= changed.sum() <= 12
    assert not changed[6:8, 6:8].any()


def test_neighbouring_labels_differ_in_colour() -> None:
    colours = label_colours(np.arange(1, 2000)).astype(int)
    assert np.abs(np.diff(colours, axis=0)).max(axis=1).min() > 80
    assert colours.max(axis=1).min() > 200
    assert label_colours(np.array([2**40, 2**63 + 5], dtype=np.uint64)).shape == (2, 3)


def test_large_labels_are_drawn_too(tmp_path: Path) -> None:
    objects = Relabelled(squares((30, 40), [(5, 6)], side=6), by=2**40)
    assert drawn(write_overlay(objects, tmp_path / "a.png", gray)).sum() == 20


def test_a_picture_of_many_objects_keeps_its_memory_small(tmp_path: Path) -> None:
    largest = [0]

    def read(box: Box, step: int) -> NDArray[np.uint8]:
        largest[0] = max(largest[0], box.area)
        return gray(box, step)

    seen: list[tuple[int, int]] = []
    write_overlay(grid_of_squares(280), tmp_path / "a.png", read, progress=lambda *at: seen.append(at))
    assert largest[0] <= 2048**2
    assert seen == [(i, 4) for i in range(1, 5)]


def test_an_overlay_that_is_no_png_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"an overlay is a PNG, got .*a\.jpg; let the name end in \.png"):
        write_overlay(squares((9, 9), []), tmp_path / "a.jpg", gray)


def test_too_small_a_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_px must be at least 16, got 4"):
        write_overlay(squares((9, 9), []), tmp_path / "a.png", gray, max_px=4)
