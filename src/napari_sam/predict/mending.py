"""A region changed by clicks: what a negative point lies in is cut away, what a positive point lies beside is added.

Used where regions of the instance head answer a prompt nearly: each click changes the answer around itself and nowhere
else, so that further clicks never make it worse elsewhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

REACH = 1.5
"""How far a click changes the region, in distances from the click to the region's edge."""
SURE = 0.5
"""Probability of being foreground from which a pixel is."""
LESS_THAN_CLICKED = 0.9
"""Pixels are added that are foreground nearly as probably as the clicked one, by this part."""

Cells = NDArray[np.intp]
"""(K, 2) places (x, y)."""


def mended(
    labels: NDArray[np.int32], probability: NDArray[np.float64], positive: Cells, negative: Cells
) -> NDArray[np.bool_] | None:
    """The regions under the positive points as the clicks want them.

    Parameters
    ----------
    labels : ndarray of shape (h, w)
        0 or the number of a region.
    probability : ndarray of shape (h, w)
        Of being part of an object.
    positive, negative : ndarrays of shape (K, 2), int
        Pixels (x, y) that belong to the object, and that do not.

    Returns
    -------
    ndarray of shape (h, w), bool, or None
        None if no positive point lies in a region, or nothing is left.
    """
    under = labels[positive[:, 1], positive[:, 0]]
    region = np.isin(labels, under[under > 0])
    if not region.any():
        return None
    region = _cut_away(region, probability, positive, negative)
    for x, y in positive.tolist():
        if not region[y, x]:
            free = (labels == 0) | (labels == labels[y, x])
            free[negative[:, 1], negative[:, 0]] = False
            region = region | _beside(region, probability, free, x, y)
    return region if region.any() else None


def _cut_away(
    region: NDArray[np.bool_], probability: NDArray[np.float64], positive: Cells, negative: Cells
) -> NDArray[np.bool_]:
    """The region without what a flood from the negative points reaches before one from the positive points does."""
    inside = negative[region[negative[:, 1], negative[:, 0]]]
    if not len(inside):
        return region
    markers = np.zeros(region.shape, dtype=np.int32)
    for number, points in ((1, positive), (2, inside)):
        for x, y in points.tolist():
            markers[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = number
    flooded = watershed(-probability, np.where(region, markers, 0), mask=region)
    to_edge = ndimage.distance_transform_edt(region)
    near = np.zeros(region.shape, dtype=bool)
    for x, y in inside.tolist():
        near |= _disc(region.shape, x, y, REACH * to_edge[y, x] + 1)
    return np.asarray(region & ((flooded == 1) | ~near))


def _beside(
    region: NDArray[np.bool_], probability: NDArray[np.float64], free: NDArray[np.bool_], x: int, y: int
) -> NDArray[np.bool_]:
    """The piece around a pixel beside the region that looks like the pixel."""
    distance = float(ndimage.distance_transform_edt(~region)[y, x]) if region.any() else 0.0
    alike = probability >= min(SURE, LESS_THAN_CLICKED * probability[y, x])
    pieces, _ = ndimage.label(alike & (free | region) & _disc(region.shape, x, y, REACH * distance + 1))
    return np.asarray(pieces == pieces[y, x]) if pieces[y, x] else np.zeros(region.shape, dtype=bool)


def _disc(shape: tuple[int, ...], x: int, y: int, radius: float) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)
