"""What all generators share: where objects go, which pixels are whose, and the finished image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage import measure

from napari_sam.training.generators.shapes import XY, Floats, Size, Stamp

EMPTY_SHARE = 0.03
"""Share of images without any object: a network has to see those too."""
MOST_OBJECTS = 500
"""Objects tried in a 512 x 512 image; larger images get more in proportion."""
FEWEST_OBJECTS = 4
"""Objects tried in an image that is not meant to be empty."""
LEAST_AREA_PX = 12
"""Objects with fewer visible pixels are left out of the labels."""


@dataclass(frozen=True, slots=True, eq=False)
class GeneratedImage:
    """An image made by rule, and exactly what is where in it."""

    image: NDArray[np.uint8]
    """(H, W) or (H, W, 3)."""
    labels: NDArray[np.int32]
    """(H, W); 0 is background, objects are 1..N, each one connected region (4 neighbours)."""
    kind: str
    """Name of its generator."""


class Scene:
    """Labels in the making: decides whose pixels are whose."""

    def __init__(self, size: Size) -> None:
        self.labels = np.zeros(size, dtype=np.int32)
        self.count = 0

    def beside(self, stamp: Stamp | None, *, hidden: float = 0.15) -> NDArray[np.bool_] | None:
        """Put an object next to those that are there; its pixels, or None if more than `hidden` of it is taken."""
        if stamp is None:
            return None
        mask = stamp.mask
        visible = mask & (self.labels[stamp.box.slices] == 0)
        if visible.sum() < max(1.0, (1 - hidden) * mask.sum()):
            return None
        return self._take(stamp, visible)

    def on_top(self, stamp: Stamp | None) -> NDArray[np.bool_] | None:
        """Put an object over those that are there; its pixels, or None if it lies outside."""
        if stamp is None or not stamp.mask.any():
            return None
        return self._take(stamp, stamp.mask)

    def finished(self, least_area_px: int = LEAST_AREA_PX) -> NDArray[np.int32]:
        """Labels 1..N, each one connected region; pieces cut apart by what lies over them are objects of their own."""
        return connected_labels(self.labels, least_area_px)

    def _take(self, stamp: Stamp, pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        self.count += 1
        self.labels[stamp.box.slices][pixels] = self.count
        return pixels


def connected_labels(labels: NDArray[np.int32], least_area_px: int = LEAST_AREA_PX) -> NDArray[np.int32]:
    """Each connected region of equal label (4 neighbours) as a label of its own, small ones as background; 1..N."""
    pieces = measure.label(labels, background=0, connectivity=1)
    areas = np.bincount(pieces.ravel())
    areas[0] = 0
    kept = areas >= least_area_px
    new = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    relabelled: NDArray[np.int32] = new[pieces]
    return relabelled


def is_empty(rng: np.random.Generator) -> bool:
    """Whether this image shall hold no object."""
    return bool(rng.random() < EMPTY_SHARE)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between `low` and `high` whose magnitude is evenly spread."""
    return float(np.exp(rng.uniform(math.log(low), math.log(max(low, high)))))


def object_radius(rng: np.random.Generator, size: Size, low: float, high: float) -> float:
    """A typical radius for an image, at most a fifth of its shorter side."""
    return log_uniform(rng, low, max(low, min(high, min(size) / 5)))


def places(rng: np.random.Generator, size: Size, radius: float, coverage: float) -> list[XY]:
    """Centres of objects that together cover about `coverage` of the image: scattered, in clumps, or packed.

    Some lie outside by up to a radius, so that the image's edge cuts objects as it does in real images.
    """
    height, width = size
    most = max(1, round(MOST_OBJECTS * height * width / 512**2))
    n = int(min(most, max(FEWEST_OBJECTS, round(coverage * height * width / (math.pi * radius**2)))))
    layout = rng.choice(["scattered", "clumped", "packed"], p=[0.45, 0.35, 0.2])
    if layout == "packed":
        points = _packed(rng, size, radius)[:n]
    elif layout == "clumped":
        points = _clumped(rng, size, radius, n)
    else:
        points = rng.uniform(-radius, np.array([width, height]) + radius, (n, 2))
    return [(float(x), float(y)) for x, y in points]


def _packed(rng: np.random.Generator, size: Size, radius: float) -> NDArray[np.float64]:
    """A shaken hexagonal grid that starts anywhere, nearest to its start first: one dense patch."""
    step = 2.05 * radius
    rows, columns = np.arange(0, size[0] + step, step * 0.87), np.arange(0, size[1] + step, step)
    x, y = np.meshgrid(columns, rows)
    x[1::2] += step / 2
    points = np.stack([x.ravel(), y.ravel()], axis=1) + rng.normal(0, radius * 0.12, (x.size, 2))
    start = rng.uniform(0, 1, 2) * [size[1], size[0]]
    order = np.argsort(((points - start) ** 2).sum(axis=1))
    packed: NDArray[np.float64] = points[order]
    return packed


def _clumped(rng: np.random.Generator, size: Size, radius: float, n: int) -> NDArray[np.float64]:
    n_clumps = max(1, n // int(rng.integers(3, 12)))
    centres = rng.uniform(0, 1, (n_clumps, 2)) * [size[1], size[0]]
    spread = radius * rng.uniform(1.2, 3.5)
    clumped: NDArray[np.float64] = centres[rng.integers(0, n_clumps, n)] + rng.normal(0, spread, (n, 2))
    return clumped


def add_light(image: Floats, stamp: Stamp, light: Floats) -> None:
    """Add `light`, an array of the stamp's window, to `image` in place."""
    image[stamp.box.slices] += light


def mix(image: Floats, stamp: Stamp, colour: Floats | float, cover: Floats) -> None:
    """Lay `colour` over `image` (H, W) or (H, W, 3) in place, as far as `cover` in [0, 1] hides what is below."""
    window = image[stamp.box.slices]
    share = cover[..., None] if image.ndim == 3 else cover
    window += share * (colour - window)
