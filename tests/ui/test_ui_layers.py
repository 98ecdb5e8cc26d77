"""Which pixels a job reads from an Image layer, and where its labels are put; no window needed."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_sam.errors import ImageError
from napari_sam.ui import labels_layer, shown_plane


def stack(planes: int = 4) -> np.ndarray:
    """Planes of 5 x 6 pixels, each filled with its own number."""
    return np.repeat(np.arange(planes, dtype=np.uint8), 30).reshape(planes, 5, 6)


def test_a_plain_image_is_read_whole():
    plane = shown_plane(Image(stack()[1]), (0, 0))
    assert plane.pixels.shape == (5, 6)
    assert plane.index == ()


def test_the_plane_under_the_slider_is_read_in_world_units():
    layer = Image(stack(), scale=(2.0, 1.0, 1.0), translate=(10.0, 0.0, 0.0))
    plane = shown_plane(layer, (14.0, 0.0, 0.0))
    assert plane.index == (2,)
    assert np.all(plane.pixels == 2)


def test_dimensions_of_the_viewer_that_the_layer_lacks_are_ignored():
    assert shown_plane(Image(stack()), (99.0, 3.0, 0.0, 0.0)).index == (3,)


def test_an_rgb_layer_keeps_its_colours():
    plane = shown_plane(Image(np.zeros((5, 6, 3), np.uint8), rgb=True), (0, 0))
    assert plane.pixels.shape == (5, 6, 3)


def test_of_a_multiscale_layer_the_full_resolution_is_read():
    levels = [np.zeros((64, 64), np.uint8), np.zeros((32, 32), np.uint8)]
    assert shown_plane(Image(levels, multiscale=True), (0, 0)).pixels.shape == (64, 64)


def test_a_lazy_layer_stays_lazy():
    plane = shown_plane(Image(da.from_array(stack())), (1, 0, 0))
    assert isinstance(plane.pixels, da.Array)


def test_a_position_outside_the_stack_is_named():
    with pytest.raises(ImageError, match=r"planes \(4,\).*position \(7,\).*move the sliders"):
        shown_plane(Image(stack(), name="s"), (7, 0, 0))


def test_a_layer_with_one_axis_is_refused():
    class Line:
        ndim, name = 1, "line"

    with pytest.raises(ImageError, match=r"'line' has 1; choose an image"):
        shown_plane(Line(), (0,))  # type: ignore[arg-type]


PLACES = {
    "scaled and moved": {"scale": (0.5, 0.25), "translate": (3, 4)},
    "rotated and sheared": {"rotate": 30, "shear": [0.2], "scale": (2, 1), "translate": (1, 2)},
    "with an affine": {"affine": [[0, 2, 5], [-1, 0, 7], [0, 0, 1]], "translate": (1, 2)},
    "with units": {"units": ("um", "um")},
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_labels_lie_where_the_image_lies(place):
    image = Image(np.zeros((5, 6)), **place)
    data, options, kind = labels_layer(np.ones((5, 6), np.uint32), shown_plane(image, (0, 0)))
    layer = Labels(data, **options)
    assert kind == "labels"
    assert layer.units == image.units
    for corner in ((0, 0), (4, 5)):
        np.testing.assert_allclose(layer.data_to_world(corner), image.data_to_world(corner))


def test_labels_of_a_rotated_stack_lie_on_their_plane():
    within_the_plane = np.array([[1, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]])
    image = Image(stack(), rotate=within_the_plane, scale=(2, 1, 1), translate=(10, 0, 0))
    plane = shown_plane(image, image.data_to_world((3, 0, 0)))
    data, options, _ = labels_layer(np.ones((5, 6), np.uint32), plane)
    np.testing.assert_allclose(Labels(data, **options).data_to_world((0, 4, 5)), image.data_to_world((3, 4, 5)))


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_labels_of_a_plane_of_a_stack_are_one_plane_thick_and_lie_on_it(lazy):
    image = Image(stack(), scale=(2, 1, 1), translate=(10, 0, 0))
    plane = shown_plane(image, (14, 0, 0))
    labels = np.ones((5, 6), np.uint32)
    data, options, _ = labels_layer(da.from_array(labels) if lazy else labels, plane)
    assert data.shape == (1, 5, 6)
    assert isinstance(data, da.Array) == lazy
    assert list(options["translate"]) == [14.0, 0.0, 0.0]


def test_a_shown_plane_does_not_change_with_its_layer():
    layer = Image(stack()[0], name="before")
    plane = shown_plane(layer, (0, 0))
    layer.name, layer.translate = "after", (9, 9)
    assert plane.name == "before"
    assert list(plane.placement["translate"]) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("options", "shape", "axes", "index"),
    [
        ({}, (2, 5, 6), "CYX", (3,)),
        ({"is_stack": True}, (2, 4, 5, 6), "CZYX", ()),
    ],
    ids=["a plane", "a stack"],
)
def test_channels_come_along_whatever_their_slider_says(options, shape, axes, index):
    pixels = np.stack([stack(), stack() + 10])
    layer = Image(pixels, scale=(1, 2, 1, 1), translate=(0, 10, 0, 0))
    plane = shown_plane(layer, (1.0, 16.0, 0.0, 0.0), has_channels=True, **options)
    assert (plane.pixels.shape, plane.axes, plane.index) == (shape, axes, index)
    np.testing.assert_array_equal(plane.pixels, pixels if not index else pixels[:, 3])
    _, placed, _ = labels_layer(np.ones((5, 6), np.uint32), plane)
    assert list(placed["translate"]) == [16.0 if index else 10.0, 0.0, 0.0]


def test_a_single_plane_of_channels_is_no_stack():
    with pytest.raises(ImageError, match=r"'c' is a single plane; untick 'all planes'"):
        shown_plane(Image(stack(), name="c"), (0, 0, 0), is_stack=True, has_channels=True)
