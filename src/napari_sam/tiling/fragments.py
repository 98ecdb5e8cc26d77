"""Masks that a tile's edge cut: which of them are known whole from elsewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.geometry import Box, Mask, Tile, intersection_area, mask_iou_window
from napari_sam.tiling.candidates import Candidates, Corners, Rows, overlaps
from napari_sam.tiling.config import TilingConfig


def is_same_object(fragment: Mask, whole: Mask, tile: Tile, config: TilingConfig) -> bool:
    """Whether `whole` is the object of which `tile` saw only the cut mask `fragment`.

    The two are compared inside what the tile read, as nothing else of `whole` could be in the fragment. There an object
    that leaves and comes back (a snake, a U) falls into pieces that the tile saw as several fragments; so the fragment
    is compared with the pieces it lies on. A fragment that does not reach its tile's core lies where another tile
    answers; it is also taken for the same object if that tile's mask covers most of it, as edges make small fragments
    inexact.

    Parameters
    ----------
    fragment, whole : Mask
        In the frame of the whole image.
    tile : Tile
        The one that saw `fragment`.
    config : TilingConfig
        `merge_iou_thresh` and `fragment_cover_thresh`.
    """
    shared = intersection_area(fragment, whole)
    if shared > config.fragment_cover_thresh * fragment.area and not reaches_core(fragment, tile):
        return True
    if shared <= config.merge_iou_thresh * fragment.area:
        return False  # no IoU can be larger than the part that is shared
    if mask_iou_window(fragment, whole, tile.read) > config.merge_iou_thresh:
        return True
    return _piece_iou(fragment, whole, tile) > config.merge_iou_thresh


def reaches_core(fragment: Mask, tile: Tile) -> bool:
    """Whether the mask has a pixel that its tile answers for."""
    part = fragment.box.clipped(tile.core)
    return not part.is_empty and bool(fragment.window(part).any())


def unseen_rows(candidates: Candidates, tile: Tile, config: TilingConfig) -> Rows:
    """Rows of the masks cut by the edge of `tile` whose object no other tile saw uncut.

    A cut mask without a pixel in its tile's core is none of them: every one of its pixels lies in the core of a tile
    that sees more around it, and that tile's own mask, cut or not, speaks for the object; if it has none, there is no
    object. Only where such a tile failed does the fragment speak for it.
    """
    rows = candidates.rows_of(tile, cut=True)
    in_core = np.zeros(len(rows), dtype=np.bool_)
    in_core[candidates.runs(rows).strips().clipped(tile.core).owner] = True
    all_answer = _is_answered_for(candidates, tile.read)
    left = [
        row
        for row, reaches in zip(rows.tolist(), in_core.tolist(), strict=True)
        if (reaches or not (all_answer or _is_answered_for(candidates, _box_of(candidates, row))))
        and not _is_seen(candidates, row, tile, config)
    ]
    return np.array(left, dtype=np.intp)


def largest_first(candidates: Candidates, rows: Rows) -> Rows:
    """`rows` by falling area, then tile and index."""
    ordered: Rows = rows[np.lexsort((rows, -candidates.areas[rows]))]
    return ordered


def may_be_same(fragment_box: Corners, fragment_area: int, boxes: Corners, config: TilingConfig) -> NDArray[np.bool_]:
    """Whether masks in `boxes` (N, 4) can share enough pixels with the fragment for `is_same_object`."""
    needed = min(config.merge_iou_thresh, config.fragment_cover_thresh) * fragment_area
    enough: NDArray[np.bool_] = overlaps(boxes, fragment_box) > needed
    return enough


def _is_answered_for(candidates: Candidates, box: Box) -> bool:
    """Whether every tile whose core has a part of the box was segmented, or skipped for there is nothing in it."""
    plan = candidates.plan
    owners = [tile.index for tile in plan.tiles_reading(box) if tile.core.intersects(box)]
    return all(index in candidates.finished or index in plan.skipped for index in owners)


def _box_of(candidates: Candidates, row: int) -> Box:
    return Box(*candidates.boxes[row].tolist())


def _is_seen(candidates: Candidates, row: int, tile: Tile, config: TilingConfig) -> bool:
    fragment = candidates.mask(row)
    others = [other for other in candidates.plan.tiles_reading(fragment.box) if other.index != tile.index]
    for other in others:
        rows = candidates.rows_of(other, cut=False)
        rows = rows[may_be_same(candidates.boxes[row], fragment.area, candidates.boxes[rows], config)]
        if any(is_same_object(fragment, candidates.mask(int(whole)), tile, config) for whole in rows):
            return True
    return False


def _piece_iou(fragment: Mask, whole: Mask, tile: Tile) -> float:
    """IoU of the fragment with those connected pieces of `whole` inside the tile that it lies on."""
    window = whole.box.clipped(tile.read)
    pieces = ndimage.label(whole.window(window), structure=np.ones((3, 3)))[0]
    inside = fragment.window(window)
    touched = np.unique(pieces[inside & (pieces > 0)])
    met = np.isin(pieces, touched) & (pieces > 0)
    shared = np.count_nonzero(met & inside)
    return float(shared / (np.count_nonzero(met) + fragment.area - shared))
