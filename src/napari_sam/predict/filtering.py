"""What happens to masks after the decoder: stability, duplicates, islands and holes (paper, appendix B)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.geometry import Box, Mask, mask_nms, nms, piece_at, remove_small_regions
from napari_sam.predict.upsampling import LogitUpsampler

EDGE_TOLERANCE_PX = 20
"""A mask this near to a crop's inner edge counts as cut by it (published value)."""


def mask_and_stability(
    logits: NDArray[np.float32], upsampler: LogitUpsampler, *, threshold: float, offset: float
) -> tuple[Box, NDArray[np.bool_], float]:
    """A mask at the image's size inside a window that holds all of it, and its stability score.

    The stability score is the IoU of the mask with itself when `threshold` moves by `offset` both ways.

    Parameters
    ----------
    logits : (h, w) float32
        Low-resolution logits of one mask.
    upsampler : LogitUpsampler
    threshold, offset : float
        In logits.

    Returns
    -------
    window : Box
        In image pixels; empty where no pixel reaches `threshold - offset`.
    pixels : (window.height, window.width) bool
    stability_score : float
        In [0, 1]; 0 for an empty window.
    """
    window = upsampler.window_above(logits, threshold - offset)
    if window.is_empty:
        return window, np.zeros(window.size, dtype=bool), 0.0
    upsampled = upsampler.window(logits, window)
    outer = int(np.count_nonzero(upsampled > threshold - offset))
    inner = int(np.count_nonzero(upsampled > threshold + offset))
    return window, upsampled > threshold, inner / max(outer, 1)


def piece_of_point(pixels: NDArray[np.bool_], window: Box, point_xy: tuple[float, float]) -> NDArray[np.bool_]:
    """The connected piece of a mask that a point of the image lies on, or its largest; as large as `window`."""
    x, y = point_xy
    # A point at whole numbers is the centre of that pixel.
    return piece_at(pixels, math.floor(y + 0.5) - window.y0, math.floor(x + 0.5) - window.x0)


def is_cut_by_crop(box: Box, crop: Box, image_size: tuple[int, int]) -> bool:
    """Whether the mask in `box` lies within 20 px of an edge of `crop` that is no edge of the image."""
    height, width = image_size
    edges = box.x0, box.y0, box.x1 - 1, box.y1 - 1  # of its outermost pixels, as in the published generator
    return any(
        abs(edge - of_crop) <= EDGE_TOLERANCE_PX < abs(edge - of_image)
        for edge, of_crop, of_image in zip(edges, crop.as_xyxy(), (0, 0, width, height), strict=True)
    )


def without_duplicates(
    masks: Sequence[Mask], scores: ArrayLike, *, box_iou_thresh: float, mask_iou_thresh: float | None
) -> list[Mask]:
    """`masks`, best score first, without those whose box (or pixels, where asked) nearly equals a better one's.

    Parameters
    ----------
    masks : sequence of N Mask
    scores : array of shape (N,)
        Among equal scores the earlier mask wins.
    box_iou_thresh : float
        An IoU of the boxes above this makes two masks one object.
    mask_iou_thresh : float or None
        The same for the IoU of the masks; None leaves it out.
    """
    # The published generator measures boxes between the centres of the outermost pixels, so a side is one pixel less,
    # and its choice among near duplicates depends on it. A box one pixel thin would have no area so, and stays.
    boxes = np.array([m.box_xyxy for m in masks], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] -= (boxes[:, 2:] - boxes[:, :2] > 1).all(axis=1, keepdims=True)
    kept = [masks[i] for i in nms(boxes, scores, box_iou_thresh)]
    if mask_iou_thresh is None:
        return kept
    return [kept[i] for i in mask_nms(kept, np.arange(len(kept)), mask_iou_thresh)]


def without_covered(masks: Sequence[Mask], cover_thresh: float) -> list[Mask]:
    """`masks`, best first, without those of which better ones together cover more than `cover_thresh`.

    For objects that have no parts and do not overlap: of a cell, a mask of its rim or its nucleolus is a mistake.
    """
    if not masks:
        return []
    covered = np.zeros(masks[0].frame_size, dtype=bool)
    kept = []
    for mask in masks:
        pixels, under = mask.window(mask.box), covered[mask.box.slices]
        if np.count_nonzero(pixels & under) <= cover_thresh * mask.area:
            kept.append(mask)
            under |= pixels
    return kept


def without_small_regions(
    masks: Sequence[Mask], area_px: int, *, box_iou_thresh: float, mask_iou_thresh: float | None
) -> list[Mask]:
    """`masks` with holes filled and islands removed that are smaller than `area_px`, again without duplicates.

    Among duplicates those stay that needed no change, as published.
    """
    cleaned = [_cleaned(mask, area_px) for mask in masks]
    unchanged = [float(new is old) for new, old in zip(cleaned, masks, strict=True)]
    return without_duplicates(cleaned, unchanged, box_iou_thresh=box_iou_thresh, mask_iou_thresh=mask_iou_thresh)


def _cleaned(mask: Mask, area_px: int) -> Mask:
    """`mask` without small holes and islands; `mask` itself where it has none."""
    # What lies outside the mask's box is one region that must not look small: a margin of area_px / shorter side
    # makes each side of it large enough, and where the frame ends earlier, the region is what it is in the frame.
    margin = math.ceil(area_px / min(mask.box.size))
    window = mask.box.grown(margin).clipped(Box.of_size(mask.frame_size))
    pixels, filled = remove_small_regions(mask.window(window), area_px, "holes")
    pixels, cleared = remove_small_regions(pixels, area_px, "islands")
    if not (filled or cleared):
        return mask
    new = Mask.from_window(pixels, window, mask.frame_size)
    return replace(mask, rle=new.rle, box=new.box)
