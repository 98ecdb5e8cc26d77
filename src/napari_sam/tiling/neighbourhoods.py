"""The merge a neighbourhood at a time: some tiles and those around them settle what they saw twice, or cut.

What a neighbourhood finds depends on its own tile files alone. So neighbourhoods can be looked at in any order and
several at once, each needs little memory, and each tile file is read about once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry.suppression import keep_best
from napari_sam.tiling.candidates import Candidates, Rows, conflicts_of
from napari_sam.tiling.config import TilingConfig
from napari_sam.tiling.fragments import largest_first, unseen_rows
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.packing import packed_indices, unpacked_indices
from napari_sam.tiling.plan import TilePlan
from napari_sam.tiling.seams import Seams
from napari_sam.tiling.spread import Spread, in_threads
from napari_sam.tiling.store import MaskCache, TileStore

NEIGHBOURHOOD_TILES = 4
"""Rows and columns of tiles looked at together: so few that the run lengths of them and those around them, thousands of
masks each, fit in the cache; so many that few files lie at the border and are read again."""


@dataclass(frozen=True, slots=True, eq=False)
class Conflicts:
    """What is known of all masks of the fine tiles once each neighbourhood has been looked at."""

    candidates: Candidates
    pairs: Rows
    """(P, 2): rows of uncut masks of two tiles that are the same object."""
    unseen: Rows
    """Rows of the cut masks whose object no tile saw uncut, largest first."""
    straight: Rows
    """Rows of the masks that run straight along a seam."""

    def kept(self) -> Rows:
        """Rows of the uncut masks that stay: of those that are the same object, the best one.

        A mask goes only for a better one that itself stays.
        """
        involved, renumbered = np.unique(self.pairs, return_inverse=True)
        best_first = self.candidates.total_order(involved)
        rank = np.empty(len(involved), dtype=np.intp)
        rank[np.searchsorted(involved, best_first)] = np.arange(len(involved))
        stays = ~self.candidates.is_cut
        stays[involved] = False
        stays[best_first[keep_best(len(involved), rank[renumbered.reshape(-1, 2)])]] = True
        rows: Rows = np.flatnonzero(stays)
        return rows


def find_conflicts(
    tiles: TileStore,
    masks: MaskCache[int],
    plan: TilePlan,
    finished: frozenset[int],
    config: TilingConfig,
    *,
    spread: Spread | None = None,
    progress: Progress | None = None,
) -> Conflicts:
    """Look at all neighbourhoods of the fine tiles.

    Parameters
    ----------
    tiles : TileStore
    masks : MaskCache
        Of its files.
    plan : TilePlan
    finished : frozenset of int
        The tiles that have a file.
    config : TilingConfig
    spread : Spread, optional
        Who looks; the outcome does not depend on it.
    progress : function (done, total), optional
        Counts fine tiles.
    """
    neighbourhoods = _neighbourhoods(plan)
    look = Look(tiles.folder, masks, plan, finished, config, Seams.of(plan))
    nothing = Candidates.read(masks, plan, [], finished, config.edge_tolerance_px)
    found: list[Found] = []
    done = 0
    with closing((spread or in_threads())(look, neighbourhoods)) as results:
        for numbers, result in zip(neighbourhoods, results, strict=True):
            found.append(result)
            done += len(numbers)
            if progress is not None:
                progress(done, len(plan.fine))
    candidates = Candidates.joined([replace(nothing, **result.own) for result in found])
    pairs, unseen, straight = (
        _rows_of(candidates, np.concatenate([getattr(result, name) for result in found]))
        for name in ("pairs", "unseen", "straight")
    )
    return Conflicts(candidates, pairs, largest_first(candidates, unseen), straight)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a neighbourhood found; masks are named by (tile, number in it)."""

    own: dict[str, Any]
    """The columns of its candidates: 64 bytes a mask."""
    pairs: NDArray[np.int32]
    """(P, 2, 2)."""
    unseen: NDArray[np.int32]
    """(U, 2)."""
    straight: NDArray[np.int32]
    """(S, 2)."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Looks at the neighbourhood that the fine tiles of these numbers are."""

    folder: Path
    """Of the tile files."""
    masks: MaskCache[int]
    plan: TilePlan
    finished: frozenset[int]
    config: TilingConfig
    seams: Seams

    @property
    def folders(self) -> tuple[Path, ...]:
        return (self.folder.resolve(),)

    def __reduce__(self) -> tuple[Any, ...]:
        packed = packed_indices(self.finished)
        return _unpickled, (self.folder.resolve(), self.masks, self.plan, packed, self.config)

    def __call__(self, numbers: Sequence[int]) -> Found:
        plan, config = self.plan, self.config
        tiles = [plan.tiles[number] for number in numbers]
        around = plan.tiles_reading(tiles[0].read.joined(tiles[-1].read))
        local = Candidates.read(self.masks, plan, around, self.finished, config.edge_tolerance_px)
        found = [
            (conflicts_of(local, tile, config.merge_iou_thresh), unseen_rows(local, tile, config)) for tile in tiles
        ]
        pairs, unseen = (np.concatenate(rows) for rows in zip(*found, strict=True))
        own = local.of_tiles(tiles)
        straight = np.flatnonzero(self.seams.sides_on(own.boxes).any(axis=1))
        straight = straight[self.seams.cuts(own.runs(straight))]
        return Found(own.columns(), _named(local, pairs), _named(local, unseen), _named(own, straight))


def _unpickled(folder: Path, masks: MaskCache[int], plan: TilePlan, finished: bytes, config: TilingConfig) -> Look:
    return Look(folder, masks, plan, unpacked_indices(finished), config, Seams.of(plan))


def _named(candidates: Candidates, rows: Rows) -> NDArray[np.int32]:
    return np.stack([candidates.tile[rows], candidates.index_of(rows).astype(np.int32)], axis=-1)


def _rows_of(candidates: Candidates, named: NDArray[np.int32]) -> Rows:
    return candidates.row_of(named[..., 0], named[..., 1].astype(np.intp))


def _neighbourhoods(plan: TilePlan) -> list[list[int]]:
    """The numbers of the fine tiles in blocks of the grid, each tile in one of them."""
    rows, columns = plan.grid_shape
    blocks = []
    for top in range(0, rows, NEIGHBOURHOOD_TILES):
        for left in range(0, columns, NEIGHBOURHOOD_TILES):
            bottom, right = min(top + NEIGHBOURHOOD_TILES, rows), min(left + NEIGHBOURHOOD_TILES, columns)
            blocks.append([row * columns + column for row in range(top, bottom) for column in range(left, right)])
    return blocks
