"""What the tiles found, before it is known which masks are the same object: one small record a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Box, Mask, Tile, mask_ious
from napari_sam.geometry.suppression import keep_best
from napari_sam.tiling.plan import TilePlan, TilingConfig
from napari_sam.tiling.store import MaskCache, TileStore

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The masks of finished tiles, in the order of tiles and of the masks in them; their run lengths stay on the disk.

    Either of the fine tiles or of the coarse ones.
    """

    plan: TilePlan
    masks: MaskCache[int]
    boxes: NDArray[np.int64]
    """(N, 4) XYXY, whole-image pixels."""
    areas: NDArray[np.int64]
    predicted_iou: NDArray[np.float64]
    tile: NDArray[np.int64]
    index: NDArray[np.int64]
    """Number of the mask in its tile's file."""
    is_cut: NDArray[np.bool_]
    """Whether it ends at an edge of what its tile read that is not the image's edge: it may go on there."""
    first: NDArray[np.int64]
    """(tiles + 1,): the rows of tile t are first[t]:first[t + 1]."""
    finished: frozenset[int]
    """The tiles that were segmented, by index."""

    @classmethod
    def read(cls, store: TileStore, plan: TilePlan, finished: list[int], edge_tolerance_px: int) -> Candidates:
        """The records of the finished tiles."""
        n_masks = np.zeros(len(plan.tiles) + 1, dtype=np.int64)
        boxes, areas, ious = [np.empty((0, 4), np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.float64)]
        cuts = [np.empty(0, np.bool_)]
        for tile in (plan.tiles[index] for index in finished):
            stored = store.read_columns(tile.index, ("boxes", "areas", "predicted_iou"))
            n_masks[tile.index + 1] = len(stored["areas"])
            boxes.append(stored["boxes"])
            areas.append(stored["areas"])
            ious.append(stored["predicted_iou"])
            cuts.append(_cut_by(tile.read, stored["boxes"], plan.image_size, edge_tolerance_px * tile.step))
        first = np.cumsum(n_masks)
        tiles = np.repeat(np.arange(len(plan.tiles)), n_masks[1:])
        return cls(
            plan=plan,
            masks=MaskCache(store.read),
            boxes=np.concatenate(boxes),
            areas=np.concatenate(areas),
            predicted_iou=np.concatenate(ious),
            tile=tiles,
            index=np.arange(first[-1]) - first[tiles],
            is_cut=np.concatenate(cuts),
            first=first,
            finished=frozenset(finished),
        )

    def __len__(self) -> int:
        return len(self.areas)

    def mask(self, row: int) -> Mask:
        """One mask, in the frame of the whole image."""
        return self.masks.get(int(self.tile[row])).mask(int(self.index[row]))

    def key(self, row: int) -> tuple[int, int]:
        """(tile, number in it) of one mask."""
        return int(self.tile[row]), int(self.index[row])

    def rows_of(self, tile: Tile, *, cut: bool) -> Rows:
        """Rows of the cut or of the uncut masks of one tile."""
        start, stop = self.first[tile.index], self.first[tile.index + 1]
        rows: Rows = np.flatnonzero(self.is_cut[start:stop] == cut) + start
        return rows

    def total_order(self, rows: Rows) -> Rows:
        """`rows`, best first: those of the tile that owns their box's centre, then by predicted IoU, tile and index.

        No two masks are equal in it, so what is decided by it does not depend on the order in which tiles were
        finished.
        """
        owned = self.plan.owner_of(self.boxes[rows]) == self.tile[rows]
        order = np.lexsort((self.index[rows], self.tile[rows], -self.predicted_iou[rows], ~owned))
        best_first: Rows = rows[order]
        return best_first


