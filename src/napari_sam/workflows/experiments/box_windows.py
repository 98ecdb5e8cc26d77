"""From which windows of a huge image boxes are answered: as few as can be, each holding its boxes with room around."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Box

LARGEST_PART = 0.4
"""Of a window's side: a larger box is answered from the next coarser window. Half a window is the most that fits
wherever the box lies, since windows begin every half of their side; less leaves surroundings to be seen."""


@dataclass(frozen=True, slots=True, eq=False)
class BoxWindow:
    """A window of the image, and the boxes that are answered from it together."""

    window: Box
    """What is read, in pixels of the image."""
    step: int
    """By how much it is reduced, a power of two."""
    rows: NDArray[np.intp]
    """Numbers of the boxes, ascending."""


def plan_windows(boxes_xyxy: NDArray[np.float64], image_size: tuple[int, int], window_px: int) -> list[BoxWindow]:
    """Windows on a lattice of half their side, so that boxes near one another share one, and its embedding.

    Parameters
    ----------
    boxes_xyxy : ndarray of shape (N, 4)
        Inside the image.
    image_size : (H, W)
    window_px : int
        Side of a window as the model sees it.

    Returns
    -------
    list of BoxWindow
        The finest first, then row by row. Each box is in exactly one of them, and inside it.
    """
    groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for row, (x0, y0, x1, y1) in enumerate(np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4).tolist()):
        largest = max(x1 - x0, y1 - y0)
        level = max(0, math.ceil(math.log2(largest / (LARGEST_PART * window_px)))) if largest > 0 else 0
        level = min(level, _level_of_whole(image_size, window_px))
        side = window_px << level
        y, x = (_place(low, high, side, n) for low, high, n in zip((y0, x0), (y1, x1), image_size, strict=True))
        groups[level, y, x].append(row)
    windows = []
    for level, y, x in sorted(groups):
        window = _window(y, x, window_px << level, 1 << level, image_size)
        windows.append(BoxWindow(window, 1 << level, np.array(groups[level, y, x], dtype=np.intp)))
    return windows


def _level_of_whole(image_size: tuple[int, int], window_px: int) -> int:
    """The level at which one window is the whole image."""
    return max(0, math.ceil(math.log2(max(image_size) / window_px)))


def _place(low: float, high: float, side: int, length: int) -> int:
    """Number of the window, on one axis, whose middle is nearest to that of low:high."""
    last = max(0, math.ceil(2 * (length - side) / side))
    return min(max(0, round((low + high) / side - 1)), last)


def _window(y: int, x: int, side: int, step: int, image_size: tuple[int, int]) -> Box:
    (y0, y1), (x0, x1) = (_range(i, side, step, n) for i, n in zip((y, x), image_size, strict=True))
    return Box(x0, y0, x1, y1)


def _range(number: int, side: int, step: int, length: int) -> tuple[int, int]:
    """Of the window with this number, moved into 0:length; it begins at a multiple of `step`, as reading likes it."""
    start = number * side // 2
    if start + side <= length:
        return start, start + side
    return max(0, length - side) // step * step, length
