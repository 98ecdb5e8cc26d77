import numpy as np
import pytest

from napari_sam.errors import ConfigError, ImageError, PromptError
from napari_sam.geometry import ModelFrame

SIZES = [(1024, 1024), (600, 800), (1, 1), (2, 100_000), (37, 5), (1333, 2047)]


@pytest.mark.parametrize(
    ("image_size", "input_size"),
    [((1024, 1024), (1024, 1024)), ((600, 800), (768, 1024)), ((1200, 1800), (683, 1024)), ((5, 3), (1024, 614))],
    ids=str,
)
def test_the_longer_side_fills_the_model(image_size, input_size):
    assert ModelFrame(image_size, 1024).input_size == input_size


def test_a_very_thin_strip_keeps_one_pixel():
    assert ModelFrame((2, 100_000), 1024).input_size == (1, 1024)


def test_points_are_scaled_by_each_axis_and_nothing_else():
    frame = ModelFrame((1200, 1800), 1024)
    points = frame.points_to_model([[0, 0], [1800, 1200], [9, 12]])
    np.testing.assert_allclose(points, [[0, 0], [1024, 683], [9 * 1024 / 1800, 12 * 683 / 1200]])


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_points_come_back(size):
    points = np.random.default_rng(0).uniform(0, 100, (3, 7, 2))
    frame = ModelFrame(size, 1024)
    np.testing.assert_allclose(frame.points_to_image(frame.points_to_model(points)), points)


def test_a_box_is_scaled_as_its_corners():
    frame = ModelFrame((300, 500), 256)
    corners = np.array([[10.0, 20.0], [300.0, 200.0]])
    np.testing.assert_allclose(frame.boxes_to_model([corners.ravel()])[0], frame.points_to_model(corners).ravel())


def test_points_are_copied():
    points = np.ones((2, 2))
    moved = ModelFrame((10, 20), 20).points_to_model(points)
    moved[:] = 5
    assert (points == 1).all()


@pytest.mark.parametrize("empty", [[], np.zeros((0, 2)), np.zeros((3, 0, 2))], ids=["list", "array", "batch"])
def test_no_points_stay_none(empty):
    assert ModelFrame((10, 20), 40).points_to_model(empty).size == 0


def test_no_boxes_stay_none():
    assert ModelFrame((10, 20), 40).boxes_to_model([]).shape == (0, 4)


@pytest.mark.parametrize("points", [[1, 2], [[1, 2, 3]], 5.0], ids=["one point", "three numbers", "scalar"])
def test_points_of_the_wrong_shape_are_named(points):
    shape = str(np.shape(points)).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(PromptError, match=rf"points must have shape \(N, 2\).*as \(x, y\) pixels, got {shape}"):
        ModelFrame((10, 20), 40).points_to_model(points)


def test_boxes_of_the_wrong_shape_are_named():
    with pytest.raises(PromptError, match=r"boxes must have shape \(N, 4\).*got \(4,\); a single one is a list"):
        ModelFrame((10, 20), 40).boxes_to_model([0, 0, 1, 1])


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (5,)], ids=str)
def test_an_image_without_pixels_has_no_frame(size):
    with pytest.raises(ImageError, match="at least 1 x 1 pixel, got"):
        ModelFrame(size, 1024)


def test_an_image_may_take_a_part_of_the_square_only():
    frame = ModelFrame((300, 700), 704, longer_side=700)
    assert (frame.scale, frame.input_size) == (1.0, (300, 700))
    np.testing.assert_array_equal(frame.points_to_model([[13.5, 299]]), [[13.5, 299]])
    assert ModelFrame((600, 1400), 704, longer_side=700).input_size == (300, 700)


@pytest.mark.parametrize("side", [0, 705])
def test_a_longer_side_outside_the_square_is_named(side):
    with pytest.raises(ConfigError, match=rf"longer_side must lie in \[1, model_size = 704\], got {side}; leave"):
        ModelFrame((300, 700), 704, longer_side=side)


def test_a_model_without_pixels_has_no_frame():
    with pytest.raises(ConfigError, match="model_size must be at least 1 pixel, got 0"):
        ModelFrame((5, 5), 0)
