"""Files opened through napari with this plugin: lazy, with levels, sizes, channels and labels; bad ones are named."""

from __future__ import annotations

import dask.array as da
import npe2
import numpy as np
import pytest
import tifffile
import zarr
from napari.components import ViewerModel
from napari.errors import ReaderPluginError
from napari.layers import Image, Labels
from test_ui_manifest import MANIFEST

from napari_sam.errors import ImageError
from napari_sam.ui import readers
from napari_sam.ui.commands import add_file
from napari_sam.ui.readers import file_reader, folder_reader, read_layers
from napari_sam.workflows.label_files import save_labels

GRAY = np.random.default_rng(1).integers(0, 4000, (192, 160), dtype=np.uint16)
PLUGIN = "napari-sam-tiles"


@pytest.fixture
def viewer(npe2pm):
    """A viewer model whose plugin manager knows this plugin alone, from the manifest as it stands."""
    # Blocked: the window's menus, which other tests look at, are not to hear of it.
    with npe2pm.events.blocked(), npe2pm.tmp_plugin(manifest=npe2.PluginManifest.from_file(MANIFEST)):
        yield ViewerModel()


def opened(viewer, path, **options):
    return viewer.open(str(path), plugin=PLUGIN, **options)


def write_pyramid(path, pixels, **options):
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels, subifds=1, tile=(64, 64), **options)
        writer.write(pixels[..., ::2, ::2], subfiletype=1, tile=(64, 64))


def write_ome_zarr(path, pixels, axes, scale, version="0.5", **more):
    root = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    for k in range(2):
        step = tuple(slice(None, None, 2**k) if axis in "yx" else slice(None) for axis in axes)
        root.create_array(str(k), data=pixels[step])
    kinds = {"c": "channel", "t": "time"}
    listed = [
        {"name": a, "type": kinds.get(a, "space"), **({"unit": "micrometer"} if a in "zyx" else {})} for a in axes
    ]
    levels = [
        {
            "path": str(k),
            "coordinateTransformations": [
                {"type": "scale", "scale": [s * (2**k if a in "yx" else 1) for a, s in zip(axes, scale, strict=True)]}
            ],
        }
        for k in range(2)
    ]
    ome = {"version": version, "multiscales": [{"version": version, "axes": listed, "datasets": levels}], **more}
    root.attrs.update({"ome": ome} if version == "0.5" else ome)


def test_an_ome_tiff_becomes_one_lazy_multiscale_layer_a_channel_with_its_size(viewer, tmp_path):
    path = tmp_path / "cells.ome.tif"
    metadata = {"axes": "CYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "Channel": {"Name": ["DAPI", "GFP"]}}
    write_pyramid(path, np.stack([GRAY, GRAY + 1]), metadata=metadata)
    layers = opened(viewer, path)
    assert [layer.name for layer in layers] == ["cells DAPI", "cells GFP"]
    for number, layer in enumerate(layers):
        assert layer.multiscale
        assert [level.shape for level in layer.data] == [(192, 160), (96, 80)]
        assert all(isinstance(level, da.Array) for level in layer.data)
        np.testing.assert_array_equal(layer.data[0], GRAY + number)
        assert tuple(layer.scale) == (0.5, 0.25)
        assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]
        assert tuple(layer.axis_labels) == ("y", "x")


