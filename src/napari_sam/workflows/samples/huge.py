"""A huge image of nuclei that exists nowhere: each pixel of each level is computed when it is looked at.

The plane is a lattice of squares, each with at most one nucleus whose place, size and brightness follow from a hash of
the square's row and column. A pixel depends on its own position only, so pieces fit at their seams however they are
asked for. Where one pixel of a coarse level covers many nuclei, it shows how much of the area they cover on average.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ConfigError

Floats = NDArray[np.float32]
Doubles = NDArray[np.floating[Any]]

SIDE_PX = 50_000
PIXEL_SIZE_UM = 0.5

_PITCH_PX = 44
"""Side of a square of the lattice. A nucleus reaches at most half a pitch beyond its square, so that only four squares
can touch a pixel."""
_RADII_PX = (9.0, 20.0)
_STRETCH = (0.75, 1.25)
_BRIGHTNESS = (0.35, 1.0)
_JITTER = 0.3
"""How far a middle may lie from that of its square, in pitches."""
_TISSUE_PX = (12_000, 3_000, 800)
"""Widths of the hills of the tissue's density."""
_AVERAGED_FROM_STEP = 32
"""From this reduction on a pixel is as wide as a nucleus: drawing single ones would be chance."""
_CHUNK_PX = 512
_SMALLEST_LEVEL_PX = 512


@dataclass(frozen=True, slots=True, eq=False)
class HugeSample:
    """The pyramid of an image and of its labels; nothing is computed yet."""

    image: tuple[da.Array, ...]
    """uint8, (H, W) and its halves."""
    labels: tuple[da.Array, ...]
    """uint32, the same shapes; level k holds the labels of pixels (2^k row, 2^k column)."""


@dataclass(frozen=True, slots=True)
class ComputedLevel:
    """A level as an array whose pixels are computed when a part of it is taken."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    compute: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[Any]]
    """From rows (h,) and columns (w,) of this level to pixels (h, w)."""

    @property
    def ndim(self) -> int:
        return 2

    def __getitem__(self, key: tuple[Any, Any]) -> NDArray[Any]:
        rows, columns = (np.arange(n)[part] for n, part in zip(self.shape, key, strict=True))
        pixels = self.compute(np.atleast_1d(rows), np.atleast_1d(columns))
        kept: NDArray[Any] = pixels.reshape(np.shape(rows) + np.shape(columns))
        return kept


def huge_nuclei(side_px: int = SIDE_PX, *, seed: int = 0) -> HugeSample:
    """A field of hundreds of thousands of nuclei in islands of tissue, and their labels.

    Parameters
    ----------
    side_px : int
        Height and width; at least 512.
    seed : int
        The same seed gives the same pixels on every machine.

    Raises
    ------
    ConfigError
        If the side is too small.
    """
    if side_px < _SMALLEST_LEVEL_PX:
        raise ConfigError(f"side_px must be at least {_SMALLEST_LEVEL_PX}, got {side_px}.")
    sides = [side_px]
    while sides[-1] > _SMALLEST_LEVEL_PX:
        sides.append((sides[-1] + 1) // 2)
    field = Field(side_px, seed)
    return HugeSample(
        tuple(_level(field, "image", side, 2**k) for k, side in enumerate(sides)),
        tuple(_level(field, "labels", side, 2**k) for k, side in enumerate(sides)),
    )


def _level(field: Field, kind: str, side: int, step: int) -> da.Array:
    if kind == "image":
        level = ComputedLevel((side, side), np.dtype(np.uint8), lambda y, x: field.light(y, x, step))
    else:
        level = ComputedLevel((side, side), np.dtype(np.uint32), lambda y, x: field.labels(y * step, x * step))
    name = f"napari-sam-huge-{kind}-{field.side_px}-{field.seed}-{step}"
    meta = np.empty((0, 0), level.dtype)
    array: da.Array = da.from_array(level, chunks=_CHUNK_PX, name=name, asarray=False, meta=meta)
    return array


@dataclass(frozen=True, slots=True)
class Field:
    """The rule: from positions to light and labels."""

    side_px: int
    seed: int

    def light(self, rows: NDArray[np.int64], columns: NDArray[np.int64], step: int) -> NDArray[np.uint8]:
        """Pixels of the level reduced by `step`, at the crossings of rows and columns."""
        y, x = ((positions.astype(np.float64) + 0.5) * step - 0.5 for positions in (rows, columns))
        tissue = _tissue(y, x, self.seed)
        if step >= _AVERAGED_FROM_STEP:
            bright = np.float32(_mean_light()) * _share(tissue)
        else:
            bright = np.zeros((len(rows), len(columns)), np.float32)
            for nuclei in self._nuclei_near(y, x):
                np.maximum(bright, nuclei.light(y, x, soft_px=max(1.5, step)), out=bright)
        # One photon's worth of grain a pixel, weaker where a pixel is the mean of many.
        grain = (_hashed(rows[:, None], columns[None], self.seed + 77 * step) - np.float32(0.5)) / np.float32(step)
        shade = np.float32(8) + np.float32(40) * tissue + np.float32(180) * bright + np.float32(14) * grain
        shown: NDArray[np.uint8] = np.clip(shade, 0, 255).astype(np.uint8)
        return shown

    def labels(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Labels of full-resolution pixels; where nuclei overlap, the one whose middle is nearer in its own radii."""
        y, x = rows.astype(np.float64), columns.astype(np.float64)
        nearest = np.ones((len(rows), len(columns)), np.float32)
        labels = np.zeros(nearest.shape, np.uint32)
        for nuclei in self._nuclei_near(y, x):
            distance = nuclei.distance(y, x)
            mine = distance < nearest
            labels[mine] = nuclei.label[mine]
            nearest[mine] = distance[mine]
        return labels

    def _nuclei_near(self, y: Doubles, x: Doubles) -> list[Nuclei]:
        """The nuclei of the four squares that can touch each pixel."""
        row, column = (np.floor(positions / _PITCH_PX - 0.5).astype(np.int64) for positions in (y, x))
        return [Nuclei.of(self, row + dy, column + dx) for dy in (0, 1) for dx in (0, 1)]


