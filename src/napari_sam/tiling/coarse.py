"""Objects that no tile of full resolution shows: what coarse tiles saw of them, where nothing else is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Mask, intersection_area
from napari_sam.tiling.candidates import Candidates, Rows, overlaps
from napari_sam.tiling.covered import covered_area
from napari_sam.tiling.plan import TilingConfig

MOST_KNOWN = 0.2
"""A coarse mask of which known objects cover more than this part is no object of its own: it is one of them seen less
sharply, or several taken for one."""


class KnownObjects:
    """What was seen at full resolution."""

    def __init__(self, candidates: Candidates, kept: Rows, whole: Sequence[Mask]) -> None:
        """`kept` are the uncut masks that stay, `whole` the cut objects that came out whole."""
        self._candidates = candidates
        self._is_kept = np.zeros(len(candidates), dtype=np.bool_)
        self._is_kept[kept] = True
        self._whole = whole

    def near(self, mask: Mask) -> list[Mask]:
        """Those whose box shares a pixel with the mask's."""
        candidates, box = self._candidates, mask.box.as_xyxy()
        found = [other for other in self._whole if other.box.intersects(mask.box)]
        for tile in candidates.plan.tiles_reading(mask.box):
            rows = candidates.rows_of(tile, cut=False)
            rows = rows[self._is_kept[rows] & (overlaps(candidates.boxes[rows], box) > 0)]
            found += [candidates.mask(row) for row in rows.tolist()]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class LargeObjects:
    """The coarse masks that are objects of their own."""

    coarse: Candidates
    rows: Rows

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
        taken: list[int] = []
        for row in _best_first(coarse, _eligible(coarse, config)).tolist():
            mask = coarse.mask(row)
            others = [coarse.mask(other) for other in taken if overlaps(coarse.boxes[other], coarse.boxes[row]) > 0]
            if covered_area(mask, [*others, *known.near(mask)]) <= MOST_KNOWN * mask.area:
                taken.append(row)
        return cls(coarse, np.array(taken, dtype=np.intp))

    def unshown_fragments(self, candidates: Candidates, fragments: Rows, config: TilingConfig) -> Rows:
        """Those of the `fragments` (rows of `candidates`) that do not lie on a large object."""

        def is_shown(row: int) -> bool:
            fragment = candidates.mask(row)
            most = config.fragment_cover_thresh * fragment.area
            near = self.rows[overlaps(self.coarse.boxes[self.rows], candidates.boxes[row]) > most]
            return any(intersection_area(fragment, self.coarse.mask(large)) > most for large in near.tolist())

        return np.array([row for row in fragments.tolist() if not is_shown(row)], dtype=np.intp)


def _eligible(coarse: Candidates, config: TilingConfig) -> Rows:
    """Rows of the uncut masks that are too long for finer tiles, and not too long to be an object."""
    sides = coarse.boxes[:, 2:] - coarse.boxes[:, :2]
    longest = sides.max(axis=1, initial=0)
    least = np.array([coarse.plan.least_px(coarse.plan.tiles[tile]) for tile in np.unique(coarse.tile)])
    least = least[np.searchsorted(np.unique(coarse.tile), coarse.tile)] if len(coarse) else longest
    rows: Rows = np.flatnonzero(~coarse.is_cut & (longest > least) & (longest <= config.max_object_px))
    return rows


def _best_first(coarse: Candidates, rows: Rows) -> Rows:
    """A total order: the finest layer first, then the tile that owns the box's centre, predicted IoU, tile, index."""
    tiles = [coarse.plan.tiles[tile] for tile in coarse.tile[rows].tolist()]
    step: NDArray[np.int64] = np.array([tile.step for tile in tiles], dtype=np.int64)
    owned = np.array([tile.owns(coarse.mask(row).box) for tile, row in zip(tiles, rows.tolist(), strict=True)], bool)
    order = np.lexsort((coarse.index[rows], coarse.tile[rows], -coarse.predicted_iou[rows], ~owned, step))
    best_first: Rows = rows[order]
    return best_first
