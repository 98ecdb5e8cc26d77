"""The rules of the merge, one by one, on masks made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiling_synthetic import Picture, key_of

from napari_sam.errors import OutputError
from napari_sam.geometry import Box, Mask, Tile
from napari_sam.tiling import Ledger, MergedObjects, TilingConfig, merge_tiles, plan_tiles

SIZE = (100, 200)
PICTURE = Picture(np.zeros(SIZE, dtype=np.uint8))
CONFIG = TilingConfig(core_px=100, halo_px=20, edge_tolerance_px=0)
# Read areas that are easy to reckon with; plans let tiles at the image's edges read further.
PLAN = replace(
    plan_tiles(SIZE, CONFIG),
    tiles=(Tile(0, Box(0, 0, 100, 100), Box(0, 0, 120, 100)), Tile(1, Box(100, 0, 200, 100), Box(80, 0, 200, 100))),
)
# Two tiles: the left one reads columns 0 to 120, the right one columns 80 to 200.
LEFT, RIGHT = 0, 1


def rectangle(x0: int, y0: int, x1: int, y1: int, iou: float = 0.9, *, without: Box | None = None) -> Mask:
    pixels = np.ones((y1 - y0, x1 - x0), dtype=bool)
    if without is not None:
        pixels[without.shifted(-x0, -y0).slices] = False
    return Mask.from_window(pixels, Box(x0, y0, x1, y1), SIZE, predicted_iou=iou, prompt="grid")


def no_answer(pixels: np.ndarray, fragment: Mask) -> Mask | None:
    return None


def merged(folder, left, right, reprompt=no_answer, config=CONFIG, order=(LEFT, RIGHT)) -> MergedObjects:
    with Ledger.open(folder, key_of(PICTURE, PLAN, config), SIZE) as ledger:
        for tile in order:
            ledger.tiles.write(tile, (left, right)[tile])
        return merge_tiles(ledger, PLAN, PICTURE.read, reprompt, config)


def boxes(objects: MergedObjects) -> list[tuple[int, ...]]:
    table = objects.table
    return list(zip(table.x0.tolist(), table.y0.tolist(), table.x1.tolist(), table.y1.tolist(), strict=True))


def test_the_two_tiles_read_what_the_tests_assume():
    assert [tile.read for tile in PLAN.tiles] == [Box(0, 0, 120, 100), Box(80, 0, 200, 100)]


def test_of_two_versions_the_one_of_the_tile_that_owns_the_centre_stays_even_if_it_is_rated_lower(tmp_path):
    mine, theirs = rectangle(84, 10, 110, 30, 0.6), rectangle(85, 10, 110, 30, 0.99)
    objects = merged(tmp_path, [mine], [theirs])
    assert boxes(objects) == [(84, 10, 110, 30)]
    assert objects.table.tile.tolist() == [LEFT]
    assert objects.summary.duplicates == 1


def test_of_two_versions_that_each_tile_owns_the_better_rated_stays(tmp_path):
    left, right = rectangle(90, 10, 109, 30, 0.8), rectangle(92, 10, 109, 30, 0.9)
    assert boxes(merged(tmp_path, [left], [right])) == [(92, 10, 109, 30)]


def test_of_equally_rated_versions_the_one_of_the_first_tile_stays_in_any_order_of_tiles(tmp_path):
    left, right = rectangle(90, 10, 109, 30), rectangle(92, 10, 109, 30)
    for order in ((LEFT, RIGHT), (RIGHT, LEFT)):
        assert boxes(merged(tmp_path / str(order), [left], [right], order=order)) == [(90, 10, 109, 30)]


def test_an_object_that_its_owner_did_not_find_is_kept_from_the_other_tile(tmp_path):
    seen_by_right = rectangle(84, 10, 96, 30)
    assert PLAN.tiles[LEFT].owns(seen_by_right.box)
    assert boxes(merged(tmp_path, [], [seen_by_right])) == [(84, 10, 96, 30)]


def test_objects_that_only_touch_or_overlap_a_little_stay_two(tmp_path):
    objects = merged(tmp_path, [rectangle(84, 10, 100, 30)], [rectangle(96, 10, 116, 30)])
    assert len(objects) == 2


def test_equal_boxes_of_different_masks_are_no_duplicates(tmp_path):
    frame = rectangle(90, 10, 110, 30, without=Box(92, 12, 108, 28))
    cross = Mask.from_window(np.eye(20, dtype=bool), Box(90, 10, 110, 30), SIZE, predicted_iou=0.9)
    assert len(merged(tmp_path, [frame], [cross])) == 2


def test_nested_objects_of_two_tiles_stay_two(tmp_path):
    cell, nucleus = rectangle(84, 10, 116, 50), rectangle(95, 20, 105, 30)
    assert len(merged(tmp_path, [cell], [nucleus])) == 2


def test_masks_of_one_tile_are_not_compared(tmp_path):
    whole, part = rectangle(84, 10, 116, 50), rectangle(84, 10, 116, 45)
    assert len(merged(tmp_path, [whole, part], [])) == 2


COVERED = replace(CONFIG, object_cover_thresh=0.5)


def test_a_mask_that_a_better_one_of_the_next_tile_covers_goes(tmp_path):
    # The left tile sees a cell and a part of the next as one mask; by their IoU of 0.44 the two are not the same.
    pair, cell = rectangle(84, 10, 102, 50, 0.7), rectangle(84, 10, 92, 50, 0.9)
    other = rectangle(94, 10, 102, 50, 0.8)
    objects = merged(tmp_path, [pair], [cell, other], config=COVERED)
    assert boxes(objects) == [(84, 10, 92, 50), (94, 10, 102, 50)]
    assert objects.table.label.tolist() == [1, 2]
    assert objects.summary.covered == 1


def test_parts_and_wholes_stay_where_covered_objects_are_not_dropped(tmp_path):
    whole, part, other_part = rectangle(84, 10, 116, 50, 0.7), rectangle(84, 10, 90, 20), rectangle(100, 10, 116, 50)
    for config in (CONFIG, replace(CONFIG, object_cover_thresh=1)):
        objects = merged(tmp_path / str(config.object_cover_thresh), [whole, part], [other_part], config=config)
        assert len(objects) == 3
        assert objects.summary.covered == 0


def test_a_better_mask_that_is_itself_covered_covers_nothing(tmp_path):
    best, middle, worst = (
        rectangle(84, 10, 94, 50, 0.9),
        rectangle(84, 10, 102, 50, 0.8),
        rectangle(94, 10, 104, 50, 0.7),
    )
    objects = merged(tmp_path, [middle, best], [worst], config=COVERED)
    assert boxes(objects) == [(84, 10, 94, 50), (94, 10, 104, 50)]


def test_a_fragment_that_better_objects_cover_goes_and_is_not_counted(tmp_path):
    fragment, cell = rectangle(70, 10, 120, 50, 0.7), rectangle(85, 10, 118, 50, 0.9)
    objects = merged(tmp_path, [fragment], [cell], no_answer, replace(COVERED, merge_iou_thresh=0.9))
    assert boxes(objects) == [(85, 10, 118, 50)]
    assert objects.summary.fragments == 0
    assert not objects.table.touches_seam.any()


def test_an_outcome_without_covered_objects_is_read_back(tmp_path):
    arguments = [rectangle(84, 10, 102, 50, 0.7), rectangle(84, 10, 96, 50, 0.9)], []
    first = merged(tmp_path, *arguments, config=COVERED)
    again = merged(tmp_path, *arguments, config=COVERED)
    assert again.summary == first.summary
    assert again.mask(0).box == first.mask(0).box == Box(84, 10, 96, 50)
    assert len(again) == 1


def test_a_mask_goes_only_for_one_that_stays(tmp_path):
    # b goes for a, and c is like b but not like a: c stays.
    a, b, c = rectangle(84, 10, 114, 20, 0.99), rectangle(86, 10, 116, 27, 0.95), rectangle(86, 10, 116, 34, 0.9)
    assert boxes(merged(tmp_path, [a, c], [b])) == [(84, 10, 114, 20), (86, 10, 116, 34)]


def test_a_cut_mask_that_the_other_tile_sees_whole_is_dropped(tmp_path):
    objects = merged(tmp_path, [rectangle(90, 10, 120, 30)], [rectangle(90, 10, 150, 30)])
    assert boxes(objects) == [(90, 10, 150, 30)]
    assert objects.summary.cut_seen_whole == 1
    assert objects.summary.cut_objects_reprompted == 0


def test_every_prong_of_an_object_seen_whole_elsewhere_is_dropped(tmp_path):
    # A comb open to the left: the left tile sees its teeth as separate cut masks that reach into its core.
    teeth = [rectangle(90, y, 120, y + 6) for y in (10, 30, 50, 70)]
    comb = np.zeros(SIZE, dtype=bool)
    comb[10:76, 125:135] = True
    for tooth in teeth:
        comb |= tooth.to_array()
        comb[tooth.box.y0 : tooth.box.y1, 120:126] = True
    objects = merged(tmp_path, teeth, [Mask.from_array(comb, predicted_iou=0.9)])
    assert boxes(objects) == [(90, 10, 135, 76)]
    assert objects.summary.cut_objects_reprompted == 0


def test_a_cut_object_inside_another_that_is_seen_whole_is_asked_for_not_dropped(tmp_path):
    cell, nucleus = rectangle(85, 10, 160, 60), rectangle(95, 25, 120, 35)
    asked = []
    merged(tmp_path, [nucleus], [cell], reprompt=lambda pixels, fragment: asked.append(fragment.box))
    assert asked == [nucleus.box]


def test_a_fragment_in_the_halo_that_another_tile_covers_is_not_asked_for(tmp_path):
    ragged = rectangle(112, 10, 120, 40)
    objects = merged(tmp_path, [ragged], [rectangle(114, 5, 180, 60)])
    assert boxes(objects) == [(114, 5, 180, 60)]
    assert objects.summary.cut_objects_reprompted == 0


def whole_answer(pixels: np.ndarray, fragment: Mask) -> Mask:
    return Mask.from_window(
        np.ones((30, 180), dtype=bool), Box(10, 10, 190, 40), fragment.frame_size, predicted_iou=0.7
    )


def test_a_fragment_in_the_halo_is_dropped_where_the_tile_that_answers_there_found_nothing(tmp_path):
    objects = merged(tmp_path, [rectangle(105, 10, 120, 30)], [])
    assert boxes(objects) == []
    assert objects.summary.cut_objects_reprompted == 0


def test_a_fragment_in_the_halo_speaks_for_its_object_where_the_tile_that_answers_there_failed(tmp_path):
    with Ledger.open(tmp_path, key_of(PICTURE, PLAN, CONFIG), SIZE) as ledger:
        ledger.tiles.write(LEFT, [rectangle(105, 10, 120, 30)])
        objects = merge_tiles(ledger, PLAN, PICTURE.read, no_answer, CONFIG)
    assert boxes(objects) == [(105, 10, 120, 30)]
    assert objects.table.touches_seam.tolist() == [True]


def test_an_object_cut_in_every_tile_comes_out_whole_and_once(tmp_path):
    asked = []

    def reprompt(pixels: np.ndarray, fragment: Mask) -> Mask:
        asked.append(fragment.box)
        assert pixels.shape == (*SIZE, 3)
        return whole_answer(pixels, fragment)

    fragments = rectangle(10, 10, 120, 40), rectangle(80, 10, 190, 40)
    objects = merged(tmp_path, [fragments[0]], [fragments[1]], reprompt)
    assert boxes(objects) == [(10, 10, 190, 40)]
    assert asked == [fragments[0].box]
    assert objects.table.prompt.tolist() == ["reprompt"]
    assert objects.table.predicted_iou.tolist() == [0.7]
    assert not objects.table.touches_seam.any()


def test_several_fragments_of_one_object_give_it_once_though_each_is_asked_for(tmp_path):
    # The second fragment is too unlike the first answer to be known by it, its own answer is the same object.
    left, right = rectangle(10, 10, 120, 40), rectangle(80, 30, 190, 55)
    objects = merged(
        tmp_path, [left], [right], whole_answer, TilingConfig(core_px=100, halo_px=20, fragment_cover_thresh=0.3)
    )
    assert objects.summary.cut_objects_reprompted == 2
    assert boxes(objects) == [(10, 10, 190, 40)]


@pytest.mark.parametrize(("n_cells", "stays"), [(4, True), (5, False)])
def test_an_object_that_was_prompted_again_goes_where_better_ones_cover_most_of_it(tmp_path, n_cells, stays):
    fragments = rectangle(10, 10, 120, 40), rectangle(80, 10, 190, 40)
    cells = [rectangle(x, 10, x + 20, 40, 0.8) for x in range(10, 10 + 20 * n_cells, 20)]
    objects = merged(tmp_path, [fragments[0], *cells], [fragments[1]], whole_answer, COVERED)
    assert ((10, 10, 190, 40) in boxes(objects)) is stays
    assert len(objects) == n_cells + stays


def test_an_answer_that_a_tile_saw_whole_already_is_not_added(tmp_path):
    seen, cut = rectangle(100, 10, 190, 40), rectangle(85, 10, 120, 60)

    def answers_seen(pixels: np.ndarray, fragment: Mask) -> Mask:
        return Mask.from_window(np.ones((32, 92), dtype=bool), Box(98, 10, 190, 42), fragment.frame_size)

    config = TilingConfig(core_px=100, halo_px=20, fragment_cover_thresh=0.3, merge_iou_thresh=0.6)
    objects = merged(tmp_path, [cut], [seen], answers_seen, config)
    assert boxes(objects) == [(100, 10, 190, 40)]
    assert objects.summary.cut_objects_reprompted == 1


def test_small_objects_inside_a_large_one_that_was_prompted_again_stay(tmp_path):
    small = rectangle(20, 15, 30, 25), rectangle(150, 15, 160, 25)
    left, right = [rectangle(10, 10, 120, 40), small[0]], [rectangle(80, 10, 190, 40), small[1]]
    objects = merged(tmp_path, left, right, whole_answer)
    assert sorted(boxes(objects)) == sorted([(10, 10, 190, 40), (20, 15, 30, 25), (150, 15, 160, 25)])


def far_away(pixels: np.ndarray, fragment: Mask) -> Mask:
    return Mask.from_window(np.ones((5, 5), dtype=bool), Box(0, 90, 5, 95), fragment.frame_size)


@pytest.mark.parametrize("reprompt", [no_answer, far_away], ids=["nothing", "elsewhere"])
def test_a_fragment_stays_and_is_marked_where_no_whole_object_can_be_had(tmp_path, reprompt):
    fragment, whole = rectangle(60, 10, 120, 40), rectangle(10, 60, 40, 90)
    objects = merged(tmp_path, [fragment, whole], [], reprompt)
    assert boxes(objects) == [(60, 10, 120, 40), (10, 60, 40, 90)]
    assert objects.table.touches_seam.tolist() == [True, False]
    assert objects.summary.fragments == 1


def test_of_fragments_that_show_the_same_the_larger_stays(tmp_path):
    objects = merged(tmp_path, [rectangle(60, 10, 120, 40)], [rectangle(80, 10, 118, 40)])
    assert boxes(objects) == [(60, 10, 120, 40)]


def test_fragments_that_each_show_a_part_of_their_own_both_stay(tmp_path):
    objects = merged(tmp_path, [rectangle(60, 10, 120, 40)], [rectangle(80, 10, 170, 40)])
    assert boxes(objects) == [(60, 10, 120, 40), (80, 10, 170, 40)]


def test_an_error_while_prompting_again_is_told_and_tried_again_and_loses_nothing(tmp_path):
    def fails(pixels: np.ndarray, fragment: Mask) -> Mask | None:
        raise RuntimeError("out of memory")

    fragment = rectangle(10, 10, 120, 40)
    objects = merged(tmp_path, [fragment], [], fails)
    assert boxes(objects) == [(10, 10, 120, 40)]
    assert objects.summary.reprompts_failed == {"tile 0, mask 0": "RuntimeError: out of memory"}
    again = merged(tmp_path, [fragment], [], whole_answer)
    assert boxes(again) == [(10, 10, 190, 40)]
    assert again.summary.reprompts_failed == {}


def test_an_answer_in_another_frame_than_its_window_is_told(tmp_path):
    objects = merged(tmp_path, [rectangle(10, 10, 120, 40)], [], lambda *_: Mask.from_array(np.ones((4, 4))))
    assert (
        "frame of its window, (100, 200) (H, W), got one in (4, 4)"
        in objects.summary.reprompts_failed["tile 0, mask 0"]
    )


def test_a_full_disk_while_prompting_again_ends_the_merge(tmp_path):
    def fills_the_disk(pixels: np.ndarray, fragment: Mask) -> Mask | None:
        raise OutputError("cannot write")

    with pytest.raises(OutputError, match="cannot write"):
        merged(tmp_path, [rectangle(10, 10, 120, 40)], [], fills_the_disk)


def test_an_answer_given_for_another_fragment_of_that_number_is_not_used(tmp_path):
    merged(tmp_path, [rectangle(10, 10, 120, 40)], [], whole_answer)
    objects = merged(tmp_path, [rectangle(60, 60, 120, 80)], [])
    assert boxes(objects) == [(60, 60, 120, 80)]


def test_a_mask_within_the_tolerance_of_an_edge_counts_as_cut(tmp_path):
    near = rectangle(60, 10, 118, 40)
    assert not merged(tmp_path / "a", [near], []).table.touches_seam.any()
    tolerant = TilingConfig(core_px=100, halo_px=20, edge_tolerance_px=2)
    assert merged(tmp_path / "b", [near], [], config=tolerant).table.touches_seam.all()


def test_masks_at_the_edge_of_the_image_are_whole(tmp_path):
    objects = merged(tmp_path, [rectangle(0, 0, 30, 100)], [rectangle(170, 0, 200, 100)])
    assert objects.summary.cut == 0


def test_labels_follow_the_owner_and_the_box_not_the_order_of_masks(tmp_path):
    left = [rectangle(50, 50, 60, 60), rectangle(10, 10, 20, 20), rectangle(30, 10, 40, 20)]
    right = [rectangle(150, 5, 160, 9), rectangle(83, 20, 95, 30)]
    objects = merged(tmp_path, left, right)
    assert boxes(objects) == [(10, 10, 20, 20), (30, 10, 40, 20), (83, 20, 95, 30), (50, 50, 60, 60), (150, 5, 160, 9)]
    assert objects.table.label.tolist() == [1, 2, 3, 4, 5]
    assert objects.table.tile.tolist() == [LEFT, LEFT, RIGHT, LEFT, RIGHT]
    assert not objects.table.verified.any()


def test_progress_counts_to_its_total(tmp_path):
    seen = []
    with Ledger.open(tmp_path, key_of(PICTURE, PLAN, CONFIG), SIZE) as ledger:
        ledger.tiles.write(LEFT, [rectangle(10, 10, 120, 40)])
        ledger.tiles.write(RIGHT, [])
        merge_tiles(ledger, PLAN, PICTURE.read, no_answer, CONFIG, progress=lambda *step: seen.append(step))
    assert seen == [(2, 2), (3, 3)]  # both tiles lie in one neighbourhood; then the fragment
