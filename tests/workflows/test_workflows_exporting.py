"""Finished labels in other formats: what goes in comes out, and nothing that was there is lost."""

from __future__ import annotations

import json

import numpy as np
import pytest
import roifile
import tifffile

from export.scenes import blobs, flattened
from napari_sam.errors import ImageError, OutputError
from napari_sam.export import read_sa1b, read_table, write_label_tiff, write_sa1b, write_table
from napari_sam.tiling.labels import write_labels
from napari_sam.workflows.exporting import export_objects, format_of, read_objects

OBJECTS = blobs((90, 120), 12)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder, with `cells.ome.zarr`, its table, and the five-channel image they are of."""
    monkeypatch.chdir(tmp_path)
    write_labels(OBJECTS, "cells.ome.zarr", pixel_size_um=(0.5, 0.5))
    write_table(OBJECTS.table, "cells.csv")
    channels = np.random.default_rng(0).integers(0, 4000, (5, 90, 120)).astype(np.uint16)
    tifffile.imwrite("image.ome.tif", channels, metadata={"axes": "CYX"}, photometric="minisblack")
    return tmp_path


def shown_labels():
    """The labels of which some pixel is not covered by others."""
    return np.setdiff1d(flattened(OBJECTS), [0])


def test_a_label_image_becomes_every_format_at_once(place):
    names = ["a.geojson", "a.roi.zip", "a.coco.json", "a.sa1b.json", "a.csv", "a.tif", "a.ome.zarr", "a.png"]
    written = export_objects("cells.ome.zarr", names, image="image.ome.tif", category="cell")
    assert [path.name for path in written] == names
    labels = shown_labels()
    np.testing.assert_array_equal(tifffile.imread("a.tif"), flattened(OBJECTS))
    assert [int(roi.name) for roi in roifile.roiread("a.roi.zip")] == labels.tolist()
    assert [label for label, _ in read_sa1b("a.sa1b.json").masks] == labels.tolist()
    coco = json.loads((place / "a.coco.json").read_text())
    assert coco["categories"][0]["name"] == "cell"
    assert coco["images"][0]["file_name"] == "image.ome.tif"
    assert len(json.loads((place / "a.geojson").read_text())["features"]) == len(labels)


def test_scores_come_from_the_table_beside_the_labels_or_the_one_that_is_named(place):
    export_objects("cells.ome.zarr", ["a.csv"])
    rows = shown_labels().astype(int) - 1
    np.testing.assert_array_equal(read_table("a.csv")["predicted_iou"], OBJECTS.table.predicted_iou[rows])
    (place / "cells.csv").rename("other.csv")
    export_objects("cells.ome.zarr", ["b.csv"])
    assert np.isnan(read_table("b.csv")["predicted_iou"]).all()
    export_objects("cells.ome.zarr", ["c.csv"], table="other.csv")
    np.testing.assert_array_equal(read_table("c.csv")["predicted_iou"], OBJECTS.table.predicted_iou[rows])


def test_intensities_are_those_of_every_channel(place):
    export_objects("cells.ome.zarr", ["a.csv"], image="image.ome.tif", intensities=True, shapes=True)
    columns, pixels = read_table("a.csv"), tifffile.imread("image.ome.tif")
    painted = flattened(OBJECTS)
    for row, label in enumerate(shown_labels()):
        for channel in range(5):
            want = pixels[channel][painted == label]
            assert columns[f"intensity_mean_{channel}"][row] == pytest.approx(want.mean())
            assert columns[f"intensity_max_{channel}"][row] == want.max()
    np.testing.assert_allclose(columns["major_axis_um"], columns["major_axis_px"] / 2)


def test_overlapping_masks_of_an_sa1b_file_stay_whole(place):
    write_sa1b(OBJECTS, "masks.json", file_name="slide.tif")
    export_objects("masks.json", ["a.csv", "a.roi.zip"], pixel_size_um=2.0)
    columns = read_table("a.csv")
    np.testing.assert_array_equal(columns["area_px"], OBJECTS.table.area_px)
    np.testing.assert_array_equal(columns["area_um2"], 4 * OBJECTS.table.area_px)
    assert read_objects("masks.json").image_name == "slide.tif"


def test_the_format_can_be_named_where_the_ending_says_nothing(place):
    export_objects("cells.ome.zarr", ["a.json"], export_format="sa1b")
    assert len(read_sa1b("a.json").masks) == len(shown_labels())
    with pytest.raises(OutputError, match=r"the end of a\.json does not say in which format.*\.coco\.json"):
        format_of("a.json")


@pytest.mark.parametrize(
    ("outputs", "told", "message"),
    [
        ([], {}, "nothing to write; name at least one output"),
        (["a.png"], {}, r"an overlay and intensities need the image"),
        (["a.geojson"], {"shapes": True}, r"columns of a table; add an output that ends in \.csv"),
        (["a.csv", "a.csv"], {}, "two outputs have the same name"),
        (["cells.csv"], {"table": "cells.csv"}, "is read by this job and would be overwritten"),
        (["cells.ome.zarr/a.csv"], {}, "is read by this job and would be overwritten"),
        (["a.csv", "b.zip", "cells.ome.zarr/x/c.tif"], {}, "is read by this job"),
    ],
    ids=["no output", "no image", "no table", "twice", "its table", "inside its labels", "the last of three"],
)
def test_what_cannot_be_written_is_refused_before_anything_is(outputs, told, message, place):
    before = sorted(place.rglob("*"))
    with pytest.raises(OutputError, match=message):
        export_objects("cells.ome.zarr", outputs, **told)
    assert sorted(place.rglob("*")) == before


def test_an_image_of_another_size_is_refused(place):
    tifffile.imwrite("other.tif", np.zeros((5, 7), np.uint8))
    with pytest.raises(ImageError, match=r"other\.tif has \(5, 7\) pixels \(H, W\) and the labels have \(90, 120\)"):
        export_objects("cells.ome.zarr", ["a.png"], image="other.tif")


def test_a_colour_picture_is_no_label_image(place):
    tifffile.imwrite("rgb.tif", np.zeros((9, 9, 3), np.uint8), photometric="rgb")
    with pytest.raises(ImageError, match="is a colour picture with 3 samples a pixel, not a label image"):
        export_objects("rgb.tif", ["a.csv"])


def test_a_label_tiff_keeps_its_pixel_size(place):
    write_label_tiff(OBJECTS, "cells.tif", pixel_size_um=(0.25, 0.25))
    export_objects("cells.tif", ["a.parquet"])
    columns = read_table("a.parquet")
    np.testing.assert_allclose(columns["area_um2"], columns["area_px"] / 16)
