"""Large objects that no tile of full resolution shows, as with a model that sees no more than its frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage.draw import disk
from tiling_synthetic import Picture, key_of, segment

from napari_sam.geometry import Mask, mask_iou
from napari_sam.tiling import Ledger, MergedObjects, TilingConfig, merge_tiles, plan_tiles, run_tiles

LARGEST_SEEN_PX = 70
"""The segmenter of these tests is blind for what is longer, in the pixels it is shown."""
SIZE = (500, 620)


def short_sighted(pixels: np.ndarray) -> list[Mask]:
    return [mask for mask in segment(pixels) if max(mask.box.size) <= LARGEST_SEEN_PX]


def nothing(_pixels: np.ndarray, _fragment: Mask) -> None:
    return None


def run(values: np.ndarray, folder: Path, *, order: int = 1, **settings: float) -> MergedObjects:
    config = TilingConfig(core_px=72, halo_px=32, **settings)
    picture = Picture(values)
    plan = plan_tiles(picture.size, config)
    with Ledger.open(folder, key_of(picture, plan, config), picture.size) as ledger:
        assert run_tiles(picture.read, plan, short_sighted, ledger, workers=order).is_complete
        return merge_tiles(ledger, plan, picture.read, nothing, config)


def discs(*places: tuple[int, int, int, int]) -> np.ndarray:
    """Discs (row, column, radius, value) over one another."""
    values = np.zeros(SIZE, dtype=np.uint8)
    for row, column, radius, value in places:
        values[disk((row, column), radius, shape=SIZE)] = value
    return values


def best_iou(objects: MergedObjects, truth: np.ndarray) -> float:
    true = Mask.from_array(truth)
    return max((mask_iou(mask, true) for _, mask in objects.iter_masks()), default=0.0)


@pytest.mark.parametrize("radius", [45, 70, 130, 200])
def test_an_object_of_any_size_is_found_once_and_whole(tmp_path, radius):
    values = discs((240, 300, radius, 200), (20, 20, 9, 100))
    objects = run(values, tmp_path)
    assert len(objects) == 2
    assert best_iou(objects, values == 200) > 0.85
    assert best_iou(objects, values == 100) == 1.0
    assert objects.summary.large == 1
    assert not objects.table.touches_seam.any()
    assert sorted(objects.table.prompt.tolist()) == ["coarse", "grid"]


def test_longer_objects_than_asked_for_are_left_out(tmp_path):
    values = discs((240, 300, 130, 200))
    assert run(values, tmp_path / "all", max_object_px=400).summary.large == 1
    assert run(values, tmp_path / "small", max_object_px=200).summary.large == 0
    assert run(values, tmp_path / "none", max_object_px=0).summary.large == 0


def test_what_lies_on_a_large_object_stays_and_is_painted_over_it(tmp_path):
    values = discs((240, 300, 130, 200), (240, 300, 10, 90), (200, 260, 8, 80))
    objects = run(values, tmp_path)
    assert objects.summary.large == 1
    assert best_iou(objects, values == 90) == 1.0
    painted = [objects.table.prompt[label - 1] for label, _ in objects.masks_in(objects.table.box(0))]
    assert painted[0] == "coarse"
    assert "coarse" not in painted[1:]


def test_a_group_of_known_objects_is_no_large_one(tmp_path):
    """Reduced, a field of squares with gaps of one pixel is one square; each is known, so nothing is missing."""
    values = np.zeros(SIZE, dtype=np.uint8)
    for y in range(40, 360, 16):
        for x in range(40, 360, 16):
            values[y : y + 15, x : x + 15] = 200
    objects = run(values, tmp_path)
    assert len(objects) == 400
    assert objects.summary.large == 0


def test_the_outcome_does_not_depend_on_the_order_of_the_tiles(tmp_path):
    values = discs((240, 300, 130, 200), (100, 100, 60, 150), (400, 520, 45, 90))
    one, three = (list(run(values, tmp_path / str(n), order=n).iter_masks()) for n in (1, 3))
    assert one == three
    assert len(one) == 3
