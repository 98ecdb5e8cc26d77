"""Labels layers saved through napari: the name chooses the format, scale and units become sizes, errors are ours."""

from __future__ import annotations

import json

import dask.array as da
import npe2
import numpy as np
import pytest
from napari.layers import Labels
from napari.plugins.io import save_layers
from test_ui_manifest import MANIFEST

from napari_sam.errors import OutputError
from napari_sam.images import open_image
from napari_sam.ui.writers import write_coco_json, write_ome_zarr


@pytest.fixture(autouse=True)
def plugin(npe2pm):
    """napari's plugin manager knows this plugin alone, from the manifest as it stands."""
    # Blocked: the window's menus, which other tests look at, are not to hear of it.
    with npe2pm.events.blocked(), npe2pm.tmp_plugin(manifest=npe2.PluginManifest.from_file(MANIFEST)):
        yield


def pixels() -> np.ndarray:
    labels = np.zeros((40, 60), np.int32)
    labels[2:12, 3:33], labels[20:30, 40:50] = 5, 12
    return labels


def layer(**options) -> Labels:
    return Labels(pixels(), name="cells", **options)


NAMES = {"a.ome.zarr": "a.objects.csv", "a.sa1b.json": None, "a.coco.json": None, "a.geojson": None}


@pytest.mark.parametrize(("name", "beside"), NAMES.items(), ids=NAMES)
def test_the_end_of_the_name_chooses_the_format(tmp_path, name, beside):
    written = save_layers(str(tmp_path / name), [layer()])
    assert written == [str(tmp_path / n) for n in (name, beside) if n is not None]
    if name.endswith("json"):
        content = json.loads((tmp_path / name).read_text())
        assert len(content.get("annotations", content.get("features"))) == 2
    else:
        np.testing.assert_array_equal(open_image(tmp_path / name).levels[0][:], pixels())


UNITS = {"micrometres": (("um", "um"), (0.5, 0.25)), "millimetres": (("mm", "mm"), (500, 250)), "pixels": (None, None)}


@pytest.mark.parametrize(("units", "size"), UNITS.values(), ids=UNITS)
def test_scale_and_units_become_the_pixel_size(tmp_path, units, size):
    save_layers(str(tmp_path / "a.ome.zarr"), [layer(scale=(0.5, 0.25), units=units)])
    assert open_image(tmp_path / "a.ome.zarr").pixel_size_um == size


def test_features_of_the_layer_are_kept(tmp_path):
    drawn = layer(features={"index": [0, 5, 12], "predicted_iou": [np.nan, 0.5, 0.75]})
    save_layers(str(tmp_path / "a.coco.json"), [drawn])
    content = json.loads((tmp_path / "a.coco.json").read_text())
    assert {a["id"]: a["score"] for a in content["annotations"]} == {5: 0.5, 12: 0.75}


def test_a_lazy_multiscale_layer_is_saved_in_full_resolution(tmp_path):
    levels = [da.from_array(pixels(), chunks=16), da.from_array(pixels()[::2, ::2], chunks=16)]
    save_layers(str(tmp_path / "a.ome.zarr"), [Labels(levels, multiscale=True)])
    np.testing.assert_array_equal(open_image(tmp_path / "a.ome.zarr").levels[0][:], pixels())


def test_the_size_of_a_plane_in_a_stack_is_that_of_its_rows_and_columns(tmp_path):
    plane = Labels(pixels()[np.newaxis], scale=(3, 0.5, 0.25), units=("um", "um", "um"))
    save_layers(str(tmp_path / "a.ome.zarr"), [plane])
    assert open_image(tmp_path / "a.ome.zarr").pixel_size_um == (0.5, 0.25)


def test_the_ending_is_added_when_the_dialog_gives_a_bare_name(tmp_path):
    (path,) = write_coco_json(str(tmp_path / "cells"), pixels(), {})
    assert path.endswith("cells.coco.json")


def test_a_volume_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(OutputError, match=r"one plane, got a layer of shape \(2, 40, 60\)"):
        save_layers(str(tmp_path / "a.geojson"), [Labels(np.stack([pixels()] * 2))])
    assert not list(tmp_path.iterdir())


def test_a_folder_of_someone_else_is_not_replaced(tmp_path):
    (tmp_path / "a.ome.zarr").mkdir()
    (tmp_path / "a.ome.zarr" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not replaced"):
        write_ome_zarr(str(tmp_path / "a.ome.zarr"), pixels(), {})
    assert (tmp_path / "a.ome.zarr" / "notes.txt").read_text() == "mine"
