"""Exact outlines: shapely is the oracle of validity, area and containment."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import ndimage

from export.scenes import blob_masks
from napari_sam.export.polygons import trace_polygons
from napari_sam.geometry import Box, Mask


def check(mask: Mask) -> None:
    polygons = trace_polygons([mask])[0]
    shape = shapely.MultiPolygon([shapely.Polygon(polygon.exterior, polygon.holes) for polygon in polygons])
    assert shape.is_valid, shapely.is_valid_reason(shape)
    assert shape.area == mask.area
    rows, columns = np.indices(mask.frame_size)
    np.testing.assert_array_equal(shapely.contains_xy(shape, columns + 0.5, rows + 0.5), mask.to_array())
    assert len(polygons) == ndimage.label(mask.to_array())[1]
    for polygon in polygons:
        assert shapely.LinearRing(polygon.exterior).is_ccw
        assert not any(shapely.LinearRing(hole).is_ccw for hole in polygon.holes)
        for ring in polygon.rings:
            assert np.array_equal(ring[0], ring[-1])
            steps = np.diff(ring, axis=0)
            assert (np.count_nonzero(steps, axis=1) == 1).all()  # along the pixel edges
            assert (steps[1:].astype(bool) != steps[:-1].astype(bool)).all()  # and turning at every corner


@settings(max_examples=80, deadline=None)
@given(arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_any_mask_becomes_valid_polygons_of_just_its_pixels(pixels: NDArray[np.bool_]) -> None:
    check(Mask.from_array(pixels))


@pytest.mark.parametrize(
    "rows",
    [
        ["#"],
        ["#.", ".#"],
        [".#", "#."],
        ["####", "#.##", "##.#", "####"],
        ["####", "##.#", "#.##", "####"],
        ["###.", "#.#.", "##.#", "...#"],
        [".##", "#.#", "###"],
        ["#####", "#...#", "#.#.#", "#...#", "#####"],
        ["#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######"],
        ["#.#.#", ".#.#.", "#.#.#"],
    ],
    ids=[
        "one pixel",
        "corner contact",
        "other corner contact",
        "holes meeting at a corner",
        "holes meeting at the other corner",
        "hole touching the outside",
        "ring closed by a corner",
        "island in a hole",
        "ring in a ring",
        "chessboard",
    ],
)
def test_difficult_shapes(rows: list[str]) -> None:
    check(Mask.from_array(np.array([[sign == "#" for sign in row] for row in rows])))


def test_tracing_many_together_equals_tracing_each_alone() -> None:
    masks = [*blob_masks((90, 120), 30), Mask.from_array(np.zeros((90, 120)))]
    together = trace_polygons(masks)
    assert together[-1] == []
    for mask, polygons in zip(masks, together, strict=True):
        alone = trace_polygons([mask])[0]
        assert len(alone) == len(polygons)
        for a, b in zip(alone, polygons, strict=True):
            assert len(a.rings) == len(b.rings)
            assert all(np.array_equal(ring, other) for ring, other in zip(a.rings, b.rings, strict=True))


def test_no_masks_give_no_polygons() -> None:
    assert trace_polygons([]) == []


def test_an_outline_lies_where_the_mask_lies_in_a_huge_frame() -> None:
    mask = Mask.from_window(np.ones((2, 3)), Box(99_000, 50_000, 99_003, 50_002), (100_000, 100_000))
    ((polygon,),) = trace_polygons([mask])
    assert sorted(set(map(tuple, polygon.exterior.tolist()))) == [
        (99_000, 50_000),
        (99_000, 50_002),
        (99_003, 50_000),
        (99_003, 50_002),
    ]
