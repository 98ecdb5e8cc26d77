"""What ends straight at a seam, found while tiles are merged, is what the finished masks say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiling_synthetic import Picture, key_of, obstacles, reprompt, segment

from napari_sam.geometry import Box, Mask
from napari_sam.geometry.overlap import runs_of
from napari_sam.tiling import Ledger, TilingConfig, merge_tiles, plan_tiles, run_tiles, seam_cut_labels
from napari_sam.tiling.seams import MIN_PART, MIN_RUN_PX, Seams, fills_sides

FRAME = (60, 70)


def plain_fills(mask: Mask) -> list[bool]:
    """The rule on the drawn mask: left, top, right, bottom."""
    pixels = mask.window(mask.box)
    lines = (pixels[:, 0], pixels[0], pixels[:, -1], pixels[-1])
    return [bool(line.sum() >= MIN_RUN_PX and line.sum() >= MIN_PART * len(line)) for line in lines]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 100_000), n=st.integers(0, 6))
def test_sides_are_filled_as_the_drawn_masks_say(seed, n):
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(n):
        x, y = rng.integers([0, 0], [40, 30]).tolist()
        box = Box(x, y, x + int(rng.integers(1, 30)), y + int(rng.integers(1, 30)))
        pixels = rng.random(box.size) < rng.choice([0.5, 0.7, 0.95, 1.0])
        if pixels.any():
            masks.append(Mask.from_window(pixels, box, FRAME))
    assert fills_sides(runs_of(masks)).tolist() == [plain_fills(mask) for mask in masks]


def test_seams_are_edges_of_cores_and_reads_but_for_the_images_own():
    seams = Seams.of(plan_tiles((60, 100), TilingConfig(core_px=40, halo_px=5)))
    assert (seams.x_lines.tolist(), seams.y_lines.tolist()) == ([25, 33, 50, 67, 75], [10, 30, 50])
    sides = seams.sides_on(np.array([[0, 10, 33, 60], [25, 0, 100, 30], [26, 11, 34, 31]]))
    assert sides.tolist() == [[False, True, True, False], [True, False, False, True], [False] * 4]


def unanswered(pixels: np.ndarray, fragment: Mask) -> None:
    return None


@pytest.mark.parametrize(
    ("ask", "config", "kinds"),
    [
        (reprompt, {}, {"grid", "reprompt"}),
        (reprompt, {"object_cover_thresh": 0.5}, {"grid", "reprompt"}),
        (unanswered, {}, {"grid", "fragment", "coarse"}),
        (unanswered, {"max_object_px": 0, "edge_tolerance_px": 0}, {"grid", "fragment"}),
    ],
    ids=["whole_again", "covered_ones_dropped", "fragments_and_large_ones", "fragments"],
)
def test_a_merge_counts_as_many_as_its_objects_show(tmp_path, ask, config, kinds):
    picture = Picture(obstacles((256, 320)))
    tiling = TilingConfig(core_px=64, halo_px=8, **config)
    plan = plan_tiles(picture.size, tiling)
    with Ledger.open(tmp_path / "run", key_of(picture, plan, tiling), picture.size) as ledger:
        run_tiles(picture.read, plan, segment, ledger)
        objects = merge_tiles(ledger, plan, picture.read, ask, tiling)
        labels = seam_cut_labels(objects, plan)
    assert objects.summary.seam_cuts == len(labels)
    rows, table = labels.astype(np.intp) - 1, objects.table
    found = np.where(table.touches_seam[rows], "fragment", table.prompt[rows])
    assert set(found.tolist()) == kinds
