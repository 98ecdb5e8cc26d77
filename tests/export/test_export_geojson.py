"""GeoJSON in pixels and on the map."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import shapely
from shapely.geometry import shape

from export.scenes import blobs, grid_of_squares, squares
from napari_sam.errors import ConfigError, OutputError
from napari_sam.export import write_geojson
from napari_sam.geometry import Mask
from napari_sam.images.geo import GeoReference
from napari_sam.tiling.objects import MergedObjects

UTM = GeoReference(affine=(0.5, 0.0, 500_000.25, 0.0, -0.5, 5_000_000.75), epsg=32633, tags={})


def test_every_object_is_a_feature_of_just_its_pixels(tmp_path: Path) -> None:
    objects = blobs()
    content = json.loads(write_geojson(objects, tmp_path / "a.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    assert "crs" not in content
    assert len(content["features"]) == 40
    for feature, (label, mask) in zip(content["features"], objects.iter_masks(), strict=True):
        outline = shape(feature["geometry"])
        assert outline.is_valid
        assert outline.area == mask.area
        assert outline.bounds == tuple(mask.box_xyxy)
        assert feature["type"] == "Feature"
        assert feature["properties"]["name"] == str(label)
        assert feature["properties"]["objectType"] == "annotation"


def test_holes_and_pieces_are_kept(tmp_path: Path) -> None:
    ring = np.ones((5, 9), bool)
    ring[1:4, 1:4] = False
    ring[:, 6] = False
    objects = MergedObjects.from_masks([Mask.from_array(ring)], (5, 9))
    (feature,) = json.loads(write_geojson(objects, tmp_path / "a.geojson").read_text())["features"]
    assert feature["geometry"]["type"] == "MultiPolygon"
    assert sorted(len(polygon) for polygon in feature["geometry"]["coordinates"]) == [1, 2]


def test_a_pixel_is_a_square_from_its_number_to_the_next(tmp_path: Path) -> None:
    objects = squares((9, 9), [(2, 3)], side=1)
    (feature,) = json.loads(write_geojson(objects, tmp_path / "a.geojson").read_text())["features"]
    assert feature["geometry"]["type"] == "Polygon"
    assert shapely.equals(shape(feature["geometry"]), shapely.box(2, 3, 3, 4))


def test_scores_and_sizes_are_qupath_measurements(tmp_path: Path) -> None:
    objects = squares((9, 9), [(2, 3)])
    path = write_geojson(objects, tmp_path / "a.geojson", pixel_size_um=(0.5, 0.25), object_type="detection")
    (feature,) = json.loads(path.read_text())["features"]
    assert feature["properties"]["objectType"] == "detection"
    assert feature["properties"]["measurements"] == {
        "Area px^2": 16,
        "Predicted IoU": 0.5,
        "Stability score": 1.0,
        "Touches seam": 0,
        "Verified": 0,
        "Area µm^2": 2.0,
    }


def test_a_score_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    mask = Mask.from_array(np.ones((2, 2)), predicted_iou=math.nan)
    path = write_geojson(MergedObjects.from_masks([mask], (2, 2)), tmp_path / "a.geojson")
    assert "Predicted IoU" not in json.loads(path.read_text())["features"][0]["properties"]["measurements"]


def test_a_georeferenced_image_gives_map_coordinates(tmp_path: Path) -> None:
    objects = squares((9, 9), [(2, 3)])
    content = json.loads(write_geojson(objects, tmp_path / "a.geojson", geo=UTM).read_text())
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    outline = shape(content["features"][0]["geometry"])
    # The outer corner of the first pixel lies at (500 000, 5 000 001); pixels are half a metre.
    assert outline.bounds == (500_001.0, 4_999_997.5, 500_003.0, 4_999_999.5)
    assert outline.exterior.is_ccw


def test_a_map_without_a_known_coordinate_system_names_none(tmp_path: Path) -> None:
    geo = GeoReference(affine=(1.0, 0.0, 0.5, 0.0, 1.0, 0.5), epsg=None, tags={})
    content = json.loads(write_geojson(squares((9, 9), [(2, 3)]), tmp_path / "a.geojson", geo=geo).read_text())
    assert "crs" not in content
    assert shape(content["features"][0]["geometry"]).exterior.is_ccw


def test_objects_without_pixels_are_left_out(tmp_path: Path) -> None:
    objects = MergedObjects.from_masks([Mask.from_array(np.zeros((4, 4))), Mask.from_array(np.eye(4))], (4, 4))
    (feature,) = json.loads(write_geojson(objects, tmp_path / "a.geojson").read_text())["features"]
    assert feature["properties"]["name"] == "2"
    assert feature["properties"]["measurements"]["Area px^2"] == 4


def test_an_impossible_pixel_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"two positive numbers \(y, x\) in micrometres, got \(0, 1\)"):
        write_geojson(squares((9, 9), []), tmp_path / "a.geojson", pixel_size_um=(0, 1))


def test_a_name_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="A folder has this name: choose another name"):
        write_geojson(squares((9, 9), []), tmp_path)


def test_progress_reaches_the_end_over_several_batches(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_geojson(grid_of_squares(20), tmp_path / "a.geojson", progress=lambda *step: seen.append(step))
    assert seen == [(i, 400) for i in range(1, 401)]


def test_outlines_filled_again_are_the_masks(tmp_path: Path) -> None:
    objects = blobs((120, 160), 25, seed=2)
    content = json.loads(write_geojson(objects, tmp_path / "a.geojson").read_text())
    columns, rows = np.meshgrid(np.arange(160) + 0.5, np.arange(120) + 0.5)
    for feature, (_, mask) in zip(content["features"], objects.iter_masks(), strict=True):
        np.testing.assert_array_equal(shapely.contains_xy(shape(feature["geometry"]), columns, rows), mask.to_array())


def test_what_shapely_writes_of_the_outlines_is_what_was_read(tmp_path: Path) -> None:
    content = json.loads(write_geojson(blobs((60, 80), 8), tmp_path / "a.geojson").read_text())
    for feature in content["features"]:
        again = json.loads(shapely.to_geojson(shape(feature["geometry"])))
        assert again == feature["geometry"]
