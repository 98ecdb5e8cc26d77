"""Cells that fill the image, divided by membranes: dark lines as in electron microscopy, or bright stained ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sam.training.generators.optics import blurred, eight_bits, photographed, uneven_light
from napari_sam.training.generators.scene import (
    GeneratedImage,
    connected_labels,
    is_empty,
    log_uniform,
    mix,
    places,
)
from napari_sam.training.generators.shapes import Floats, Size, blob
from napari_sam.training.generators.textures import cells, fractal_noise, smooth_noise


def membranes(rng: np.random.Generator, size: Size) -> GeneratedImage:
    """A sheet of cells; labels are the cells without their membranes. An empty image shows resin only."""
    if is_empty(rng):
        ground = np.float32(rng.uniform(0.3, 0.8)) + np.float32(0.03) * fractal_noise(rng, size, 20)
        return GeneratedImage(eight_bits(rng, photographed(rng, ground)), np.zeros(size, dtype=np.int32), "membranes")
    spacing = log_uniform(rng, 16, max(16.0, min(110, min(size) / 3)))
    ids, distance = cells(rng, size, spacing, warp=rng.uniform(0.05, 0.35), merge=rng.choice([0.0, 0.25]))
    half = rng.uniform(0.8, max(1.0, min(3.0, spacing * 0.06)))
    tissue = _tissue(rng, size, spacing)
    labels = connected_labels(np.where((distance > half) & tissue, ids, 0).astype(np.int32), 20)
    wall = np.exp(-((distance / np.float32(half * 1.1)) ** 2)) * (1 + 0.25 * smooth_noise(rng, size, spacing / 2))
    dark = rng.random() < 0.6
    image = (
        _electron_image(rng, ids, wall, tissue, spacing) if dark else _stained_image(rng, ids, wall, tissue, spacing)
    )
    image = blurred(image, rng.uniform(0.5, 1.4))
    recorded = photographed(rng, uneven_light(rng, image, rng.uniform(0, 0.2)), photons=log_uniform(rng, 60, 3000))
    return GeneratedImage(eight_bits(rng, recorded, inverted=0.05), labels, "membranes")


def _tissue(rng: np.random.Generator, size: Size, spacing: float) -> NDArray[np.bool_]:
    """Where there are cells: everywhere, or with empty regions between."""
    if rng.random() < 0.6:
        return np.ones(size, dtype=bool)
    return fractal_noise(rng, size, 5 * spacing, octaves=3, persistence=0.4) < rng.uniform(0.2, 1.2)


def _shades(rng: np.random.Generator, ids: NDArray[np.int32], variety: float) -> Floats:
    """A gray of its own for each cell, mean 0."""
    return rng.normal(0, variety, int(ids.max()) + 1).astype(np.float32)[ids]


def _electron_image(
    rng: np.random.Generator, ids: NDArray[np.int32], wall: Floats, tissue: NDArray[np.bool_], spacing: float
) -> Floats:
    size = (ids.shape[0], ids.shape[1])
    grain = fractal_noise(rng, size, rng.uniform(3, 9), octaves=2, persistence=0.8)
    image = np.float32(rng.uniform(0.5, 0.75)) + np.float32(rng.uniform(0.02, 0.08)) * grain
    image += _shades(rng, ids, rng.uniform(0.01, 0.08))
    _add_organelles(rng, image, spacing)
    image *= 1 - np.float32(rng.uniform(0.45, 0.85)) * np.clip(wall, 0, 1)
    resin = np.float32(rng.uniform(0.75, 0.95)) + np.float32(0.02) * grain
    return np.where(tissue, np.clip(image, 0, 1), resin)


def _stained_image(
    rng: np.random.Generator, ids: NDArray[np.int32], wall: Floats, tissue: NDArray[np.bool_], spacing: float
) -> Floats:
    size = (ids.shape[0], ids.shape[1])
    body = np.float32(rng.uniform(0.0, 0.2)) * np.clip(1 + _shades(rng, ids, 0.4), 0, None)
    body *= np.clip(1 + np.float32(0.3) * fractal_noise(rng, size, spacing / 3), 0, None)
    image = body + np.float32(rng.uniform(0.4, 0.9)) * np.clip(wall, 0, None) + np.float32(rng.uniform(0, 0.08))
    return np.where(tissue, image, np.float32(rng.uniform(0.0, 0.06)))


def _add_organelles(rng: np.random.Generator, image: Floats, spacing: float) -> None:
    """Small dark bodies inside the cells, which are no objects here: only walls divide."""
    size = (image.shape[0], image.shape[1])
    radius = max(1.5, spacing * rng.uniform(0.04, 0.1))
    shade = rng.uniform(0.25, 0.45)
    for center in places(rng, size, radius * 1.5, log_uniform(rng, 0.002, 0.06)):
        own, aspect = radius * rng.uniform(0.6, 1.4), rng.uniform(1, 3)
        body = blob(rng, center, own, size, aspect=aspect, angle=rng.uniform(0, np.pi), roughness=0.08)
        if body is not None:
            mix(image, body, shade, 0.75 * body.soft(1.5))
