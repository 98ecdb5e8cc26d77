"""Conflicts found a neighbourhood at a time are those of the plain rule over all masks of all tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiling_synthetic import Picture, key_of, obstacles, reprompt, segment

from napari_sam.geometry import Box, Mask, Tile, mask_iou
from napari_sam.tiling import Ledger, TilePlan, TilingConfig, merge_tiles, plan_tiles, run_tiles
from napari_sam.tiling import neighbourhoods as neighbourhoods_module
from napari_sam.tiling.fragments import is_same_object, reaches_core
from napari_sam.tiling.neighbourhoods import Conflicts, find_conflicts
from napari_sam.tiling.spread import in_threads
from napari_sam.tiling.store import MaskCache, TileStore

SIZE = (150, 190)
CONFIG = TilingConfig(core_px=40, halo_px=12, max_object_px=0, edge_tolerance_px=1)
PLAN = plan_tiles(SIZE, CONFIG)
Found = dict[tuple[int, int], Mask]
"""Masks by (tile, number in it)."""


def random_tiles(seed: int, *, missing: int) -> dict[int, list[Mask]]:
    """Rectangles that neighbouring tiles see nearly alike, cut where their tile ends; some tiles were not segmented."""
    rng = np.random.default_rng(seed)
    true = [Box(x, y, x + w, y + h) for x, y, w, h in rng.integers([0, 0, 4, 4], [180, 140, 45, 40], (40, 4)).tolist()]
    tiles: dict[int, list[Mask]] = {}
    for tile in PLAN.fine:
        jittered = [box.shifted(*rng.integers(-1, 2, 2).tolist()).clipped(tile.read) for box in true]
        tiles[tile.index] = [
            Mask.from_window(np.ones(box.size), box, SIZE, predicted_iou=float(rng.integers(5, 10)) / 10)
            for box in jittered
            if not box.is_empty and rng.random() < 0.9
        ]
    for index in rng.choice(len(PLAN.fine), missing, replace=False).tolist():
        del tiles[index]
    return tiles


def is_cut(mask: Mask, tile: Tile) -> bool:
    in_tile = mask.box.shifted(-tile.read.x0, -tile.read.y0).grown(CONFIG.edge_tolerance_px)
    return tile.is_cut(in_tile, SIZE)


def plain_kept(whole: Found) -> list[tuple[int, int]]:
    """Best first, each kept unless a kept one of another tile is the same."""

    def rank(key: tuple[int, int]) -> tuple[bool, float, int, int]:
        return not PLAN.tiles[key[0]].owns(whole[key].box), -whole[key].predicted_iou, *key

    kept: list[tuple[int, int]] = []
    for key in sorted(whole, key=rank):
        others = [other for other in kept if other[0] != key[0]]
        if all(mask_iou(whole[key], whole[other]) <= CONFIG.merge_iou_thresh for other in others):
            kept.append(key)
    return sorted(kept)


def plain_unseen(cut: Found, whole: Found, finished: set[int]) -> list[tuple[int, int]]:
    """The cut masks that speak for an object which no other tile shows whole, largest first."""

    def speaks(tile: Tile, mask: Mask) -> bool:
        owners = {other.index for other in PLAN.fine if other.core.intersects(mask.box)}
        return reaches_core(mask, tile) or not owners <= finished

    def is_seen(tile: Tile, mask: Mask) -> bool:
        return any(is_same_object(mask, other, tile, CONFIG) for key, other in whole.items() if key[0] != tile.index)

    left = [
        key for key, mask in cut.items() if speaks(PLAN.tiles[key[0]], mask) and not is_seen(PLAN.tiles[key[0]], mask)
    ]
    return sorted(left, key=lambda key: (-cut[key].area, *key))


def found_in(tiles: dict[int, list[Mask]], folder: Path, **how: Any) -> Conflicts:
    store = TileStore(folder, SIZE)
    for index, masks in tiles.items():
        store.write(index, masks)
    return find_conflicts(store, MaskCache(store.read), PLAN, frozenset(tiles), CONFIG, **how)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), missing=st.integers(0, 3), workers=st.sampled_from([1, 3]))
def test_what_stays_and_what_is_unseen_are_what_the_plain_rules_say(seed, missing, workers, tmp_path_factory):
    tiles = random_tiles(seed, missing=missing)
    everything = {(index, i): mask for index, masks in tiles.items() for i, mask in enumerate(masks)}
    cut = {key: mask for key, mask in everything.items() if is_cut(mask, PLAN.tiles[key[0]])}
    whole = {key: mask for key, mask in everything.items() if key not in cut}
    found = found_in(tiles, tmp_path_factory.mktemp("tiles"), spread=in_threads(workers))
    assert [found.candidates.key(row) for row in found.kept().tolist()] == plain_kept(whole)
    assert [found.candidates.key(row) for row in found.unseen.tolist()] == plain_unseen(cut, whole, set(tiles))


@pytest.mark.parametrize(("side", "workers"), [(1, 1), (2, 4), (3, 2), (100, 1)])
def test_neither_the_size_of_neighbourhoods_nor_the_number_of_workers_changes_a_byte(
    tmp_path, monkeypatch, side, workers
):
    picture = Picture(obstacles((200, 220)))
    config = TilingConfig(core_px=50, halo_px=12, object_cover_thresh=0.7)
    plan = plan_tiles(picture.size, config)

    def merge(folder: Path, **how: Any) -> bytes:
        with Ledger.open(folder, key_of(picture, plan, config), picture.size) as ledger:
            run_tiles(picture.read, plan, segment, ledger)
            merge_tiles(ledger, plan, picture.read, reprompt, config, **how)
            return (ledger.stage_folder("merge") / "objects.npz").read_bytes()

    expected = merge(tmp_path / "plain")
    monkeypatch.setattr(neighbourhoods_module, "NEIGHBOURHOOD_TILES", side)
    assert merge(tmp_path / "other", spread=in_threads(workers)) == expected


def test_tiles_of_one_neighbourhood_are_read_once(tmp_path, monkeypatch):
    monkeypatch.setattr(neighbourhoods_module, "NEIGHBOURHOOD_TILES", 100)
    asked: list[int] = []
    read = TileStore.read

    def noted(store: TileStore, index: int):
        asked.append(index)
        return read(store, index)

    monkeypatch.setattr(TileStore, "read", noted)
    tiles = random_tiles(4, missing=2)
    found_in(tiles, tmp_path)
    assert sorted(asked) == sorted(tiles)


def test_progress_counts_the_tiles_of_full_resolution(tmp_path):
    seen: list[tuple[int, int]] = []
    found_in(random_tiles(5, missing=0), tmp_path, progress=lambda *step: seen.append(step))
    assert [total for _, total in seen] == [len(PLAN.fine)] * len(seen)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == len(PLAN.fine)


def test_neighbourhoods_hold_each_tile_once():
    plan: TilePlan = plan_tiles((900, 1300), TilingConfig(core_px=100, halo_px=10))
    held = [number for numbers in neighbourhoods_module._neighbourhoods(plan) for number in numbers]
    assert sorted(held) == list(range(len(plan.fine)))
