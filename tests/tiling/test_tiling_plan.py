"""Plans: cores cover each pixel once, all tiles read equally much around theirs."""

from __future__ import annotations

import pickle
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.errors import TilingError
from napari_sam.geometry import Box
from napari_sam.tiling import TilingConfig, plan_tiles
from napari_sam.tiling.packing import packed_indices, unpacked_indices


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(0, 39))
def test_cores_cover_each_pixel_once_and_all_tiles_read_as_much_around_them(height, width, core_px, halo_px):
    halo_px = min(halo_px, core_px - 1)
    plan = plan_tiles((height, width), TilingConfig(core_px=core_px, halo_px=halo_px))
    owner = np.full((height, width), -1)
    for tile in plan.fine:
        assert (owner[tile.core.slices] == -1).all()
        owner[tile.core.slices] = tile.index
        assert tile.read.contains_box(tile.core.grown(halo_px).clipped(Box.of_size((height, width))))
        assert tile.read.size == (min(height, plan.read_px), min(width, plan.read_px))
    assert (owner >= 0).all()
    assert plan.grid_shape[0] * plan.grid_shape[1] == len(plan.fine)
    assert [tile.index for tile in plan.tiles] == list(range(len(plan.tiles)))
    for axis, side in (("width", width), ("height", height)):
        sides = {getattr(tile.core, axis) for tile in plan.fine}
        assert max(sides) - min(sides) <= 1
        assert max(sides) <= core_px or (sides == {side} and side <= core_px + 2 * halo_px)
        assert max(getattr(tile.read, axis) for tile in plan.fine) <= plan.read_px


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    core_px=st.integers(2, 60),
    halo_px=st.integers(0, 30),
    max_object_px=st.sampled_from([0, 50, 2000]),
    prompted_px=st.sampled_from([None, 9, 40]),
    seed=st.integers(0, 99),
)
def test_a_plan_that_was_sent_is_the_same_plan(size, core_px, halo_px, max_object_px, prompted_px, seed):
    chance = np.random.default_rng(seed)
    sizes = {"core_px": core_px, "halo_px": min(halo_px, core_px - 1)}
    config = TilingConfig(**sizes, max_object_px=max_object_px, prompted_px=prompted_px)
    plan = plan_tiles(size, config, keep=lambda _: chance.random() < 0.7)
    again = pickle.loads(pickle.dumps(plan))
    for field in fields(plan):
        np.testing.assert_equal(getattr(again, field.name), getattr(plan, field.name))


def test_a_plan_of_thousands_of_tiles_is_sent_as_a_few_bytes():
    plan = plan_tiles((20_000, 30_000), TilingConfig(core_px=512, halo_px=64), keep=lambda tile: tile.index % 3)
    assert len(plan.tiles) > 2000
    assert len(pickle.dumps(plan)) < 1000


@given(st.frozensets(st.integers(0, 3000)))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_set_of_tiles_comes_back_as_it_was_packed(indices):
    assert unpacked_indices(packed_indices(indices)) == indices


def test_an_image_that_fits_into_one_tile_with_its_halo_is_one_tile():
    plan = plan_tiles((100, 121), TilingConfig(core_px=80, halo_px=20))
    assert plan.grid_shape == (1, 2)
    assert plan_tiles((100, 120), TilingConfig(core_px=80, halo_px=20)).tiles[0].read == Box(0, 0, 120, 100)


def test_there_is_no_sliver_at_the_end():
    plan = plan_tiles((10, 1001), TilingConfig(core_px=100, halo_px=10))
    assert plan.column_edges.tolist() == [0, 91, 182, 273, 364, 455, 546, 637, 728, 819, 910, 1001]


def test_the_owner_of_many_boxes_is_the_one_tile_that_owns_each():
    plan = plan_tiles((57, 83), TilingConfig(core_px=20, halo_px=3))
    rng = np.random.default_rng(0)
    corners = rng.integers(0, [60, 40], (200, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, [23, 17], (200, 2))], axis=1)
    for box, owner in zip(boxes.tolist(), plan.owner_of(boxes).tolist(), strict=True):
        assert [tile.index for tile in plan.fine if tile.owns(Box(*box))] == [owner]


def test_the_tiles_reading_a_box_are_those_whose_read_meets_it():
    plan = plan_tiles((57, 83), TilingConfig(core_px=20, halo_px=15))
    for box in (Box(0, 0, 1, 1), Box(19, 19, 20, 20), Box(36, 20, 37, 60), Box(0, 0, 83, 57), Box(82, 56, 83, 57)):
        assert plan.tiles_reading(box) == [tile for tile in plan.fine if tile.read.intersects(box)]


def test_tiles_without_foreground_are_skipped_but_stay_in_the_grid():
    plan = plan_tiles((60, 60), TilingConfig(core_px=20, halo_px=2), keep=lambda tile: tile.core.x0 > 0)
    assert plan.skipped == {0, 3, 6}
    assert len(plan.fine) == 9
    assert [tile.index for tile in plan.kept if tile.step == 1] == [1, 2, 4, 5, 7, 8]


