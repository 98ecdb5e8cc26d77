"""Points well inside of a mask: where a person would click it, and where a network is asked about it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import PromptError
from napari_sam.geometry.masks import Mask


def most_interior_point(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(x, y) of the pixel of `mask` farthest from its border: its "centre" in the paper's single-point protocol.

    The edge of the array counts as a border (Kirillov et al. 2023, section 7.1).

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool
        With at least one pixel.

    Raises
    ------
    PromptError
        If the mask is empty.

    Examples
    --------
    >>> most_interior_point(np.pad(np.ones((3, 5), bool), 2))
    array([4., 3.])
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise PromptError("an empty mask has no point inside; leave it out.")
    depth = _depth(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    deepest = np.argwhere(depth == depth.max())
    y, x = deepest[len(deepest) // 2]  # of a ridge its middle, roughly
    return np.array([x + columns[0], y + rows[0]], dtype=np.float64)


def interior_points(mask: Mask, count: int) -> NDArray[np.float64]:
    """At most `count` pixels well inside `mask`: the most interior one, then each as far from the others as can be.

    Parameters
    ----------
    mask : Mask
        With at least one pixel.
    count : int

    Returns
    -------
    ndarray of shape (K, 2), float64
        (x, y) in the mask's frame.
    """
    depth = _depth(mask.window(mask.box))
    rows, columns = np.nonzero(depth >= depth.max() / 2)
    candidates = np.stack([columns, rows], axis=1).astype(np.float64)
    chosen = [int(np.argmax(depth[rows, columns]))]
    distance = np.full(len(candidates), np.inf)
    while len(chosen) < min(count, len(candidates)):
        distance = np.minimum(distance, ((candidates - candidates[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(np.argmax(distance)))
    return candidates[chosen] + (mask.box.x0, mask.box.y0)


def _depth(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance of each pixel to the border; outside of the array is outside of the mask."""
    from scipy.ndimage import distance_transform_edt  # only here: the rest of geometry needs numpy alone

    return np.asarray(distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1])
