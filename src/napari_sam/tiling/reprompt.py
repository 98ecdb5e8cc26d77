"""An object larger than a tile's halo, asked for again on windows that grow until it is whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from napari_sam.errors import TilingError
from napari_sam.geometry import Box, Mask, Rle, Tile, intersection_area, mask_iou_window
from napari_sam.geometry.runs import Strips, frame_counts
from napari_sam.tiling.config import TilingConfig
from napari_sam.tiling.functions import Read, Reprompt
from napari_sam.tiling.plan import TilePlan

PROMPT = "reprompt"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a cut object that was prompted again."""

    mask: Mask | None
    """The whole object in the frame of the whole image, if it could be had."""
    reason: str
    """"whole"; or why not: "nothing" (no mask was given), "elsewhere" (it lies off the fragment)."""


def ask_for_whole(
    fragment: Mask, tile: Tile, read: Read, reprompt: Reprompt, plan: TilePlan, config: TilingConfig
) -> Answer:
    """The whole object of which `tile` saw `fragment`.

    The first window is centred on the fragment and twice `prompted_px` wide; its side doubles while the answer touches
    an edge of the window that is not the image's. Up to `max_window_px` a window is read at full resolution, beyond
    that at every 2nd, 4th, ... pixel, and the answer is enlarged again.

    Parameters
    ----------
    fragment : Mask
        In the frame of the whole image.
    tile : Tile
    read, reprompt : functions as in `napari_sam.tiling.functions`
    plan : TilePlan
    config : TilingConfig

    Returns
    -------
    Answer

    Raises
    ------
    TilingError
        If `reprompt` gives a mask in another frame than the window's.
    """
    for window, step in iter_windows(fragment.box, plan.image_size, 2 * plan.prompted_px, config.max_window_px):
        found = _ask(fragment, window, step, read, reprompt, plan.image_size)
        if found is None or not found.area:
            return Answer(None, "nothing")
        if not _lies_on(fragment, found, tile, config):
            return Answer(None, "elsewhere")
        reach = found.box.shifted(-window.x0, -window.y0).grown(config.edge_tolerance_px * step)
        if not Tile(0, window, window).is_cut(reach, plan.image_size):
            return Answer(replace(found, prompt=PROMPT), "whole")
    raise TilingError("the last window is the whole image, in which no object can be cut; please report this.")


def iter_windows(box: Box, image_size: tuple[int, int], first_px: int, max_window_px: int) -> Iterator[tuple[Box, int]]:
    """Windows around the middle of `box`, each twice as wide as the one before, until one is the whole image.

    A window that would leave the image is moved inside. With each comes the step at which its longer side is at most
    `max_window_px` samples; its lower corner is a multiple of it.

    Examples
    --------
    >>> list(iter_windows(Box(10, 10, 14, 14), (100, 60), 40, 64))
    [(Box(x0=0, y0=0, x1=40, y1=40), 1), (Box(x0=0, y0=0, x1=60, y1=80), 2), (Box(x0=0, y0=0, x1=60, y1=100), 2)]
    """
    height, width = image_size
    side = first_px
    while True:
        step = 2 ** max(0, math.ceil(math.log2(min(side, max(image_size)) / max_window_px)))
        x0, x1 = _centred((box.x0 + box.x1) // 2, side, width, step)
        y0, y1 = _centred((box.y0 + box.y1) // 2, side, height, step)
        yield Box(x0, y0, x1, y1), step
        if (y1 - y0, x1 - x0) == (height, width):
            return
        side *= 2


def enlarged(mask: Mask, step: int, frame_size: tuple[int, int]) -> Mask:
    """`mask` with each pixel made `step` x `step`, clipped to a frame of `frame_size`; made from the runs, nothing is
    drawn."""
    if step == 1:
        return replace(mask, frame_size=frame_size)
    box = Box(*(step * edge for edge in mask.box.as_xyxy().tolist())).clipped(Box.of_size(frame_size))
    strips = Strips.of([mask.rle], [mask.box])
    column = (strips.column[:, None] * step + np.arange(step)).ravel()
    row0, row1 = np.repeat(strips.row0 * step, step), np.repeat(strips.row1 * step, step)
    order = np.lexsort((row0, column))
    wide = Strips(np.zeros(len(order), dtype=np.int64), column[order], row0[order], row1[order]).clipped(box)
    point = (
        None
        if mask.point_xy is None
        else (step * (mask.point_xy[0] + 0.5) - 0.5, step * (mask.point_xy[1] + 0.5) - 0.5)
    )
    return replace(
        mask,
        rle=Rle(box.height, box.width, frame_counts(wide, box).astype(np.uint32)),
        box=box,
        frame_size=frame_size,
        point_xy=point,
        crop_box=Box.of_size(frame_size),
    )


def _ask(
    fragment: Mask, window: Box, step: int, read: Read, reprompt: Reprompt, image_size: tuple[int, int]
) -> Mask | None:
    pixels = read(window, step)
    size = (int(pixels.shape[0]), int(pixels.shape[1]))
    found = reprompt(pixels, _reduced(fragment.shifted(-window.x0, -window.y0, window.size), step, size))
    if found is None:
        return None
    if found.frame_size != size:
        raise TilingError(
            f"a reprompt function must give a mask in the frame of its window, {size} (H, W), "
            f"got one in {found.frame_size}."
        )
    return enlarged(found, step, window.size).shifted(window.x0, window.y0, image_size)


def _reduced(fragment: Mask, step: int, size: tuple[int, int]) -> Mask:
    """The fragment as a window read at every `step`-th pixel shows it; at least its middle pixel, as it is the
    prompt."""
    if step == 1:
        return fragment
    small = fragment.scaled(1 / step, 1 / step, size)
    if small.area:
        return small
    x, y = (min(int(c) // step, n - 1) for c, n in zip(fragment.centroid_xy, size[::-1], strict=True))
    return Mask.from_window(np.ones((1, 1), dtype=bool), Box(x, y, x + 1, y + 1), size, prompt=fragment.prompt)


def _lies_on(fragment: Mask, found: Mask, tile: Tile, config: TilingConfig) -> bool:
    """Whether an answer is about the object that was asked for."""
    if intersection_area(fragment, found) > config.fragment_cover_thresh * fragment.area:
        return True
    return mask_iou_window(fragment, found, tile.read) > config.merge_iou_thresh


def _centred(middle: int, side: int, length: int, step: int) -> tuple[int, int]:
    if side >= length:
        return 0, length
    start = max(0, min(middle - side // 2, length - side)) // step * step
    # A rest at the image's edge that is shorter than a step comes with it: it could not be read on its own.
    stop = length if length - (start + side) < step else start + side
    return start, stop
