"""How much an object stands out from what lies around it in one plane: that it fades away says that it ends there."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.geometry import Box, Mask
from napari_sam.images import Plane

AROUND_PX = 3
"""Least width of what counts as around an object; a quarter of its width where that is more."""
_READ_PX = 512
"""A larger object is looked at with fewer pixels."""
_CLEAR = 2.0
"""Times the spread of the surroundings that an object differs by, to be said to stand out at all."""


class StandingOut:
    """Follows how far an object stands out from plane to plane.

    In a stack from a microscope an object that has ended still shows in the next planes, as a blur in which a model
    finds it. The median brightness inside the mask minus the one around it falls to half of what it was where the
    light of the object's end is half in focus.

    Parameters
    ----------
    plane : Plane
        Where the object is known.
    mask : Mask
        Its mask there.
    """

    def __init__(self, plane: Plane, mask: Mask) -> None:
        difference, spread = contrast(plane, mask)
        self._most = difference
        self.is_clear = np.abs(difference).max(initial=0.0) > _CLEAR * spread
        """Whether it stands out by its brightness where it is known; of one that does not, nothing is said."""

    def share(self, plane: Plane, mask: Mask) -> float:
        """How far the object stands out in another plane, as a part of the most so far; 1 where that says nothing."""
        if not self.is_clear or mask.is_empty:
            return 1.0
        difference, _ = contrast(plane, mask)
        # Along the direction of colour in which it stood out.
        share = float(difference @ self._most / (self._most @ self._most))
        if share > 1:
            self._most = difference
        return share


def contrast(plane: Plane, mask: Mask) -> tuple[NDArray[np.float64], float]:
    """Median inside a mask minus median around it, for each of three colours, and the spread around it.

    Parameters
    ----------
    plane : Plane
    mask : Mask
        In the plane's frame, not empty.

    Returns
    -------
    difference : ndarray of shape (3,), float64
        0 where the mask leaves nothing around it.
    spread : float
        The median distance from the median around the mask, of the most spread colour.
    """
    width = math.sqrt(mask.area)
    step = 2 ** max(0, math.ceil(math.log2(max(mask.box.size) / _READ_PX)))
    margin = max(AROUND_PX * step, round(width / 4))
    box = mask.box.grown(margin).clipped(Box.of_size(mask.frame_size))
    pixels = plane.read(box, step).astype(np.float64)
    inside = mask.window(box)[::step, ::step]
    around = ~ndimage.binary_dilation(inside, np.ones((3, 3), bool))
    if not around.any() or not inside.any():
        return np.zeros(3), 0.0
    ground = np.median(pixels[around], axis=0)
    spread = np.median(np.abs(pixels[around] - ground), axis=0)
    return np.median(pixels[inside], axis=0) - ground, float(spread.max())
