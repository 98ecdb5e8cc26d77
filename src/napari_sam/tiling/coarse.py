"""Objects that no tile of full resolution shows: what coarse tiles saw of them, where nothing else is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Box, Mask, intersection_area
from napari_sam.tiling.candidates import Candidates, Rows
from napari_sam.tiling.config import TilingConfig
from napari_sam.tiling.covered import covered_area
from napari_sam.tiling.places import GrowingPlaces

MOST_KNOWN = 0.2
"""A coarse mask of which known objects cover more than this part is no object of its own: it is one of them seen less
sharply, or several taken for one."""


class KnownObjects:
    """What was seen at full resolution."""

    def __init__(
        self, candidates: Candidates, kept: Rows, whole: Mapping[int, Box], answer: Callable[[int], Mask]
    ) -> None:
        """`kept` are the uncut masks that stay, `whole` the cut ones whose `answer` is an object, with its box."""
        self._candidates = candidates
        self._is_kept = np.zeros(len(candidates), dtype=np.bool_)
        self._is_kept[kept] = True
        self._answer = answer
        self._whole = GrowingPlaces()
        for row, box in whole.items():
            self._whole.add(row, box)

    def near(self, mask: Mask) -> list[Mask]:
        """Those whose box shares a pixel with the mask's."""
        rows = self._candidates.uncut_near(mask.box)
        found = [self._answer(row) for row in self._whole.meeting(mask.box)]
        return found + [self._candidates.mask(row) for row in rows[self._is_kept[rows]].tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class LargeObjects:
    """The coarse masks that are objects of their own."""

    coarse: Candidates
    rows: Rows
    places: GrowingPlaces
    """Where they are."""

    @classmethod
    def find(cls, coarse: Candidates, known: KnownObjects, config: TilingConfig) -> LargeObjects:
        """Go through the masks that may be one, the finest layer first, and take those that show what is not known.

        Parameters
        ----------
        coarse : Candidates
            What the coarse tiles found.
        known : KnownObjects
        config : TilingConfig
            Longer objects than `max_object_px` are none.
        """
        taken, places = [], GrowingPlaces()
        for row in _best_first(coarse, _eligible(coarse, config)).tolist():
            mask = coarse.mask(row)
            others = [coarse.mask(other) for other in places.meeting(mask.box)]
            if covered_area(mask, [*others, *known.near(mask)]) <= MOST_KNOWN * mask.area:
                taken.append(row)
                places.add(row, mask.box)
        return cls(coarse, np.array(taken, dtype=np.intp), places)

    def unshown_fragments(self, candidates: Candidates, fragments: Rows, config: TilingConfig) -> Rows:
        """Those of the `fragments` (rows of `candidates`) that do not lie on a large object."""

        def is_shown(row: int) -> bool:
            fragment = candidates.mask(row)
            most = config.fragment_cover_thresh * fragment.area
            near = self.places.meeting(fragment.box)
            return any(intersection_area(fragment, self.coarse.mask(large)) > most for large in near)

        return np.array([row for row in fragments.tolist() if not is_shown(row)], dtype=np.intp)


def _eligible(coarse: Candidates, config: TilingConfig) -> Rows:
    """Rows of the uncut masks that are too long for finer tiles, and not too long to be an object."""
    sides = coarse.boxes[:, 2:] - coarse.boxes[:, :2]
    longest = sides.max(axis=1, initial=0)
    least_of = coarse.plan.least_px_of_steps()
    least = np.array([least_of[coarse.plan.tiles[tile].step] for tile in coarse.tile.tolist()], dtype=np.int64)
    rows: Rows = np.flatnonzero(~coarse.is_cut & (longest > least) & (longest <= config.max_object_px))
    return rows


def _best_first(coarse: Candidates, rows: Rows) -> Rows:
    """A total order: the finest layer first, then the tile that owns the box's centre, predicted IoU, tile, index."""
    tiles = [coarse.plan.tiles[tile] for tile in coarse.tile[rows].tolist()]
    step: NDArray[np.int64] = np.array([tile.step for tile in tiles], dtype=np.int64)
    boxes = (Box(*corners) for corners in coarse.boxes[rows].tolist())
    owned = np.array([tile.owns(box) for tile, box in zip(tiles, boxes, strict=True)], dtype=np.bool_)
    order = np.lexsort((rows, -coarse.predicted_iou[rows], ~owned, step))  # rows are in the order of tile and index
    best_first: Rows = rows[order]
    return best_first
