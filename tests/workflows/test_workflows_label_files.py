"""Labels drawn by hand into the files this package writes: read back they are the same, and wrong input is named."""

from __future__ import annotations

import json

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_sam.errors import ImageError, OutputError
from napari_sam.export import read_sa1b, read_table
from napari_sam.images import open_image
from napari_sam.tiling import ObjectTable
from napari_sam.workflows import label_files
from napari_sam.workflows.label_files import LabelledObjects, save_labels, scores_of, table_beside, with_ending

SMALL_LABELS = hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 5))


def scene() -> np.ndarray:
    """Three objects with numbers of their own on 60 x 50 pixels; object 900 is in two parts."""
    labels = np.zeros((60, 50), np.uint32)
    labels[3:10, 5:20] = 7
    labels[3:6, 20:22] = 900
    labels[40:50, 30:45] = 900
    labels[55, 49] = 2
    return labels


def drawn(objects) -> np.ndarray:
    canvas = np.zeros(objects.image_size, np.uint32)
    for label, mask in objects.iter_masks():
        canvas[mask.to_array()] = label
    return canvas


@given(labels=SMALL_LABELS)
@settings(max_examples=50, deadline=None)
def test_the_objects_of_a_label_image_are_its_pixels_however_it_is_cut_into_blocks(labels):
    for block_px in (3, 2048):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(label_files, "_BLOCK_PX", block_px)
            objects = LabelledObjects(labels)
            np.testing.assert_array_equal(drawn(objects), labels)
            whole = ObjectTable.from_masks([mask for _, mask in objects.iter_masks()])
        for name in ("y0", "x0", "y1", "x1", "area_px"):
            np.testing.assert_array_equal(getattr(objects.table, name), getattr(whole, name))
        np.testing.assert_allclose(objects.table.centroid_y, whole.centroid_y)
        np.testing.assert_allclose(objects.table.centroid_x, whole.centroid_x)
        assert objects.table.label.tolist() == sorted(set(labels.ravel().tolist()) - {0})


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", ">u2", "bool"])
def test_ome_zarr_labels_come_back_with_their_numbers_and_sizes(tmp_path, dtype, lazy):
    labels = (scene() > 0 if dtype == "bool" else scene() % 200).astype(dtype)
    given_ = da.from_array(labels, chunks=16) if lazy else labels
    written = save_labels(given_, tmp_path / "a", "ome-zarr", pixel_size=(500, 250), units=("nanometer", "nanometer"))
    assert [path.name for path in written] == ["a.ome.zarr", "a.objects.csv"]
    source = open_image(written[0])
    np.testing.assert_array_equal(source.levels[0][:], labels)
    assert source.pixel_size_um == (0.5, 0.25)
    table = read_table(written[1])
    assert table["label"].tolist() == np.unique(labels[labels > 0]).tolist()
    np.testing.assert_allclose(table["area_um2"], table["area_px"] * 0.125)


def test_pixels_without_a_unit_of_length_carry_no_size(tmp_path):
    zarr, table = save_labels(scene(), tmp_path / "a", "ome-zarr", pixel_size=(2, 2))
    assert open_image(zarr).pixel_size_um is None
    assert "area_um2" not in read_table(table)


def test_sa1b_holds_every_object_whole(tmp_path):
    (path,) = save_labels(scene(), tmp_path / "a.sa1b.json", "sa1b")
    content = read_sa1b(path)
    assert [number for number, _ in content.masks] == [2, 7, 900]
    assert (content.image_size, content.file_name) == ((60, 50), "a")
    canvas = np.zeros((60, 50), np.uint32)
    for number, mask in content.masks:
        canvas[mask.to_array()] = number
    np.testing.assert_array_equal(canvas, scene())


def test_coco_and_geojson_hold_every_object(tmp_path):
    (coco,) = save_labels(scene(), tmp_path / "a", "coco", image_name="cells.tif")
    content = json.loads(coco.read_text())
    assert coco.name == "a.coco.json"
    assert content["images"][0]["file_name"] == "cells.tif"
    assert {a["id"]: a["area"] for a in content["annotations"]} == {2: 1, 7: 105, 900: 156}
    (outlines,) = save_labels(scene(), tmp_path / "a", "geojson", pixel_size=(2, 2), units=("micrometer", "um"))
    features = json.loads(outlines.read_text())["features"]
    kinds = {f["properties"]["name"]: f["geometry"]["type"] for f in features}
    assert kinds == {"2": "Polygon", "7": "Polygon", "900": "MultiPolygon"}
    assert features[1]["properties"]["measurements"]["Area µm^2"] == 420


