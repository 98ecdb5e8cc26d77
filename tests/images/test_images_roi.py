"""What is skipped: tiles that hold nothing, and what lies outside the region of interest."""

import json

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.errors import ImageError
from napari_sam.geometry import Box
from napari_sam.images import Normalisation, has_foreground, open_image, read_roi
from napari_sam.images.roi import PolygonRoi

GRAY = Normalisation((10.0,), (20.0,))
SQUARE = [[2, 3], [8, 3], [8, 9], [2, 9], [2, 3]]
HOLE = [[4, 5], [6, 5], [6, 7], [4, 7], [4, 5]]


def tile(values):
    return np.array(values, dtype=np.float64).reshape(2, 2, 1)


@pytest.mark.parametrize(
    ("pixels", "nodata", "expected"),
    [
        (tile([15, 15, 15, 16]), None, True),
        (tile([15, 15, 15, 15]), None, False),
        (tile([3, 10, 7, 9]), None, False),
        (tile([3, 10, 7, 12]), None, True),
        (tile([0, 0, 0, 0]), 0.0, False),
        (tile([0, 0, 15, 15]), 0.0, False),
        (tile([0, 0, 15, 15]), None, True),
        (tile([np.nan] * 4), None, False),
        (tile([np.nan, 15, 15, np.inf]), None, False),
    ],
    ids=["two", "one", "below", "above", "nodata", "nodata and one", "no nodata", "nan", "nan and one"],
)
def test_a_tile_without_anything_in_it_is_no_foreground(pixels, nodata, expected):
    assert has_foreground(pixels, Normalisation((10.0,), (20.0,), nodata)) is expected


def test_a_normalised_tile_of_one_colour_is_no_foreground():
    seen = np.full((4, 4, 3), (250, 240, 230), np.uint8)
    assert not has_foreground(seen)
    seen[2, 2, 1] += 1
    assert has_foreground(seen)


def test_the_empty_part_of_an_image_is_no_foreground_by_the_limits_of_the_whole():
    image = np.zeros((200, 200), np.uint16)
    image[120:150, 120:150] = np.random.default_rng(0).integers(500, 900, (30, 30))
    plane = open_image(image).plane()
    assert not has_foreground(plane.read_raw(Box(0, 0, 100, 100)), plane.normalisation)
    assert has_foreground(plane.read_raw(Box(100, 100, 200, 200)), plane.normalisation)


def test_a_tile_without_channels_is_refused():
    with pytest.raises(ImageError, match=r"shape \(h, w, c\), got \(4, 4\)"):
        has_foreground(np.zeros((4, 4)))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 3, 8]), st.booleans(), st.data())
def test_a_mask_image_answers_for_every_pixel(height, width, factor, rounded_up, data):
    up = -(-height // factor), -(-width // factor)
    down = max(height // factor, 1), max(width // factor, 1)
    small = np.random.default_rng(height * 41 + width).integers(0, 3, up if rounded_up else down, dtype=np.uint16)
    whole = small.repeat(factor, axis=0).repeat(factor, axis=1)
    whole = np.pad(whole, ((0, max(height - whole.shape[0], 0)), (0, max(width - whole.shape[1], 0))), mode="edge")
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = Box(x0, y0, data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height)))
    roi = read_roi(small, (height, width))
    # A tiny mask fits several factors, and the smallest is taken.
    if roi.factor == factor:
        expected = whole[:height, :width][box.slices] > 0
        np.testing.assert_array_equal(roi.mask(box), expected)
        assert roi.overlaps(box) == expected.any()


@pytest.mark.parametrize("suffix", ["png", "tif", "zarr"])
def test_a_mask_may_be_of_any_format(tmp_path, suffix):
    mask = np.zeros((20, 30), np.uint8)
    mask[5:9, 6:12] = 2
    path = tmp_path / f"roi.{suffix}"
    if suffix == "png":
        path.write_bytes(imagecodecs.png_encode(mask))
    elif suffix == "tif":
        tifffile.imwrite(path, mask)
    else:
        zarr.create_array(path, data=mask)
    roi = read_roi(path, (40, 60))
    assert roi.overlaps(Box(12, 10, 13, 11))
    assert not roi.overlaps(Box(0, 0, 12, 40))
    assert roi.mask(Box(0, 0, 60, 40)).sum() == 4 * mask.astype(bool).sum()


