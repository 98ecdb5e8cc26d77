"""Outlines of generated objects, each computed in its own small window."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Box

Floats = NDArray[np.float32]
Size = tuple[int, int]
XY = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Stamp:
    """One object's shape in a window of the image."""

    box: Box
    """The window, clipped to the image."""
    level: Floats
    """0 in the object's middle, 1 on its outline, more outside; shape of `box`."""
    radius: float
    """Its typical half width in pixels: what one unit of `level` measures."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = self.level < 1
        return inside

    def soft(self, width_px: float = 1.0) -> Floats:
        """Coverage in [0, 1] that falls off over `width_px` around the outline."""
        coverage: Floats = np.clip((1 - self.level) * (self.radius / width_px) + 0.5, 0, 1)
        return coverage

    def dome(self) -> Floats:
        """Thickness of a rounded body of this outline: 1 in the middle, 0 on the outline and outside."""
        thickness: Floats = np.sqrt(np.clip(1 - self.level**2, 0, 1))
        return thickness


def blob(
    rng: np.random.Generator,
    center_xy: XY,
    radius: float,
    size: Size,
    *,
    aspect: float = 1.0,
    angle: float = 0.0,
    roughness: float = 0.08,
    lobes: int = 5,
) -> Stamp | None:
    """A rounded, irregular ellipse; None where nothing of it lies in the image.

    The outline is an ellipse whose radius is multiplied by a sum of `lobes` random waves of share `roughness`.
    """
    reach = radius * math.sqrt(aspect) * (1 + 2 * roughness) + 2
    window = _window(center_xy, reach, size)
    if window is None:
        return None
    u, v = _local(window, center_xy, angle)
    u, v = u / (radius * math.sqrt(aspect)), v / (radius / math.sqrt(aspect))
    theta = np.arctan2(v, u)
    waves = np.arange(2, 2 + lobes, dtype=np.float32)
    heights = rng.normal(0, roughness, lobes) * 2 / waves
    phases = rng.uniform(0, 2 * np.pi, lobes)
    outline = np.ones_like(theta)
    for wave, height, phase in zip(waves, heights, phases, strict=True):
        outline += np.float32(height) * np.cos(wave * theta + np.float32(phase))
    level = np.hypot(u, v) / np.maximum(outline, 0.3)
    return Stamp(window, level.astype(np.float32), radius)


def polygon(
    rng: np.random.Generator, center_xy: XY, radius: float, size: Size, *, corners: int = 6, aspect: float = 1.0
) -> Stamp | None:
    """A convex polygon of up to `corners` sides with straight edges, in any direction."""
    window = _window(center_xy, 2 * radius * math.sqrt(aspect) + 2, size)
    if window is None:
        return None
    u, v = _local(window, center_xy, rng.uniform(0, np.pi))
    u, v = u / (radius * math.sqrt(aspect)), v / (radius / math.sqrt(aspect))
    normals = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * (2 * np.pi / corners)
    reaches = rng.uniform(0.75, 1.05, corners)
    sides = [(np.cos(n) * u + np.sin(n) * v) / d for n, d in zip(normals.astype(np.float32), reaches, strict=True)]
    return Stamp(window, np.max(sides, axis=0).astype(np.float32), radius)


def rectangle(center_xy: XY, half_sides: XY, angle: float, size: Size) -> Stamp | None:
    """A rectangle turned by `angle`."""
    window = _window(center_xy, math.hypot(*half_sides) + 2, size)
    if window is None:
        return None
    u, v = _local(window, center_xy, angle)
    level = np.maximum(np.abs(u) / half_sides[0], np.abs(v) / half_sides[1])
    return Stamp(window, level.astype(np.float32), min(half_sides))


def lens(center_xy: XY, length: float, width: float, angle: float, size: Size) -> Stamp | None:
    """A leaf: two arcs that meet in two tips, `length` and `width` in pixels."""
    window = _window(center_xy, length / 2 + 2, size)
    if window is None:
        return None
    u, v = _local(window, center_xy, angle)
    half = length / 2
    # |v| on the outline is a parabola over the length: sharp tips, as leaves have.
    allowed = (width / 2) * (1 - (u / half) ** 2)
    level = np.where(allowed > 0, np.abs(v) / np.maximum(allowed, 1e-3), 9.0)
    return Stamp(window, level.astype(np.float32), width / 2)


def tube(points_xy: NDArray[np.float64], half_widths: NDArray[np.float64], size: Size) -> Stamp | None:
    """All points closer to a centre line than its half width: rods, filaments, protrusions.

    Parameters
    ----------
    points_xy : ndarray of shape (K, 2)
        Centre line, sampled at least every half width.
    half_widths : ndarray of shape (K,)
        In pixels, may change along the line.
    """
    patch = math.ceil(half_widths.max()) + 2
    low, high = points_xy.min(axis=0) - patch, points_xy.max(axis=0) + patch
    whole = Box.from_xyxy([*low, *(high + 1)])
    steps = np.arange(-patch, patch + 1)
    x = np.rint(points_xy[:, 0]).astype(int)[:, None, None] + steps[None, None]
    y = np.rint(points_xy[:, 1]).astype(int)[:, None, None] + steps[None, :, None]
    distance = np.hypot(x - points_xy[:, 0, None, None], y - points_xy[:, 1, None, None])
    relative = (distance / half_widths[:, None, None]).astype(np.float32)
    level = np.full(whole.area, 9.0, dtype=np.float32)
    at = (y - whole.y0) * whole.width + (x - whole.x0)
    np.minimum.at(level, at.ravel(), relative.ravel())  # one flat index: numpy's fast path
    return _clipped(Stamp(whole, level.reshape(whole.size), float(np.median(half_widths))), size)


def curve(
    rng: np.random.Generator, middle_xy: XY, length: float, angle: float, bend: float, spacing: float
) -> NDArray[np.float64]:
    """A smooth line of `length` pixels through `middle_xy`, turning by about `bend` radians in all; (K, 2)."""
    n = max(3, math.ceil(length / spacing))
    along = np.linspace(-0.5, 0.5, n)
    turn = rng.normal(0, bend) * along + rng.normal(0, bend / 2) * np.sin(2 * np.pi * along)
    heading = angle + turn
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length / (n - 1))
    path = np.cumsum(steps, axis=0)
    moved: NDArray[np.float64] = path - path[n // 2] + np.array(middle_xy)
    return moved


def joined(stamps: list[Stamp | None], size: Size) -> Stamp | None:
    """The union of several shapes as one; None when none of them is in the image."""
    present = [stamp for stamp in stamps if stamp is not None]
    if not present:
        return None
    boxes = np.array([stamp.box.as_xyxy() for stamp in present])
    whole = Box.from_xyxy([*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)])
    level = np.full(whole.size, 9.0, dtype=np.float32)
    for stamp in present:
        part = level[stamp.box.shifted(-whole.x0, -whole.y0).slices]
        np.minimum(part, stamp.level, out=part)
    return Stamp(whole, level, present[0].radius)


def _window(center_xy: XY, reach: float, size: Size) -> Box | None:
    x, y = center_xy
    box = Box.from_xyxy([x - reach, y - reach, x + reach + 1, y + reach + 1]).clipped(Box.of_size(size))
    return None if box.is_empty else box


def _local(window: Box, center_xy: XY, angle: float) -> tuple[Floats, Floats]:
    """Coordinates along and across `angle`, from the centre, of each pixel of `window`."""
    x = np.arange(window.x0, window.x1, dtype=np.float32)[None] - np.float32(center_xy[0])
    y = np.arange(window.y0, window.y1, dtype=np.float32)[:, None] - np.float32(center_xy[1])
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _clipped(stamp: Stamp, size: Size) -> Stamp | None:
    box = stamp.box.clipped(Box.of_size(size))
    if box.is_empty:
        return None
    return Stamp(box, stamp.level[box.shifted(-stamp.box.x0, -stamp.box.y0).slices], stamp.radius)
