"""What the tiles found, before it is known which masks are the same object: one small record a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Box, Mask, Tile
from napari_sam.geometry.overlap import pair_ious
from napari_sam.geometry.runs import MaskRuns
from napari_sam.tiling.plan import TilePlan
from napari_sam.tiling.store import MaskCache, gathered

Rows = NDArray[np.intp]
Corners = NDArray[np.int32] | NDArray[np.int64]
_EMPTY: dict[str, NDArray[Any]] = {
    "boxes": np.empty((0, 4), np.int64),
    "areas": np.empty(0, np.int64),
    "centroids_xy": np.empty((0, 2)),
    "predicted_iou": np.empty(0),
    "stability_score": np.empty(0),
    "prompts": np.empty(0, np.str_),
}
"""The columns of a mask file that are kept, of no mask."""
_COLUMNS = ("boxes", "areas", "centroids_xy", "predicted_iou", "stability_score", "tile", "is_cut", "is_owned")


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The masks of finished tiles, in the order of tiles and of the masks in them; their run lengths stay on the disk.

    Either of the fine tiles or of the coarse ones, of the whole image or of a part of it. Some 64 bytes a mask.
    """

    plan: TilePlan
    masks: MaskCache[int]
    boxes: Corners
    """(N, 4) XYXY, whole-image pixels."""
    areas: NDArray[np.int64]
    centroids_xy: NDArray[np.float64]
    """(N, 2)."""
    predicted_iou: NDArray[np.float64]
    stability_score: NDArray[np.float64]
    prompt: NDArray[np.int16]
    """Number of the prompt's name in `prompt_names`."""
    prompt_names: tuple[str, ...]
    tile: NDArray[np.int32]
    """Ascending."""
    is_cut: NDArray[np.bool_]
    """Whether it ends at an edge of what its tile read that is not the image's edge: it may go on there."""
    is_owned: NDArray[np.bool_]
    """Whether the centre of its box lies in the core of its tile."""
    finished: frozenset[int]
    """The tiles that were segmented, by index."""

    @classmethod
    def read(
        cls, masks: MaskCache[int], plan: TilePlan, tiles: Sequence[Tile], finished: frozenset[int], tolerance_px: int
    ) -> Candidates:
        """The records of those of `tiles`, which are in the order of their indices, that are finished."""
        there = [tile for tile in tiles if tile.index in finished]
        columns: dict[str, list[Any]] = {name: [empty] for name, empty in _EMPTY.items()}
        cut = [np.empty(0, dtype=np.bool_)]
        for tile in there:
            stored = masks.get(tile.index)
            for name, parts in columns.items():
                parts.append(getattr(stored, name))
            cut.append(_cut_by(tile.read, stored.boxes, plan.image_size, tolerance_px * tile.step))
        joined: dict[str, Any] = {name: np.concatenate(parts) for name, parts in columns.items()}
        numbers = np.array([tile.index for tile in there], dtype=np.int32)
        tile_of = np.repeat(numbers, [len(part) for part in cut[1:]])
        boxes = joined.pop("boxes")
        names, prompt = np.unique(joined.pop("prompts"), return_inverse=True)
        return cls(
            plan=plan,
            masks=masks,
            boxes=boxes.astype(np.int32 if max(plan.image_size) <= np.iinfo(np.int32).max else np.int64),
            prompt=prompt.astype(np.int16),
            prompt_names=tuple(names.tolist()),
            tile=tile_of,
            is_cut=np.concatenate(cut),
            is_owned=plan.owner_of(boxes) == tile_of,
            finished=finished,
            **joined,
        )

    @classmethod
    def joined(cls, parts: Sequence[Candidates]) -> Candidates:
        """Those of all parts, of which there is at least one, sorted by tile."""
        names = sorted({name for part in parts for name in part.prompt_names})
        recoded = [np.searchsorted(names, part.prompt_names).astype(np.int16)[part.prompt] for part in parts]
        order = np.argsort(np.concatenate([part.tile for part in parts]), kind="stable")
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts])[order] for name in _COLUMNS
        }
        prompt = np.concatenate(recoded)[order]
        return replace(parts[0], **columns, prompt=prompt, prompt_names=tuple(names))

    def columns(self) -> dict[str, Any]:
        """What is known of the masks themselves: all but the plan, the files, and which tiles were segmented."""
        return {name: getattr(self, name) for name in (*_COLUMNS, "prompt", "prompt_names")}

    def __len__(self) -> int:
        return len(self.areas)

    def mask(self, row: int) -> Mask:
        """One mask, in the frame of the whole image."""
        tile, index = self.key(row)
        return self.masks.get(tile).mask(index)

    def runs(self, rows: Rows) -> MaskRuns:
        """The run lengths of some masks, in the order of `rows`."""
        return gathered(self.masks, self.tile[rows], self.index_of(rows))

    def key(self, row: int) -> tuple[int, int]:
        """(tile, number in it) of one mask."""
        return int(self.tile[row]), int(self.index_of(np.array([row]))[0])

    def index_of(self, rows: Rows) -> Rows:
        """Numbers of masks in their tiles' files."""
        index: Rows = rows - np.searchsorted(self.tile, self.tile[rows], side="left")
        return index

    def row_of(self, tile: NDArray[np.int32], index: Rows) -> Rows:
        """The rows of the masks `index[i]` of the tiles `tile[i]`."""
        rows: Rows = np.searchsorted(self.tile, tile, side="left") + index
        return rows

    def rows_of(self, tile: Tile, *, cut: bool) -> Rows:
        """Rows of the cut or of the uncut masks of one tile."""
        start, stop = np.searchsorted(self.tile, np.array([tile.index, tile.index + 1], dtype=np.int32))
        rows: Rows = np.flatnonzero(self.is_cut[start:stop] == cut) + start
        return rows

    def uncut_near(self, box: Box) -> Rows:
        """Rows of the uncut masks of fine tiles whose box shares a pixel with `box`."""
        corners = box.as_xyxy()
        near = [np.empty(0, dtype=np.intp)]
        for tile in self.plan.tiles_reading(box):
            rows = self.rows_of(tile, cut=False)
            near.append(rows[overlaps(self.boxes[rows], corners) > 0])
        return np.concatenate(near)

    def of_tiles(self, tiles: Sequence[Tile]) -> Candidates:
        """Those of some tiles alone."""
        rows = np.flatnonzero(np.isin(self.tile, [tile.index for tile in tiles]))
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in (*_COLUMNS, "prompt")}
        return replace(self, **columns)

    def total_order(self, rows: Rows) -> Rows:
        """`rows`, best first: those of the tile that owns their box's centre, then by predicted IoU, tile and index.

        No two masks are equal in it, so what is decided by it does not depend on the order in which tiles were
        finished.
        """
        # Rows come in the order of tile and index.
        best_first: Rows = rows[np.lexsort((rows, -self.predicted_iou[rows], ~self.is_owned[rows]))]
        return best_first