def write_geojson(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def feature(geometry):
    return {"type": "Feature", "properties": {}, "geometry": geometry}


POLYGON = {"type": "Polygon", "coordinates": [SQUARE, HOLE]}
WAYS = {
    "polygon": POLYGON,
    "multipolygon": {"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE]]},
    "feature": feature(POLYGON),
    "features": {"type": "FeatureCollection", "features": [feature(POLYGON)]},
    "bare list": [feature(POLYGON)],
    "collection": {"type": "GeometryCollection", "geometries": [POLYGON]},
}


@pytest.mark.parametrize("content", WAYS.values(), ids=WAYS)
def test_polygons_hold_the_pixels_inside_them(tmp_path, content):
    roi = read_roi(write_geojson(tmp_path / "roi.geojson", content), (20, 20))
    expected = np.zeros((20, 20), bool)
    expected[3:9, 2:8] = True
    expected[5:7, 4:6] = False
    np.testing.assert_array_equal(roi.mask(Box(0, 0, 20, 20)), expected)
    np.testing.assert_array_equal(roi.mask(Box(3, 4, 9, 15)), expected[4:15, 3:9])
    assert not roi.overlaps(Box(4, 5, 6, 7))
    assert roi.overlaps(Box(7, 8, 20, 20))


def is_inside(ring, x, y):
    """The obvious version: count the edges to the left of one point."""
    inside = False
    for (ax, ay), (bx, by) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if (ay > y) != (by > y) and x > ax + (y - ay) / (by - ay) * (bx - ax):
            inside = not inside
    return inside


def lies_on_an_edge(ring, x, y):
    """Whether rounding decides on which side of an edge the point is."""
    return any(
        abs((bx - ax) * (y - ay) - (by - ay) * (x - ax)) < 1e-9
        for (ax, ay), (bx, by) in zip(ring, np.roll(ring, -1, axis=0), strict=True)
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-3, 15), st.floats(-3, 15)), min_size=3, max_size=7))
def test_any_polygon_equals_the_test_of_each_centre(points):
    ring = np.array(points)
    roi = PolygonRoi(((ring,),))
    centres = [[(x + 0.5, y + 0.5) for x in range(12)] for y in range(12)]
    expected = np.array([[is_inside(ring, *centre) for centre in row] for row in centres])
    clear = np.array([[not lies_on_an_edge(ring, *centre) for centre in row] for row in centres])
    np.testing.assert_array_equal(roi.mask(Box(0, 0, 12, 12))[clear], expected[clear])
    part = np.s_[3:10, 7:12]
    np.testing.assert_array_equal(roi.mask(Box(7, 3, 12, 10))[clear[part]], expected[part][clear[part]])


def test_polygons_that_share_an_edge_share_no_pixel(tmp_path):
    left = {"type": "Polygon", "coordinates": [[[0, 0], [9.3, 0], [4.1, 20], [0, 20]]]}
    right = {"type": "Polygon", "coordinates": [[[9.3, 0], [20, 0], [20, 20], [4.1, 20]]]}
    masks = [
        read_roi(write_geojson(tmp_path / f"{i}.geojson", part), (20, 20)).mask(Box(0, 0, 20, 20)).astype(int)
        for i, part in enumerate((left, right))
    ]
    assert (masks[0] + masks[1] == 1).all()


BAD_GEOJSON = {
    "not JSON": ("{", "no GeoJSON of polygons.*export it again"),
    "no type": ("{}", "no GeoJSON of polygons"),
    "a number": ("7", "no GeoJSON of polygons"),
    "a point": ('{"type": "Point", "coordinates": [1, 2]}', "holds a 'Point'; a region of interest is made of Polygon"),
    "no polygon": ('{"type": "FeatureCollection", "features": []}', "holds no polygon"),
    "two points": ('{"type": "Polygon", "coordinates": [[[1, 2], [3, 4]]]}', "three or more finite points, got 2"),
    "words": ('{"type": "Polygon", "coordinates": [[["a", "b"], [3, 4], [5, 6]]]}', "no GeoJSON of polygons"),
    "no coordinates": ('{"type": "Polygon", "coordinates": []}', "without an outline"),
}


@pytest.mark.parametrize(("text", "message"), BAD_GEOJSON.values(), ids=BAD_GEOJSON)
def test_bad_geojson_is_refused(tmp_path, text, message):
    (tmp_path / "roi.geojson").write_text(text)
    with pytest.raises(ImageError, match=message):
        read_roi(tmp_path / "roi.geojson", (20, 20))


def test_a_region_of_another_size_or_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"shape \(10, 9\), the image \(20, 30\).*same whole factor"):
        read_roi(np.zeros((10, 9), bool), (20, 30))
    with pytest.raises(ImageError, match=r"shape \(40, 60\), the image \(20, 30\)"):
        read_roi(np.zeros((40, 60), bool), (20, 30))
    with pytest.raises(ImageError, match="cannot be opened: No such file"):
        read_roi(tmp_path / "roi.geojson", (20, 30))
    with pytest.raises(ImageError, match="no file or folder"):
        read_roi(tmp_path / "roi.png", (20, 30))