def test_a_coarse_tile_is_skipped_where_all_fine_tiles_are():
    config = TilingConfig(core_px=20, halo_px=2, max_object_px=200)
    plan = plan_tiles((60, 400), config, keep=lambda tile: tile.core.x0 >= 200)
    at_a_quarter = [tile for tile in plan.coarse if tile.step == 4]
    assert [tile.index in plan.skipped for tile in at_a_quarter] == [tile.core.x1 <= 200 for tile in at_a_quarter]
    assert any(tile.index in plan.skipped for tile in at_a_quarter)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(1, 900), st.integers(1, 900), st.integers(8, 60), st.integers(0, 20), st.sampled_from([0, 50, 300, 900])
)
def test_each_coarse_layer_covers_the_image_and_the_last_shows_the_largest_objects_whole(
    height, width, core_px, halo_px, max_object_px
):
    halo_px = min(halo_px, core_px - 1)
    config = TilingConfig(core_px=core_px, halo_px=halo_px, max_object_px=max_object_px)
    plan = plan_tiles((height, width), config)
    steps = sorted({tile.step for tile in plan.tiles})
    for step in steps[1:]:
        layer = [tile for tile in plan.coarse if tile.step == step]
        covered = np.zeros((height, width), dtype=int)
        for tile in layer:
            covered[tile.core.slices] += 1
            assert max(tile.read.size) <= step * plan.read_px
            assert tile.read.x0 % step == tile.read.y0 % step == 0
        assert (covered == 1).all()
    whole = 2 * halo_px * steps[-1] >= min(max_object_px, height, width)
    assert whole or steps[-1] * plan.read_px >= max(height, width) or not max_object_px
    assert [tile.index for tile in plan.tiles] == list(range(len(plan.tiles)))


def test_an_image_of_one_tile_and_a_plan_without_large_objects_have_no_coarse_tiles():
    assert plan_tiles((100, 120), TilingConfig(core_px=80, halo_px=20)).coarse == ()
    assert plan_tiles((500, 500), TilingConfig(core_px=80, halo_px=20, max_object_px=0)).coarse == ()
    assert plan_tiles((500, 500), TilingConfig(core_px=80, halo_px=20, max_object_px=40)).coarse == ()


def test_open_sizes_follow_the_input_of_the_model():
    config = TilingConfig().resolve(1024)
    assert (config.core_px, config.halo_px) == (768, 128)
    assert TilingConfig(halo_px=200).resolve(1024).core_px == 624
    small = TilingConfig(core_px=50).resolve(1024)
    assert (small.core_px, small.halo_px, small.prompted_px) == (50, 49, 148)


def test_where_a_model_sees_more_without_prompts_tiles_are_larger_and_the_rest_is_as_it_was():
    config = TilingConfig().resolve(512, read_px=1024)
    assert (config.core_px, config.halo_px, config.prompted_px) == (896, 64, 512)
    steps = {tile.step for tile in plan_tiles((1000, 600), config).tiles}
    assert steps == {tile.step for tile in plan_tiles((1000, 600), TilingConfig().resolve(512)).tiles} == {1, 2}
    given = TilingConfig(core_px=300, halo_px=10, prompted_px=200).resolve(512, read_px=1024)
    assert (given.core_px, given.halo_px, given.prompted_px) == (300, 10, 200)


def test_covered_objects_follow_the_automatic_masks_unless_it_is_set():
    assert TilingConfig().resolve(1024).object_cover_thresh is None
    assert TilingConfig().resolve(1024, 0.4).object_cover_thresh == 0.4
    assert TilingConfig(object_cover_thresh=1).resolve(1024, 0.4).object_cover_thresh == 1


def test_what_was_given_is_kept():
    config = TilingConfig(core_px=300, halo_px=10, merge_iou_thresh=0.4, prompted_px=320)
    assert config.resolve(1024) == config


def test_merge_settings_hold_nothing_that_the_tiles_depend_on():
    assert sorted(TilingConfig().merge_settings()) == [
        "edge_tolerance_px",
        "fragment_cover_thresh",
        "max_window_px",
        "merge_iou_thresh",
        "object_cover_thresh",
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"core_px": 0}, r"core_px must be at least 1 pixel, got 0; 768 is usual"),
        ({"core_px": 10, "halo_px": 10}, r"halo_px must lie in \[0, core_px = 10\), got 10"),
        ({"halo_px": -1}, r"halo_px must lie in \[0, .*got -1; an eighth"),
        ({"merge_iou_thresh": 1.0}, r"merge_iou_thresh must lie in \[0, 1\), got 1.0; 0.5 is usual"),
        ({"fragment_cover_thresh": -0.1}, r"fragment_cover_thresh must lie in \[0, 1\), got -0.1"),
        ({"object_cover_thresh": 1.1}, r"object_cover_thresh must lie in \[0, 1\], got 1.1; 1 keeps all objects, or"),
        ({"edge_tolerance_px": -1}, r"edge_tolerance_px must be at least 0, got -1; 2 is usual"),
        ({"max_object_px": -1}, r"max_object_px must be at least 0, got -1; 2048 is usual, 0 leaves out coarse tiles"),
        ({"prompted_px": 0}, r"prompted_px must be at least 1 pixel, got 0; or leave it out"),
        ({"max_window_px": 4}, r"max_window_px must be at least 16, got 4; 4096 is usual"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_settings_outside_their_range_are_named(fields, message):
    with pytest.raises(TilingError, match=message):
        TilingConfig(**fields)


def test_a_halo_that_leaves_no_core_is_named():
    with pytest.raises(TilingError, match=r"halo_px = 400 leaves a core of 224 pixels in a model input of 1024"):
        TilingConfig(halo_px=400).resolve(1024)


def test_an_open_configuration_is_refused_with_what_to_do():
    with pytest.raises(TilingError, match=r"must be known, got None and None; call config.resolve"):
        plan_tiles((10, 10), TilingConfig())


def test_an_image_without_pixels_is_refused():
    with pytest.raises(TilingError, match=r"at least 1 x 1 pixel, got 0 x 7; check the axes"):
        plan_tiles((0, 7), TilingConfig(core_px=4, halo_px=1))