@dataclass(frozen=True, slots=True, eq=False)
class Nuclei:
    """The nucleus of one square for each pixel, all arrays (h, w)."""

    label: NDArray[np.uint32]
    y: Floats
    x: Floats
    """With y: the middle; far away where the square is empty."""
    radius: Floats
    brightness: Floats
    axes: tuple[Floats, Floats, Floats, Floats]
    """(a, b, c, d): |(a dy + b dx, c dy + d dx)| is the distance from the middle, 1 on the outline."""

    @classmethod
    def of(cls, field: Field, row: NDArray[np.int64], column: NDArray[np.int64]) -> Nuclei:
        """Of the squares at the crossings of `row` (h,) and `column` (w,): drawn once a square, then looked up."""
        rows, at_row = np.unique(row, return_inverse=True)
        columns, at_column = np.unique(column, return_inverse=True)
        r, c = rows[:, None], columns[None]
        random = [_hashed(r, c, field.seed + 1000 + i) for i in range(7)]
        tissue = _tissue((rows + 0.5) * _PITCH_PX, (columns + 0.5) * _PITCH_PX, field.seed)
        across = -(-field.side_px // _PITCH_PX)
        there = (r >= 0) & (c >= 0) & (r < across) & (c < across) & (random[0] < _share(tissue))
        y, x = ((at + 0.5 + _JITTER * (2 * random[i] - 1)) * _PITCH_PX for i, at in ((1, r), (2, c)))
        radius, stretch = _between(_RADII_PX, random[3]), _between(_STRETCH, random[4])
        along, across_it = stretch / radius, 1 / (stretch * radius)
        cos, sin = np.cos(np.float32(np.pi) * random[5]), np.sin(np.float32(np.pi) * random[5])
        place = np.ix_(at_row, at_column)
        return cls(
            label=np.where(there, r * across + c + 1, 0).astype(np.uint32)[place],
            y=np.where(there, y, -1e9).astype(np.float32)[place],
            x=x.astype(np.float32)[place],
            radius=radius[place],
            brightness=_between(_BRIGHTNESS, random[6])[place],
            axes=(
                (along * cos)[place],
                (along * sin)[place],
                (-across_it * sin)[place],
                (across_it * cos)[place],
            ),
        )

    def distance(self, y: Doubles, x: Doubles) -> Floats:
        """From the middle in radii: below 1 inside."""
        down, right = y[:, None].astype(np.float32) - self.y, x[None].astype(np.float32) - self.x
        a, b, c, d = self.axes
        distance: Floats = np.hypot(a * down + b * right, c * down + d * right)
        return distance

    def light(self, y: Doubles, x: Doubles, *, soft_px: float) -> Floats:
        """Brightness at each pixel, with an edge that falls off over `soft_px`."""
        inside = 1 - self.distance(y, x)
        cover = np.clip(inside * self.radius / np.float32(soft_px) + np.float32(0.5), 0, 1)
        light: Floats = self.brightness * cover * (np.float32(0.7) + np.float32(0.3) * np.maximum(inside, 0))
        return light


def _mean_light() -> float:
    """Light of a square that has a nucleus, on average: brightness, the dome's mean, covered share."""
    low, high = _RADII_PX
    area = np.pi * (low**2 + low * high + high**2) / 3
    return float(sum(_BRIGHTNESS) / 2 * 0.8 * area / _PITCH_PX**2)


def _share(tissue: Floats) -> Floats:
    """How likely a square of this tissue density is to have a nucleus."""
    share: Floats = np.clip((tissue - np.float32(0.4)) * np.float32(4), 0, np.float32(0.95))
    return share


def _tissue(y: NDArray[Any], x: NDArray[Any], seed: int) -> Floats:
    """Density in [0, 1] that changes over thousands and hundreds of pixels; (h, w) of positions (h,) and (w,)."""
    hills = [_hills(y, x, width, seed + i) for i, width in enumerate(_TISSUE_PX)]
    density: Floats = np.float32(0.5) * hills[0] + np.float32(0.3) * hills[1] + np.float32(0.2) * hills[2]
    return density


def _hills(y: NDArray[Any], x: NDArray[Any], width_px: int, seed: int) -> Floats:
    """Smooth noise in [0, 1]: hashed values on a coarse grid, blended by a curve without kinks."""
    (top, down), (left, right) = (_grid_place(positions / width_px) for positions in (y, x))
    first_row, first_column = int(top.min()), int(left.min())
    rows = np.arange(first_row, int(top.max()) + 2)
    columns = np.arange(first_column, int(left.max()) + 2)
    values = _hashed(rows[:, None], columns[None], seed)
    along = values[:, left - first_column] * (1 - right) + values[:, left - first_column + 1] * right
    below = down[:, None]
    blended = along[top - first_row] * (1 - below) + along[top - first_row + 1] * below
    return blended.astype(np.float32, copy=False)


def _grid_place(positions: NDArray[Any]) -> tuple[NDArray[np.int64], Floats]:
    """Grid line before each position, and the blended share of the next one."""
    line = np.floor(positions)
    share = (positions - line).astype(np.float32)
    return line.astype(np.int64), share * share * (3 - 2 * share)


def _between(limits: tuple[float, float], share: Floats) -> Floats:
    low, high = limits
    return np.float32(low) + np.float32(high - low) * share


def _hashed(rows: NDArray[np.int64], columns: NDArray[np.int64], seed: int) -> Floats:
    """An even random number in [0, 1) for each pair of whole numbers: a multiply-and-shift hash of 32 bits."""
    mixed = rows.astype(np.uint32) * np.uint32(0x9E3779B1) ^ columns.astype(np.uint32) * np.uint32(0x85EBCA77)
    mixed = mixed + np.uint32(seed * 0xC2B2AE3D & 0xFFFFFFFF)
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
    mixed ^= mixed >> np.uint32(15)
    even: Floats = (mixed >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)
    return even