def reduce_duplicates(candidates: Candidates, config: TilingConfig, on_tile: Callable[[], None]) -> Rows:
    """Rows of the uncut masks that stay: of masks of different tiles that are the same object, the best one.

    Two masks are the same object if their mask IoU is above `merge_iou_thresh`. Masks of one tile are never compared:
    what a tile tells apart stays apart, so nested objects stay. A mask goes only for a better one that itself stays.
    """
    best_first = candidates.total_order(np.flatnonzero(~candidates.is_cut))
    rank = np.empty(len(candidates), dtype=np.intp)
    rank[best_first] = np.arange(len(best_first))
    conflicts = [np.empty((0, 2), dtype=np.intp)]
    for tile in candidates.plan.fine:
        mine = candidates.rows_of(tile, cut=False)
        for other in candidates.plan.tiles_reading(tile.read) if len(mine) else []:
            if other.index > tile.index:
                pairs = _may_be_same(candidates, mine, candidates.rows_of(other, cut=False), config.merge_iou_thresh)
                conflicts.append(pairs[ious_of(candidates, pairs) > config.merge_iou_thresh])
        on_tile()
    kept: Rows = np.sort(best_first[keep_best(len(best_first), rank[np.concatenate(conflicts)])])
    return kept


def ious_of(candidates: Candidates, pairs: Rows) -> NDArray[np.float64]:
    """Mask IoU of each pair of rows, from the run lengths."""
    used, renumbered = np.unique(pairs, return_inverse=True)
    return mask_ious([candidates.mask(int(row)) for row in used], renumbered.reshape(-1, 2))


def overlaps(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels that boxes `a` (..., 4) and `b` (..., 4) have in common: masks inside them share no more."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared: NDArray[np.int64] = np.prod(np.maximum(sides, 0), axis=-1)
    return shared


def greatest_iou(
    boxes: NDArray[np.int64], areas: NDArray[np.int64], other_boxes: NDArray[np.int64], other_areas: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The largest IoU masks of these boxes and areas can have: they share no more than their boxes do, nor than the
    smaller has.

    The IoU of the boxes is no such bound: two snakes with one body and different tails have boxes of different size.
    """
    shared = np.minimum(overlaps(boxes, other_boxes), np.minimum(areas, other_areas))
    bound: NDArray[np.float64] = shared / np.maximum(areas + other_areas - shared, 1)
    return bound


def _may_be_same(candidates: Candidates, mine: Rows, theirs: Rows, thresh: float) -> Rows:
    boxes, areas = candidates.boxes, candidates.areas
    mine, theirs = _near(boxes, mine, theirs), _near(boxes, theirs, mine)
    bound = greatest_iou(boxes[mine][:, None], areas[mine][:, None], boxes[theirs][None], areas[theirs][None])
    first, second = np.nonzero(bound > thresh)
    return np.stack([mine[first], theirs[second]], axis=1)


def _near(boxes: NDArray[np.int64], rows: Rows, others: Rows) -> Rows:
    """Those of `rows` that meet the box around all of `others`: far fewer pairs are left to look at."""
    if not len(others):
        return rows[:0]
    around = np.concatenate([boxes[others, :2].min(axis=0), boxes[others, 2:].max(axis=0)])
    near: Rows = rows[overlaps(boxes[rows], around) > 0]
    return near


def _cut_by(read: Box, boxes: NDArray[np.int64], image_size: tuple[int, int], tolerance_px: int) -> NDArray[np.bool_]:
    """The rule of `Tile.is_cut` for many boxes in whole-image pixels, each taken `tolerance_px` larger."""
    height, width = image_size
    left, top = boxes[:, 0] - tolerance_px <= read.x0, boxes[:, 1] - tolerance_px <= read.y0
    right, bottom = boxes[:, 2] + tolerance_px >= read.x1, boxes[:, 3] + tolerance_px >= read.y1
    cut: NDArray[np.bool_] = (
        (left & (read.x0 > 0)) | (top & (read.y0 > 0)) | (right & (read.x1 < width)) | (bottom & (read.y1 < height))
    )
    return cut
