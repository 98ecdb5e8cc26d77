"""Sizes and forms of objects, against scikit-image and shapely."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from skimage.measure import regionprops

from export.scenes import blobs
from napari_sam.errors import ConfigError
from napari_sam.export import measure_shapes, trace_polygons
from napari_sam.geometry import Mask
from napari_sam.tiling.objects import MergedObjects


def test_columns_are_those_of_regionprops_on_the_whole_frame() -> None:
    objects = blobs((90, 120), 12)
    columns = measure_shapes(objects, pixel_size_um=(0.5, 0.5))
    for row, (_, mask) in enumerate(objects.iter_masks()):
        (want,) = regionprops(mask.to_array().astype(np.uint8))
        assert columns["major_axis_px"][row] == pytest.approx(want.axis_major_length)
        assert columns["minor_axis_um"][row] == pytest.approx(want.axis_minor_length / 2)
        assert columns["perimeter_um"][row] == pytest.approx(want.perimeter / 2)
        assert columns["equivalent_diameter_px"][row] == pytest.approx(want.equivalent_diameter_area)
        assert columns["eccentricity"][row] == pytest.approx(want.eccentricity)
        assert columns["orientation"][row] == pytest.approx(want.orientation)


def test_concavity_is_the_part_of_the_convex_hull_that_is_not_covered() -> None:
    objects = blobs((90, 120), 12, seed=3)
    found = measure_shapes(objects)["concavity"]
    for value, (_, mask) in zip(found, objects.iter_masks(), strict=True):
        (polygons,) = trace_polygons([mask])
        hull = shapely.MultiPolygon([shapely.Polygon(p.exterior) for p in polygons]).convex_hull
        assert value == pytest.approx(1 - mask.area / hull.area)


def test_thin_convex_and_empty_objects_have_plain_answers() -> None:
    line, pixel, square = np.zeros((5, 9)), np.zeros((5, 9)), np.zeros((5, 9))
    line[2], pixel[1, 1], square[1:4, 1:4] = 1, 1, 1
    masks = [Mask.from_array(pixels) for pixels in (line, pixel, square, np.zeros((5, 9)))]
    columns = measure_shapes(MergedObjects.from_masks(masks, (5, 9)))
    np.testing.assert_array_equal(columns["concavity"], [0, 0, 0, np.nan])
    assert np.isnan(columns["major_axis_px"][3])
    assert columns["eccentricity"][0] == pytest.approx(1, abs=0.01)


def test_pixels_that_are_not_square_have_no_perimeter_in_micrometres() -> None:
    columns = measure_shapes(blobs((40, 40), 3), pixel_size_um=(0.5, 0.25))
    assert "perimeter_um" not in columns
    (want,) = regionprops(blobs((40, 40), 3).mask(0).to_array().astype(np.uint8), spacing=(0.5, 0.25))
    assert columns["major_axis_um"][0] == pytest.approx(want.axis_major_length)


def test_an_impossible_pixel_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="two positive numbers"):
        measure_shapes(blobs((40, 40), 1), pixel_size_um=(0, 1))
