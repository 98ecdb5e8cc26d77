import itertools

import numpy as np
import pytest

from napari_sam.errors import ConfigError
from napari_sam.geometry import Box, crop_boxes, layer_point_grids, point_grid


def test_the_points_lie_in_the_middle_of_equal_cells_x_fastest():
    expected = [((i + 0.5) / 5, (j + 0.5) / 5) for j, i in itertools.product(range(5), range(5))]
    np.testing.assert_allclose(point_grid(5), expected)


def test_a_grid_of_one_is_the_middle():
    assert point_grid(1).tolist() == [[0.5, 0.5]]


def test_each_crop_layer_has_a_thinner_grid():
    assert [len(grid) for grid in layer_point_grids(32, 2, 2)] == [32**2, 16**2, 8**2]
    assert [len(grid) for grid in layer_point_grids(5, 1, 2)] == [25, 4]


def test_without_layers_the_whole_image_is_the_only_crop():
    assert crop_boxes((30, 40), 0, 0.3) == ([Box(0, 0, 40, 30)], [0])


def test_crops_are_those_of_the_published_code():
    # 512 / 1500 is the published default; these are the boxes that code gives for a 1080 x 1920 image
    boxes, layers = crop_boxes((1080, 1920), 1, 512 / 1500)
    assert layers == [0, 1, 1, 1, 1]
    assert boxes[1:] == [
        Box(0, 0, 1144, 724),
        Box(0, 356, 1144, 1080),
        Box(776, 0, 1920, 724),
        Box(776, 356, 1920, 1080),
    ]


@pytest.mark.parametrize("size", [(64, 64), (101, 333), (1000, 37), (7, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("overlap_ratio", [0.0, 0.2, 0.5])
def test_the_crops_of_each_layer_cover_the_image_and_stay_in_it(size, overlap_ratio):
    boxes, layers = crop_boxes(size, 3, overlap_ratio)
    covered = np.zeros((4, *size), dtype=bool)
    for box, layer in zip(boxes, layers, strict=True):
        assert not box.is_empty
        assert Box.of_size(size).contains_box(box)
        covered[layer][box.slices] = True
    assert covered.all()


def test_a_layer_has_four_to_its_power_crops():
    assert np.bincount(crop_boxes((512, 512), 3, 0.3)[1]).tolist() == [1, 4, 16, 64]


def test_a_grid_without_points_is_refused():
    with pytest.raises(ConfigError, match="points_per_side must be at least 1, got 0"):
        point_grid(0)


def test_a_layer_without_points_is_refused():
    with pytest.raises(ConfigError, match="2 points a side leave none on crop layer 2 with a downscale factor of 2"):
        layer_point_grids(2, 2, 2)


@pytest.mark.parametrize(("n_layers", "factor"), [(-1, 2), (1, 0)])
def test_layers_and_factors_out_of_range_are_refused(n_layers, factor):
    with pytest.raises(ConfigError, match=f"got {n_layers} and {factor}; 0 layers"):
        layer_point_grids(8, n_layers, factor)


@pytest.mark.parametrize(("n_layers", "ratio"), [(-1, 0.1), (1, 1.0), (1, -0.1)])
def test_crops_out_of_range_are_refused(n_layers, ratio):
    with pytest.raises(ConfigError, match=rf"overlap ratio in \[0, 1\), got {n_layers} and {ratio}"):
        crop_boxes((8, 8), n_layers, ratio)