def test_a_colour_slide_becomes_one_rgb_layer_with_its_pyramid(viewer, tmp_path):
    slide = np.random.default_rng(2).integers(0, 255, (1440, 1760, 3), dtype=np.uint8)
    kept = {"tile": (128, 128), "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(tmp_path / "a.svs") as writer:
        writer.write(slide, description="Aperio Image Library v12\r\n|AppMag = 20|MPP = 0.5", **kept)
        writer.write(slide[::4, ::4], **kept)
    (layer,) = opened(viewer, tmp_path / "a.svs")
    assert (layer.rgb, layer.multiscale, tuple(layer.scale)) == (True, True, (0.5, 0.5))
    np.testing.assert_array_equal(layer.data[1], slide[::4, ::4])


def test_a_geotiff_is_opened_by_its_own_ending_and_by_the_command_under_any_name(viewer, tmp_path):
    tags = [(33550, "d", 3, (0.5, 0.5, 0.0), True), (33922, "d", 6, (0, 0, 0, 1000.0, 2000.0, 0), True)]
    for name in ("a.gtif", "a.tif"):
        tifffile.imwrite(tmp_path / name, GRAY, tile=(64, 64), extratags=tags)
    (layer,) = opened(viewer, tmp_path / "a.gtif")
    np.testing.assert_array_equal(layer.data, GRAY)
    add_file(viewer, str(tmp_path / "a.tif"))
    np.testing.assert_array_equal(viewer.layers[-1].data, GRAY)


def test_a_plain_tif_is_left_to_other_readers(viewer, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GRAY)
    with pytest.raises(ValueError, match="not a compatible reader"):
        opened(viewer, tmp_path / "a.tif")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_ome_zarr_stack_keeps_its_order_spacing_and_the_labels_inside(viewer, tmp_path, version):
    stack = np.stack([[GRAY, GRAY + 1]] * 3)
    path = tmp_path / "a.ome.zarr"
    write_ome_zarr(path, stack, "zcyx", (2.0, 1, 0.5, 0.25), version)
    write_ome_zarr(path / "labels" / "nuclei", stack[:, 0] % 5, "zyx", (2.0, 0.5, 0.25), version)
    inside = zarr.open_group(path / "labels", mode="a", zarr_format=3 if version == "0.5" else 2)
    inside.attrs.update({"ome": {"labels": ["nuclei"]}} if version == "0.5" else {"labels": ["nuclei"]})
    first, second, labels = opened(viewer, path)
    assert isinstance(first, Image)
    assert (isinstance(labels, Labels), labels.name) == (True, "nuclei")
    np.testing.assert_array_equal(second.data[0], stack[:, 1])
    np.testing.assert_array_equal(labels.data[0], stack[:, 0] % 5)
    for layer in (first, second, labels):
        assert tuple(layer.scale) == (2.0, 0.5, 0.25)
        assert tuple(layer.axis_labels) == ("z", "y", "x")


def test_labels_of_ours_come_with_the_table_beside_them(viewer, tmp_path):
    labels = np.zeros((600, 700), np.uint32)
    labels[10:20, 30:50], labels[500:550, 600:650] = 4, 9
    features = {"index": [4, 9], "predicted_iou": [0.5, 0.75]}
    path, _ = save_labels(
        labels, tmp_path / "a", "ome-zarr", pixel_size=(0.5, 0.5), units=("um", "um"), features=features
    )
    (layer,) = opened(viewer, path)
    assert isinstance(layer, Labels)
    np.testing.assert_array_equal(layer.data[0], labels)
    assert layer.features["index"].tolist() == [0, 4, 9]
    assert layer.features["predicted_iou"].tolist()[1:] == [0.5, 0.75]
    assert layer.features["area_um2"].tolist()[1:] == [50, 625]
    assert "predicted_iou: 0.5" in layer.get_status((5.0, 17.0), world=True)["coordinates"]  # napari's status bar


def test_a_table_that_is_none_is_told_and_the_labels_are_shown(viewer, tmp_path, monkeypatch):
    path, table = save_labels(np.eye(8, dtype=np.uint8), tmp_path / "a", "ome-zarr")
    table.write_text("name,price\npear,1\n")
    told = []
    monkeypatch.setattr(readers, "show_warning", told.append)
    (layer,) = opened(viewer, path)
    np.testing.assert_array_equal(layer.data, np.eye(8))
    assert "a is shown without its table" in told[0]


def test_a_stack_of_bool_planes_without_sizes_is_shown_in_pixels(tmp_path):
    write_pyramid(tmp_path / "a.ome.tif", np.stack([GRAY > 9] * 3), metadata={"axes": "TYX"})
    ((data, options, kind),) = read_layers(tmp_path / "a.ome.tif")
    assert (kind, data[0].dtype, data[0].shape) == ("image", np.uint8, (3, 192, 160))
    assert (options["units"], options["axis_labels"]) == (["pixel"] * 3, ["t", "y", "x"])


def test_a_large_image_without_levels_gets_some_so_that_no_view_reads_it_whole(tmp_path):
    huge = tmp_path / "a.tif"
    tifffile.memmap(huge, shape=(9000, 9000), dtype=np.uint8)[::1000] = 7
    ((data, options, _),) = read_layers(huge)
    assert options["multiscale"]
    assert [level.shape for level in data] == [(9000, 9000), (4500, 4500)]
    np.testing.assert_array_equal(data[1][:501], np.asarray(data[0][:1001:2, ::2]))


def test_the_layer_of_a_file_has_the_same_identity_in_every_session(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GRAY, tile=(64, 64))
    names = [read_layers(tmp_path / "a.tif")[0][0].name for _ in range(2)]
    assert names[0] == names[1]


def test_what_is_no_image_is_refused_before_others_are_asked(tmp_path):
    (tmp_path / "folder").mkdir()
    assert folder_reader(str(tmp_path / "folder")) is None
    assert folder_reader([str(tmp_path / "folder")]) is None
    assert file_reader([str(tmp_path / "a.svs"), str(tmp_path / "b.svs")]) is None
    with pytest.raises(ImageError, match="several files cannot be opened as one image"):
        read_layers([tmp_path / "a.svs"])


def damaged(path):
    tifffile.imwrite(path, GRAY, tile=(64, 64), compression="zlib")
    path.write_bytes(path.read_bytes()[:3000])


BAD_FILES = {
    "missing": (lambda path: None, "there is no file or folder"),
    "empty": (lambda path: path.write_bytes(b""), "is empty; supported are TIFF"),
    "something else": (lambda path: path.write_text("hello, world"), "is of no supported format"),
    "truncated": (damaged, "truncated|damaged TIFF"),
}


@pytest.mark.parametrize(("make", "told"), BAD_FILES.values(), ids=BAD_FILES)
def test_what_cannot_be_read_is_named_by_our_error(tmp_path, make, told):
    make(tmp_path / "a.svs")
    with pytest.raises(ImageError, match=told):
        read_layers(tmp_path / "a.svs")


def test_napari_passes_our_message_on(viewer, tmp_path):
    (tmp_path / "a.svs").write_text("hello, world")
    with pytest.raises((ImageError, ReaderPluginError), match="no supported format"):
        opened(viewer, tmp_path / "a.svs")


def test_a_part_that_is_damaged_is_named_when_it_is_looked_at(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GRAY, tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        at, n = tif.pages[0].dataoffsets[0], tif.pages[0].databytecounts[0]
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[at : at + n] = b"\xff" * n
    (tmp_path / "a.tif").write_bytes(content)
    ((data, _, _),) = read_layers(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"a part of .*a\.tif cannot be read"):
        np.asarray(data[:10, :10])


def test_labels_of_fractions_are_refused(tmp_path):
    write_ome_zarr(tmp_path / "a.ome.zarr", GRAY / 7, "yx", (1, 1), **{"image-label": {}})
    with pytest.raises(ImageError, match="declared to be a label image but has pixels of type float64"):
        read_layers(tmp_path / "a.ome.zarr")
