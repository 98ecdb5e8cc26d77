"""Random fields that surfaces and backgrounds are made of. All are float32 with mean 0 and deviation near 1."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.training.generators.shapes import Floats, Size


def smooth_noise(rng: np.random.Generator, size: Size, scale_px: float) -> Floats:
    """Noise whose hills are about `scale_px` wide.

    Random values on a coarse grid, interpolated by cubic B-splines.
    """
    return _noise(rng, size, (scale_px, scale_px))


def fractal_noise(
    rng: np.random.Generator, size: Size, coarsest_px: float, *, octaves: int = 4, persistence: float = 0.6
) -> Floats:
    """A sum of smooth noises, each half as wide as the one before and `persistence` times as high."""
    heights = persistence ** np.arange(octaves)
    field = np.zeros(size, dtype=np.float32)
    for octave, height in enumerate(heights):
        field += np.float32(height) * smooth_noise(rng, size, coarsest_px / 2**octave)
    return field / np.float32(np.sqrt((heights**2).sum()))


def fibres(rng: np.random.Generator, size: Size, period_px: float, *, angle: float, waviness: float = 1.0) -> Floats:
    """Wavy, broken stripes along `angle`, as in muscle, wood or ploughed soil."""
    x = np.arange(size[1], dtype=np.float32)[None]
    y = np.arange(size[0], dtype=np.float32)[:, None]
    across = np.float32(math.cos(angle)) * y - np.float32(math.sin(angle)) * x
    phase = across / np.float32(period_px) + np.float32(waviness) * smooth_noise(rng, size, 8 * period_px)
    strength = 1 + np.float32(0.5) * smooth_noise(rng, size, 5 * period_px)
    waves: Floats = np.sin(np.float32(2 * np.pi) * phase) * strength
    return waves


def strands(rng: np.random.Generator, size: Size, width_px: float, *, angle: float) -> Floats:
    """Fibres of about `width_px`, eight times as long, that run along `angle` and bend."""
    side = math.ceil(math.hypot(*size)) + 1
    thick, thin = (_noise(rng, (side, side), (width, 8 * width)) for width in (width_px, width_px / 2))
    bend = np.float32(3 * width_px) * smooth_noise(rng, size, 16 * width_px)
    x = np.arange(size[1], dtype=np.float32)[None] - np.float32(size[1] / 2)
    y = np.arange(size[0], dtype=np.float32)[:, None] - np.float32(size[0] / 2)
    cos, sin, middle = np.float32(math.cos(angle)), np.float32(math.sin(angle)), np.float32(side / 2)
    turned = (y * cos - x * sin + bend + middle, x * cos + y * sin + middle)
    across, along = (np.clip(np.rint(c), 0, side - 1).astype(np.intp) for c in turned)
    bent: Floats = (thick + thin)[across, along] * np.float32(0.7)
    return bent


def network(rng: np.random.Generator, size: Size, spacing_px: float) -> Floats:
    """Bright thin lines around cells about `spacing_px` wide, as on solidified metal or skin."""
    _, distance = cells(rng, size, spacing_px)
    lines = np.exp(-((distance / np.float32(max(1.0, spacing_px / 8))) ** 2))
    standard: Floats = (lines - lines.mean()) / np.float32(lines.std() + 1e-6)
    return standard


def cells(
    rng: np.random.Generator, size: Size, spacing_px: float, *, warp: float = 0.25, merge: float = 0.0
) -> tuple[NDArray[np.int32], Floats]:
    """A division of the image into cells, and each pixel's distance to the nearest wall between two.

    Parameters
    ----------
    spacing_px : float
        About the diameter of a cell.
    warp : float
        How much walls bend, as a part of the spacing.
    merge : float
        Share of the cells that are joined with another one, mostly a neighbour, which makes them hollow and long.

    Returns
    -------
    ids : ndarray of shape `size`, int32, from 1
    distance : ndarray of shape `size`, float32, pixels
    """
    margin = math.ceil(2 * spacing_px)
    padded = (size[0] + 2 * margin, size[1] + 2 * margin)
    seeds = np.zeros(padded, dtype=np.int32)
    at = _jittered_grid(rng, padded, spacing_px)
    ids = np.arange(1, len(at) + 1)
    joined = np.flatnonzero(rng.random(len(at) - 1) < merge)
    ids[joined + 1] = ids[joined]
    seeds[at[:, 0], at[:, 1]] = ids
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    partition = seeds[nearest[0], nearest[1]]
    bend = np.float32(warp * spacing_px)
    rows = np.arange(size[0], dtype=np.float32)[:, None] + bend * smooth_noise(rng, size, spacing_px) + margin
    columns = np.arange(size[1], dtype=np.float32)[None] + bend * smooth_noise(rng, size, spacing_px) + margin
    rows = np.clip(np.rint(rows), 0, padded[0] - 1).astype(np.intp)
    columns = np.clip(np.rint(columns), 0, padded[1] - 1).astype(np.intp)
    warped = partition[rows, columns]
    return warped, wall_distance(warped)


def wall_distance(ids: NDArray[np.int32]) -> Floats:
    """Distance of each pixel to the nearest pixel beside another id, in pixels."""
    wall = np.zeros(ids.shape, dtype=bool)
    beside, below = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    wall[:, 1:] |= beside
    wall[:, :-1] |= beside
    wall[1:] |= below
    wall[:-1] |= below
    if not wall.any():
        return np.full(ids.shape, float(max(ids.shape)), dtype=np.float32)
    distance: Floats = ndimage.distance_transform_edt(~wall).astype(np.float32)
    return distance


def _noise(rng: np.random.Generator, size: Size, scales_px: tuple[float, float]) -> Floats:
    """Smooth noise with hills of `scales_px` (down, across)."""
    (row, row_weights), (column, column_weights) = (
        _spline_weights(rng, n, max(scale, 1.0)) for n, scale in zip(size, scales_px, strict=True)
    )
    coarse = rng.standard_normal((row[-1] + 4, column[-1] + 4), dtype=np.float32)
    # Sums of four shifted copies, not matrix products: those would start threads in every worker that makes images.
    down = np.zeros((size[0], coarse.shape[1]), dtype=np.float32)
    for k, weights in enumerate(row_weights):
        down += weights[:, None] * coarse[row + k]
    field = np.zeros(size, dtype=np.float32)
    for k, weights in enumerate(column_weights):
        field += weights * down[:, column + k]
    field *= np.float32(2.2)  # interpolation averages; this brings the deviation back to about 1
    return field


def _jittered_grid(rng: np.random.Generator, size: Size, spacing: float) -> NDArray[np.intp]:
    """(N, 2) rows and columns, roughly `spacing` apart, none twice."""
    rows, columns = (np.arange(0, n, spacing) for n in size)
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    moved = grid + rng.uniform(0, spacing, grid.shape)
    inside = np.minimum(moved, np.array(size) - 1).astype(np.intp)
    return np.unique(inside, axis=0)


def _spline_weights(rng: np.random.Generator, n: int, scale: float) -> tuple[NDArray[np.intp], list[Floats]]:
    """For `n` pixels the first of four grid values each depends on, and the four weights (n,).

    The grid begins anywhere, so that hills keep no fixed places.
    """
    position = (np.arange(n) / scale + rng.random()).astype(np.float32)
    first = np.floor(position).astype(np.intp)
    t = position - first.astype(np.float32)
    pieces = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return first, [(piece / 6).astype(np.float32) for piece in pieces]
