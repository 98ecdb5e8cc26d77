"""Layers whose axes napari cannot line labels up with are shown once more, and their pixels stay where they are."""

from __future__ import annotations

from itertools import permutations

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image

from napari_sam.errors import ImageError
from napari_sam.ui.interactive.arranging import placed_image
from napari_sam.ui.interactive.placing import lined_up
from napari_sam.ui.interactive.session_layers import camera_of

SIZES = {"T": 2, "C": 3, "Z": 4, "Y": 20, "X": 30}


def numbered(axes: str) -> np.ndarray:
    """Each pixel has a number of its own, which does not depend on the order of the axes."""
    first = np.arange(np.prod(list(SIZES.values()))).reshape(tuple(SIZES.values()))
    chosen = first[tuple(slice(None) if axis in axes else 0 for axis in SIZES)]
    kept = [axis for axis in SIZES if axis in axes]
    return chosen.transpose([kept.index(axis) for axis in axes])


@settings(deadline=None, max_examples=15)
@given(st.sampled_from(["".join(p) for n in (2, 3, 4, 5) for p in permutations("YXCZT"[:n])]), st.integers(0, 10**6))
def test_each_pixel_lies_in_the_arranged_layer_where_it_lay(axes, place):
    viewer = ViewerModel()
    steps = np.arange(2.0, 2 + len(axes))
    layer = viewer.add_image(numbered(axes), scale=steps, translate=steps * 3, rgb=False)
    placed = placed_image(viewer, layer, axes)
    at = np.unravel_index(place % layer.data.size, layer.data.shape)
    there = tuple(at[axes.index(axis)] for axis in placed.axes)
    assert placed.layer.data[there] == layer.data[at]
    world = dict(zip(axes, layer.data_to_world(at), strict=True))
    assert placed.layer.data_to_world(there) == pytest.approx([world[axis] for axis in placed.axes])
    assert placed.axes == lined_up(axes)
    assert placed.pixels is layer.data  # what a session reads, and identifies the image by, stays as it is
    assert placed.axes_of_pixels == axes
    assert (placed.layer is layer) == (axes == placed.axes)


def test_the_layer_is_made_once_has_its_looks_and_takes_the_place_of_the_other():
    viewer = ViewerModel()
    layer = viewer.add_image(numbered("ZCYX"), name="cells", colormap="magma", contrast_limits=(0, 99))
    placed = placed_image(viewer, layer, "ZCYX")
    again = placed_image(viewer, layer, "ZCYX")
    assert again.layer is placed.layer
    assert [each.name for each in viewer.layers] == ["cells", "cells (CZYX)"]
    assert (layer.visible, placed.layer.visible) == (False, True)
    assert placed.layer.colormap.name == "magma"
    assert placed.layer.contrast_limits == [0, 99]
    assert placed.layer.axis_labels == ("c", "z", "y", "x")
    assert np.shares_memory(placed.layer.data, layer.data)


def test_the_plane_that_was_shown_is_shown():
    viewer = ViewerModel()
    layer = viewer.add_image(numbered("ZCYX"), scale=(5, 1, 1, 1))
    viewer.dims.set_point([0, 1], [15, 2])
    placed = placed_image(viewer, layer, "ZCYX")
    assert viewer.dims.point[:2] == (2, 15)
    assert placed.locate(viewer.dims.point)[0] == (3,)


def test_a_viewer_that_was_rolled_to_see_rows_and_columns_is_rolled_back():
    viewer = ViewerModel()
    layer = viewer.add_image(numbered("YXC"), rgb=False)
    viewer.dims.order = (2, 0, 1)
    placed_image(viewer, layer, "YXC")
    assert viewer.dims.displayed == (1, 2)
    assert camera_of(viewer).center[-2:] == pytest.approx((9.5, 14.5))  # the middle of 20 x 30 pixels


@pytest.mark.parametrize("kind", ["dask", "zarr"])
def test_lazy_pixels_are_not_read_and_levels_stay_levels(kind):
    levels = [np.zeros((4, 64 // k, 64 // k, 2), np.uint8) for k in (1, 2)]
    lazy = [da.from_array(level) if kind == "dask" else zarr.array(level) for level in levels]
    viewer = ViewerModel()
    layer = viewer.add_image(lazy, multiscale=True, rgb=False, contrast_limits=(0, 9))
    placed = placed_image(viewer, layer, "ZYXC")
    assert [level.shape for level in placed.layer.data] == [(2, 4, 64, 64), (2, 4, 32, 32)]
    assert all(isinstance(level, da.Array) for level in placed.layer.data)
    assert placed_image(viewer, layer, "ZYXC").layer is placed.layer


def test_colours_stay_last():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((20, 4, 30, 3), np.uint8), rgb=True)
    placed = placed_image(viewer, layer, "YZX")
    assert placed.layer.data.shape == (4, 20, 30, 3)
    assert placed.layer.rgb
    assert placed.axes_of_pixels == "YZXS"


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")  # napari shows the layer's columns and channels at first
def test_a_turned_image_is_turned_as_well():
    viewer = ViewerModel()
    turned = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]])
    layer = viewer.add_image(np.zeros((20, 30, 2)), rotate=turned, rgb=False)
    placed = placed_image(viewer, layer, "YXC")
    y, x, c = layer.data_to_world((3, 4, 1))
    assert placed.layer.data_to_world((1, 3, 4)) == pytest.approx((c, y, x))


@pytest.mark.parametrize("axes", ["", "ZYY", "ZCT", "ZYXC", "QYX"])
def test_axes_that_cannot_be_meant_are_refused(axes):
    with pytest.raises(ImageError, match=r"must be 3 different letters of TCZYX with Y and X among them, got "):
        placed_image(ViewerModel(), Image(np.zeros((4, 20, 30)), name="cells"), axes)
