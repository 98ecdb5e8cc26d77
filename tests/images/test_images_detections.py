"""Boxes from the files of detectors and viewers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.errors import ImageError, PromptError
from napari_sam.images import GeoReference
from napari_sam.images.detections import Detections, geo_to_pixels, read_boxes

NORTH_UP = GeoReference((0.5, 0.0, 1000.25, 0.0, -0.5, 4999.75), 32633, {})
"""Pixels of half a metre; the corner of the first one lies at (1000, 5000)."""


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def coco(**extra):
    content = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [1, 2, 10, 20]},
            {"image_id": 9, "category_id": 2, "bbox": [5, 5, 2.5, 4], "score": 0.25},
        ],
        "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "dust"}],
    }
    return {**content, **extra}


def test_coco_boxes_are_those_of_the_image_that_is_meant(write):
    path = write("boxes.json", coco())
    first, second = (read_boxes(path, image_name=name) for name in ("folder/a.png", "9"))
    assert first.boxes_xyxy.tolist() == [[1, 2, 11, 22]]
    assert (first.scores.tolist(), first.categories) == ([1], ("cell",))
    assert second.boxes_xyxy.tolist() == [[5, 5, 7.5, 9]]
    assert (second.scores.tolist(), second.categories) == ([0.25], ("dust",))


def test_which_image_is_meant_must_be_clear(write):
    path = write("boxes.json", coco())
    with pytest.raises(ImageError, match=r"boxes of 2 images \(a\.png, b\.png\), none of them named 'c\.png'"):
        read_boxes(path, image_name="c.png")


def test_a_bare_list_of_results_of_one_image_is_read(write):
    results = [{"image_id": 3, "category_id": 5, "bbox": [0, 0, 4, 4], "score": 0.5}]
    found = read_boxes(write("results.json", results), image_name="whatever.tif")
    assert (found.boxes_xyxy.tolist(), found.scores.tolist(), found.categories) == ([[0, 0, 4, 4]], [0.5], ("5",))


@pytest.mark.parametrize(
    ("text", "boxes", "scores", "categories"),
    [
        ("x0,y0,x1,y1\n1,2,3,4\n", [[1, 2, 3, 4]], [1], ("",)),
        ("label,y0,x0,y1,x1,area_px\n1,2,1,4,3,9\n", [[1, 2, 3, 4]], [1], ("",)),
        ("xmin,ymin,xmax,ymax,score,class\n1,2,3,4,0.5,cell\n", [[1, 2, 3, 4]], [0.5], ("cell",)),
        ("\ufeffX, Y, Width, Height, Confidence\n1,2,3,4,0.25\n", [[1, 2, 4, 6]], [0.25], ("",)),
        ("x1,y1,x2,y2\n", [], [], ()),
    ],
    ids=["corners", "own table", "detector", "sizes", "none"],
)
def test_columns_of_a_csv_are_known_by_their_names(write, text, boxes, scores, categories):
    found = read_boxes(write("boxes.csv", text))
    assert (found.boxes_xyxy.tolist(), found.scores.tolist(), found.categories) == (boxes, scores, categories)


def polygon(*points, **properties):
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [list(points)]},
        "properties": properties,
    }


def test_shapes_of_geojson_give_their_bounding_boxes(write):
    features = [
        polygon([1, 2], [5, 2], [3, 9], [1, 2], classification={"name": "Tumor"}),
        polygon([10.5, 20], [12, 20], [12, 22.25], score=0.5, name="b"),
    ]
    wanted = [[1, 2, 5, 9], [10.5, 20, 12, 22.25]]
    for content in ({"type": "FeatureCollection", "features": features}, features):
        found = read_boxes(write("shapes.geojson", content))
        assert found.boxes_xyxy.tolist() == wanted
        assert (found.scores.tolist(), found.categories) == ([1, 0.5], ("Tumor", "b"))


def test_map_coordinates_are_brought_to_pixels_by_the_images_georeference(write):
    content = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}},
        "features": [polygon([1005, 4990], [1010, 4990], [1010, 4980])],
    }
    path = write("map.geojson", content)
    assert read_boxes(path, geo=NORTH_UP).boxes_xyxy == pytest.approx(np.array([[10, 20, 20, 40]]))
    with pytest.raises(ImageError, match="in map coordinates, but the image has no georeference"):
        read_boxes(path)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=1, max_size=5))
def test_the_way_to_pixels_is_the_inverse_of_the_way_to_the_map(points):
    given_xy = np.array(points)
    assert geo_to_pixels(NORTH_UP, NORTH_UP.to_map(given_xy - 0.5)) == pytest.approx(given_xy, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", "", r"read from \.json, \.geojson, \.csv files, got .*a\.txt"),
        ("a.csv", "left,top\n1,2\n", "has the columns left, top; boxes need one of: x0, y0, x1, y1"),
        ("a.csv", "x0,y0,x1,y1\n1,2,three,4\n", "holds no boxes that can be read"),
        ("a.json", "{", "holds no boxes that can be read"),
        ("a.json", {"boxes": []}, "holds no boxes that can be read"),
        ("a.geojson", {"type": "FeatureCollection", "features": [polygon()]}, "holds a shape without points"),
    ],
    ids=["ending", "columns", "number", "cut off", "other json", "empty shape"],
)
def test_files_that_cannot_be_used_are_named(write, name, content, told):
    with pytest.raises(ImageError, match=told):
        read_boxes(write(name, content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match="cannot be opened: No such file"):
        read_boxes(tmp_path / "none.csv")


def test_boxes_from_memory_must_fit_their_scores():
    assert len(Detections.of([])) == 0
    assert Detections.of([[0, 0, 1, 1]]).categories == ("",)
    with pytest.raises(PromptError, match=r"got 1 boxes, scores of shape \(2,\) and 1 categories"):
        Detections.of([[0, 0, 1, 1]], [0.5, 0.5])
