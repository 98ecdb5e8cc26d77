"""Where automatic mask generation looks: grids of points and the zoomed crop layers."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ConfigError
from napari_sam.geometry.boxes import Box


def point_grid(points_per_side: int) -> NDArray[np.float64]:
    """Evenly spaced points in the unit square, x running fastest.

    The square is cut into `points_per_side` ** 2 equal cells with a point in the middle of each (Kirillov et al. 2023,
    appendix B: 32 a side).

    Parameters
    ----------
    points_per_side : int
        At least 1.

    Returns
    -------
    ndarray of shape (points_per_side ** 2, 2), float64
        (x, y) as fractions of width and height.

    Raises
    ------
    ConfigError
        If `points_per_side` is below 1.

    Examples
    --------
    >>> point_grid(2).tolist()
    [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    """
    if points_per_side < 1:
        raise ConfigError(f"points_per_side must be at least 1, got {points_per_side}; 32 is usual.")
    offset = 1 / (2 * points_per_side)
    side = np.linspace(offset, 1 - offset, points_per_side)
    x, y = np.meshgrid(side, side)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def layer_point_grids(points_per_side: int, n_layers: int, downscale_factor: int) -> list[NDArray[np.float64]]:
    """One point grid for the whole image and each crop layer, thinner by `downscale_factor` from layer to layer.

    Parameters
    ----------
    points_per_side : int
        Of layer 0, the whole image.
    n_layers : int
        Crop layers besides it.
    downscale_factor : int
        Points a side of layer i are `points_per_side / downscale_factor ** i`, rounded down.

    Returns
    -------
    list of n_layers + 1 arrays as `point_grid` makes them

    Raises
    ------
    ConfigError
        If a layer would have no points.
    """
    if n_layers < 0 or downscale_factor < 1:
        raise ConfigError(
            f"need n_layers >= 0 and downscale_factor >= 1, got {n_layers} and {downscale_factor}; "
            "0 layers mean no crops."
        )
    sides = [points_per_side // downscale_factor**layer for layer in range(n_layers + 1)]
    if min(sides) < 1:
        raise ConfigError(
            f"{points_per_side} points a side leave none on crop layer {n_layers} with a downscale factor of "
            f"{downscale_factor}; use more points, fewer layers or a smaller factor."
        )
    return [point_grid(side) for side in sides]


def crop_boxes(image_size: tuple[int, int], n_layers: int, overlap_ratio: float) -> tuple[list[Box], list[int]]:
    """The crops of automatic mask generation: the whole image, then ever smaller overlapping pieces.

    Layer i cuts the image into 2**i by 2**i crops that overlap their neighbours (Kirillov et al. 2023, appendix B).

    Parameters
    ----------
    image_size : (H, W)
    n_layers : int
        Layers besides the whole image.
    overlap_ratio : float
        In [0, 1): overlap on layer 1 as a part of the image's shorter side; halved from layer to layer.

    Returns
    -------
    boxes : list of Box
        Layer by layer, and in a layer column by column. Crops of no width, as in images smaller than the number
        of crops, are left out.
    layers : list of int
        The layer of each box; 0 is the whole image.

    Raises
    ------
    ConfigError
        If `n_layers` or `overlap_ratio` lies outside its range.

    Examples
    --------
    >>> boxes, layers = crop_boxes((100, 200), 1, 0.2)
    >>> boxes[1], layers
    (Box(x0=0, y0=0, x1=110, y1=60), [0, 1, 1, 1, 1])
    """
    if n_layers < 0 or not 0 <= overlap_ratio < 1:
        raise ConfigError(f"need n_layers >= 0 and an overlap ratio in [0, 1), got {n_layers} and {overlap_ratio}.")
    height, width = image_size
    boxes, layers = [Box.of_size(image_size)], [0]
    for layer in range(1, n_layers + 1):
        n = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / n))
        columns, rows = _crop_ranges(width, n, overlap), _crop_ranges(height, n, overlap)
        crops = [Box(x0, y0, x1, y1) for x0, x1 in columns for y0, y1 in rows]
        boxes.extend(crops)
        layers.extend([layer] * len(crops))
    return boxes, layers


def _crop_ranges(length: int, n: int, overlap: int) -> list[tuple[int, int]]:
    size = math.ceil((overlap * (n - 1) + length) / n)
    starts = [(size - overlap) * i for i in range(n)]
    return [(start, min(start + size, length)) for start in starts if start < length]
