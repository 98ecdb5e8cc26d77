"""Low-resolution mask logits to image pixels, exactly, and only where a mask can be.

The published models bring the logits to the model's frame, cut off the padding and bring the rest to the image's
size, both times bilinearly. Both steps work on rows and columns separately, so together they are one matrix a side;
a window of the image needs only some of their columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from napari_sam.geometry import Box, ModelFrame


@dataclass(frozen=True, slots=True, eq=False)
class AxisTaps:
    """How one axis of the image is made of one of the logits: image pixel i is a weighted mean of `indices[:, i]`."""

    indices: NDArray[np.intp]
    """(K, size): neighbouring logits, ascending; K is two or three, as bilinear steps take two each."""
    weights: NDArray[np.float32]
    """(K, size): of these logits; they add up to 1."""
    last: NDArray[np.intp]
    """(size,): the last of the logits whose weight is not 0. `indices[0]` is the first."""

    def pixels_of(self, first_low: int, last_low: int) -> tuple[int, int]:
        """Half-open range of the image pixels that see any of the logits `first_low` to `last_low` (included)."""
        start = int(np.searchsorted(self.last, first_low, side="left"))
        stop = int(np.searchsorted(self.indices[0], last_low, side="right"))
        return start, max(start, stop)

    def part(self, start: int, stop: int) -> AxisTaps:
        """For the image pixels `start:stop` alone."""
        return AxisTaps(self.indices[:, start:stop], self.weights[:, start:stop], self.last[start:stop])

    def apply(self, values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
        """`values` (2-D) with its `axis` brought to the image's pixels."""
        # Not one product with the matrix of weights: its threads would fight with those of torch.
        shape = (-1, 1) if axis == 0 else (1, -1)
        mixed: NDArray[np.float32] = values.take(self.indices[0], axis=axis)
        mixed *= self.weights[0].reshape(shape)
        for indices, weights in zip(self.indices[1:], self.weights[1:], strict=True):
            neighbours = values.take(indices, axis=axis)
            neighbours *= weights.reshape(shape)
            mixed += neighbours
        return mixed


class LogitUpsampler:
    """Brings logits of one low-resolution size to the pixels of one image, window by window.

    Parameters
    ----------
    low_res_size : (h, w)
        Of the logits; they cover the whole square frame.
    frame : ModelFrame
        The image's place in it.
    """

    def __init__(self, low_res_size: tuple[int, int], frame: ModelFrame) -> None:
        self.image_size = frame.image_size
        self._rows, self._columns = (
            _axis_taps(low, frame.model_size, filled, size)
            for low, filled, size in zip(low_res_size, frame.input_size, frame.image_size, strict=True)
        )

    def window_above(self, logits: NDArray[np.float32], threshold: float) -> Box:
        """A box, empty or a little larger than needed, that holds each image pixel whose logit is above `threshold`.

        An image pixel's logit is a weighted mean of the low-resolution logits it sees, so one of those is above too.
        """
        above = logits > threshold
        rows, columns = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
        if not len(rows):
            return Box(0, 0, 0, 0)
        y0, y1 = self._rows.pixels_of(int(rows[0]), int(rows[-1]))
        x0, x1 = self._columns.pixels_of(int(columns[0]), int(columns[-1]))
        return Box(x0, y0, x1, y1)

    def window(self, logits: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
        """The logits (h, w) at the image pixels of `box`, which must not be empty: shape (box.height, box.width)."""
        rows, columns = self._rows.part(box.y0, box.y1), self._columns.part(box.x0, box.x1)
        first, last = int(rows.indices[0, 0]), int(rows.last[-1])
        wide = columns.apply(logits[first : last + 1], axis=1)  # (low rows, box.width)
        return AxisTaps(np.minimum(rows.indices, last) - first, rows.weights, rows.last).apply(wide, axis=0)


@lru_cache(maxsize=64)  # a click asks for those of its window again and again; they are some KB
def _axis_taps(low: int, model: int, filled: int, size: int) -> AxisTaps:
    """Taps on `low` logits, over a frame of `model` pixels of which the image fills `filled`, for `size` pixels."""
    # torch itself says how it interpolates: the operation is linear, so its answers to unit vectors are its matrix.
    unit = torch.eye(low)[None]  # (1, low, low)
    framed = F.interpolate(unit, model, mode="linear", align_corners=False)[..., :filled]  # (1, low, filled)
    matrix = F.interpolate(framed, size, mode="linear", align_corners=False)[0].numpy()  # (low, size)
    used = matrix > 0
    first, last = used.argmax(axis=0), low - 1 - used[::-1].argmax(axis=0)
    reach = first + np.arange((last - first).max() + 1)[:, None]  # (K, size)
    indices = np.minimum(reach, low - 1)
    weights = np.where(reach < low, np.take_along_axis(matrix, indices, axis=0), np.float32(0))
    for shared in (indices, weights, last):
        shared.setflags(write=False)
    return AxisTaps(indices, weights, last)
