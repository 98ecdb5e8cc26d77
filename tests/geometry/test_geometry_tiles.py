import numpy as np
import pytest

from napari_sam.errors import TilingError
from napari_sam.geometry import Box, Tile

IMAGE = (90, 100)


def grid_of_tiles(core=30, halo=8):
    height, width = IMAGE
    whole = Box.of_size(IMAGE)
    cores = [
        Box(x, y, min(x + core, width), min(y + core, height))
        for y in range(0, height, core)
        for x in range(0, width, core)
    ]
    return [Tile(i, c, c.grown(halo).clipped(whole)) for i, c in enumerate(cores)]


def test_each_box_has_exactly_one_owner_also_on_borders():
    rng = np.random.default_rng(0)
    tiles = grid_of_tiles()
    for _ in range(500):
        x0, y0 = rng.integers(0, 100), rng.integers(0, 90)
        box = Box(x0, y0, rng.integers(x0 + 1, 101), rng.integers(y0 + 1, 91))
        assert sum(tile.owns(box) for tile in tiles) == 1
    assert [tile.index for tile in tiles if tile.owns(Box(20, 20, 40, 40))] == [5]


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        (Box(5, 5, 20, 20), False),
        (Box(0, 5, 20, 20), True),
        (Box(5, 0, 20, 20), True),
        (Box(5, 5, 46, 20), True),
        (Box(5, 5, 20, 46), True),
        (Box(5, 5, 45, 45), False),
    ],
    ids=["inside", "left", "top", "right", "bottom", "one pixel away"],
)
def test_an_object_at_the_edge_of_what_an_inner_tile_read_is_cut(box, cut):
    tile = grid_of_tiles()[5]
    assert tile.read == Box(22, 22, 68, 68)
    assert tile.is_cut(box, IMAGE) is cut


def test_an_object_at_the_edge_of_the_image_is_whole():
    first, last = grid_of_tiles()[0], grid_of_tiles()[-1]
    assert not first.is_cut(Box(0, 0, 10, 10), IMAGE)
    assert first.is_cut(Box(0, 0, first.read.width, 10), IMAGE)
    assert not last.is_cut(Box(5, 5, last.read.width, last.read.height), IMAGE)
    assert last.is_cut(Box(0, 5, 4, 10), IMAGE)


def test_the_only_tile_of_an_image_cuts_nothing():
    whole = Box.of_size(IMAGE)
    assert not Tile(0, whole, whole).is_cut(whole, IMAGE)


def test_a_tile_that_does_not_read_its_core_is_refused():
    with pytest.raises(TilingError, match="must read all of its core, got core Box"):
        Tile(0, Box(0, 0, 10, 10), Box(0, 0, 9, 10))
