"""What the merge keeps of each mask is small, and the benchmark that shows it for millions makes honest records."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

import numpy as np

from napari_sam.geometry import Box
from napari_sam.tiling import plan_tiles
from napari_sam.tiling.candidates import Candidates
from napari_sam.tiling.store import MaskCache, StoredMasks

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.records import CONFIG, PITCH_PX, RADII, discs_in, measure_objects

SIZE = (60 * PITCH_PX, 75 * PITCH_PX)
PLAN = plan_tiles(SIZE, CONFIG)


def drawn_discs(window: Box) -> np.ndarray:
    """The number of discs over each pixel of a window, disc by disc."""
    count = np.zeros(window.size, dtype=int)
    rows, columns = np.mgrid[window.y0 : window.y1, window.x0 : window.x1]
    for i in range(window.y0 // PITCH_PX, -(-window.y1 // PITCH_PX)):
        for j in range(window.x0 // PITCH_PX, -(-window.x1 // PITCH_PX)):
            noise = (i * 73856093 ^ j * 19349663) & 0xFFFF
            radius = RADII[0] + noise % (RADII[1] - RADII[0] + 1)
            y, x = (PITCH_PX * k + PITCH_PX // 2 + (noise >> s) % 5 - 2 for k, s in ((i, 4), (j, 8)))
            count += (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    return count


def test_made_records_are_the_discs_of_the_plane_as_far_as_a_tile_reads():
    tile = PLAN.fine[1]
    stored = discs_in(tile, SIZE)
    assert stored._is_consistent()
    corner = Box(tile.read.x0, tile.read.y0, tile.read.x0 + 130, tile.read.y0 + 110)
    painted = np.zeros(corner.size, dtype=int)
    for number in range(len(stored)):
        mask = stored.mask(number)
        if mask.box.intersects(corner):
            painted += mask.window(corner)
            assert (stored.areas[number], *stored.centroids_xy[number]) == (mask.area, *mask.centroid_xy)
    np.testing.assert_array_equal(painted, drawn_discs(corner))


def test_a_mask_takes_tens_of_bytes_while_tiles_are_merged():
    records: dict[int, StoredMasks] = {tile.index: discs_in(tile, SIZE) for tile in PLAN.fine}
    masks = MaskCache(records.__getitem__)
    candidates = Candidates.read(masks, PLAN, PLAN.fine, frozenset(records), CONFIG.edge_tolerance_px)
    columns = [getattr(candidates, field.name) for field in fields(candidates)]
    bytes_a_mask = sum(column.nbytes for column in columns if isinstance(column, np.ndarray)) / len(candidates)
    assert bytes_a_mask <= 64
    assert len(candidates) > 4500


def test_the_benchmark_of_many_objects_merges_each_disc_once(tmp_path):
    cost = measure_objects(60 * 60, tmp_path, workers=2)
    assert (cost.objects, cost.tiles, cost.side_px) == (3600, 4, 60 * PITCH_PX)
    assert set(cost.microseconds) == {"records", "merge", "labels", "table"}
    assert len((tmp_path / "objects.csv").read_text().splitlines()) == 3601