def conflicts_of(candidates: Candidates, tile: Tile, thresh: float) -> Rows:
    """Pairs of rows, (P, 2): uncut masks of one tile and of later ones that are the same object.

    Two masks are the same object if their mask IoU is above `thresh`. Masks of one tile are never compared: what a tile
    tells apart stays apart, so nested objects stay.
    """
    mine = candidates.rows_of(tile, cut=False)
    later = [other for other in candidates.plan.tiles_reading(tile.read) if other.index > tile.index]
    theirs = [candidates.rows_of(other, cut=False) for other in later if len(mine)]
    found = [np.empty((0, 2), dtype=np.intp), *(_may_be_same(candidates, mine, rows, thresh) for rows in theirs)]
    pairs = np.concatenate(found)
    conflicts: Rows = pairs[ious_of(candidates, pairs) > thresh]
    return conflicts


def ious_of(candidates: Candidates, pairs: Rows) -> NDArray[np.float64]:
    """Mask IoU of each pair of rows, from the run lengths."""
    used, renumbered = np.unique(pairs, return_inverse=True)
    return pair_ious(candidates.runs(used), candidates.areas[used], renumbered.reshape(-1, 2))


def overlaps(a: Corners, b: Corners) -> NDArray[np.int64]:
    """Pixels that boxes `a` (..., 4) and `b` (..., 4) have in common: masks inside them share no more."""
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    shared: NDArray[np.int64] = np.maximum(width, 0).astype(np.int64) * np.maximum(height, 0)
    return shared


def greatest_iou(
    boxes: Corners, areas: NDArray[np.int64], other_boxes: Corners, other_areas: NDArray[np.int64]
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


def _near(boxes: Corners, rows: Rows, others: Rows) -> Rows:
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