FEATURES = {
    "by an index": {"index": [0, 900, 7], "predicted_iou": [np.nan, 0.5, 0.75], "verified": [False, True, False]},
    "by the row": {"predicted_iou": [np.nan] * 7 + [0.75], "verified": [False] * 8},
}


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_scores_of_a_layer_are_kept_for_the_label_they_are_of(tmp_path, features):
    _, path = save_labels(scene(), tmp_path / "a", "ome-zarr", features=features)
    table = read_table(path)
    known = dict(zip(table["label"].tolist(), table["predicted_iou"].tolist(), strict=True))
    assert known[7] == 0.75
    assert np.isnan(known[2])
    assert table["verified"].tolist() == [False, False, "index" in features]


def test_a_score_that_nobody_knows_is_null_in_json(tmp_path):
    (path,) = save_labels(scene(), tmp_path / "a", "coco", features={"index": [7], "predicted_iou": [0.5]})
    scores = {a["id"]: a["score"] for a in json.loads(path.read_text())["annotations"]}
    assert scores == {2: None, 7: 0.5, 900: None}


def test_features_that_no_table_has_are_left_out():
    assert scores_of({"index": [1], "colour": ["red"], "tile": [4]}) == {"tile": {1: 4}}
    assert scores_of(None) == scores_of({}) == {}


def test_a_stack_of_one_plane_is_that_plane(tmp_path):
    (path, _) = save_labels(scene()[np.newaxis, np.newaxis], tmp_path / "a", "ome-zarr")
    np.testing.assert_array_equal(open_image(path).levels[0][:], scene())


def test_a_layer_without_any_object_is_written_empty(tmp_path):
    zarr, table = save_labels(np.zeros((5, 6), np.uint8), tmp_path / "a", "ome-zarr")
    assert not np.any(open_image(zarr).levels[0][:])
    assert len(read_table(table)["label"]) == 0


def test_the_usual_ending_is_added_where_there_is_none(tmp_path):
    assert with_ending("x/cells", "coco").name == "cells.coco.json"
    assert with_ending("cells.json", "sa1b").name == "cells.json"
    assert with_ending("cells.v2", "ome-zarr").name == "cells.v2.ome.zarr"
    assert table_beside(tmp_path / "cells.ome.zarr").name == "cells.objects.csv"
    assert table_beside(tmp_path / "cells.zarr").name == "cells.objects.csv"


def test_our_own_labels_and_table_are_replaced(tmp_path):
    save_labels(scene(), tmp_path / "a", "ome-zarr")
    zarr, table = save_labels(scene() * (scene() == 7), tmp_path / "a", "ome-zarr")
    assert np.unique(open_image(zarr).levels[0][:]).tolist() == [0, 7]
    assert read_table(table)["label"].tolist() == [7]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.objects.csv", "a.ome.zarr"]


def test_labels_that_are_read_from_the_file_they_replace_stay_right(tmp_path):
    zarr, _ = save_labels(scene(), tmp_path / "a", "ome-zarr")
    lazy = da.from_array(open_image(zarr).levels[0], chunks=16)
    save_labels(lazy, zarr, "ome-zarr")
    np.testing.assert_array_equal(open_image(zarr).levels[0][:], scene())


def test_what_others_wrote_is_not_replaced(tmp_path):
    (tmp_path / "a.ome.zarr").mkdir()
    (tmp_path / "a.ome.zarr" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not written by napari-sam, so it is not replaced"):
        save_labels(scene(), tmp_path / "a", "ome-zarr")
    (tmp_path / "b.objects.csv").write_text("name,price\n")
    with pytest.raises(OutputError, match=r"b\.objects\.csv exists and is not an object table.*choose another name"):
        save_labels(scene(), tmp_path / "b", "ome-zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ome.zarr", "b.objects.csv"]
    assert (tmp_path / "b.objects.csv").read_text() == "name,price\n"


BAD_LABELS = {
    "several planes": (np.zeros((3, 5, 5), np.uint8), r"one plane, got a layer of shape \(3, 5, 5\).*save one plane"),
    "no numbers to count with": (np.zeros((5, 5), np.float32), "whole numbers, got pixels of type float32"),
    "negative labels": (np.full((5, 5), -4), "the label -4; change negative labels first"),
}


@pytest.mark.parametrize(("labels", "told"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_labels_that_cannot_be_written_are_named_and_nothing_is_written(tmp_path, labels, told):
    for kind in ("ome-zarr", "coco"):
        with pytest.raises(ImageError, match=told):
            save_labels(labels, tmp_path / "a", kind)
    assert not list(tmp_path.iterdir())


def test_a_lazy_layer_that_cannot_be_read_says_so_and_leaves_what_was_there(tmp_path):
    zarr, _ = save_labels(scene(), tmp_path / "a", "ome-zarr")

    def fail(block):
        raise OSError("the disk is gone")

    broken = da.zeros((60, 50), chunks=30, dtype=np.uint8).map_blocks(fail, dtype=np.uint8, meta=np.empty((0, 0), "u1"))
    with pytest.raises(ImageError, match=r"the labels layer cannot be read.*the disk is gone"):
        save_labels(broken, tmp_path / "a", "ome-zarr")
    np.testing.assert_array_equal(open_image(zarr).levels[0][:], scene())
