"""Bacteria: rods, chains of rods, cocci and filaments, fluorescent or dark in phase contrast."""

from __future__ import annotations

import math

import numpy as np

from napari_sam.training.generators.optics import blurred, eight_bits, photographed, uneven_light
from napari_sam.training.generators.scene import GeneratedImage, Scene, add_light, is_empty, log_uniform, places
from napari_sam.training.generators.shapes import XY, Floats, Size, Stamp, curve, tube
from napari_sam.training.generators.textures import smooth_noise


def bacteria(rng: np.random.Generator, size: Size) -> GeneratedImage:
    """Rods of 4 to 18 px width, lone or in colonies where they lie side by side; sometimes long filaments."""
    scene, light = Scene(size), np.zeros(size, dtype=np.float32)
    width = log_uniform(rng, 4, min(18, min(size) / 10))
    if not is_empty(rng):
        _add_rods(rng, scene, light, width)
    dark = rng.random() < 0.45
    light = blurred(light, rng.uniform(0.5, max(0.6, width * 0.14)))
    image = _phase_image(rng, light, width) if dark else _glow_image(rng, light, width)
    photons = log_uniform(rng, 200, 5000) if dark else None
    recorded = photographed(rng, uneven_light(rng, image, rng.uniform(0, 0.25)), photons=photons)
    return GeneratedImage(eight_bits(rng, recorded, inverted=0.06), scene.finished(), "bacteria")


def _glow_image(rng: np.random.Generator, light: Floats, width: float) -> Floats:
    glow = np.float32(rng.uniform(0.02, 0.2)) * blurred(light, 2 * width)
    return light * np.float32(rng.uniform(0.5, 0.85)) + glow + np.float32(rng.uniform(0, 0.1))


def _phase_image(rng: np.random.Generator, light: Floats, width: float) -> Floats:
    halo = np.float32(rng.uniform(0.05, 0.4)) * np.clip(blurred(light, 0.5 * width) - light, 0, None)
    clouds = np.float32(0.015) * smooth_noise(rng, (light.shape[0], light.shape[1]), 20)
    image = np.float32(rng.uniform(0.45, 0.7)) + clouds + halo - np.float32(rng.uniform(0.25, 0.5)) * light
    clipped: Floats = np.clip(image, 0, 1)
    return clipped


def _add_rods(rng: np.random.Generator, scene: Scene, light: Floats, width: float) -> None:
    size = (light.shape[0], light.shape[1])
    length = width * log_uniform(rng, 1.0, 7)
    variety, along = rng.uniform(0.02, 0.4), rng.uniform(0, np.pi)
    disorder, bend, long_ones = rng.uniform(0.05, 2.0), rng.uniform(0.0, 0.6), rng.choice([0, 0, 0.05, 0.4])
    reach = max(width / 2, math.sqrt(width * length / math.pi))
    for center in places(rng, size, reach, log_uniform(rng, 0.04, 0.7)):
        is_filament = rng.random() < long_ones
        own = length * (rng.uniform(4, 10) if is_filament else float(np.exp(rng.normal(0, 0.3))))
        own = min(own, 0.8 * max(size))
        angle, turn = along + rng.normal(0, disorder), bend * (3 if is_filament else 1)
        line = curve(rng, center, max(own - width, 1.0), angle, turn, max(1.0, width / 6))
        for piece in _divided(rng, line, width):
            _add_rod(rng, scene, light, piece, width, variety)


def _divided(rng: np.random.Generator, line: np.ndarray, width: float) -> list[np.ndarray]:
    """The line as it is, or cut in two at a new wall between daughter cells."""
    gap = math.ceil(width / 2 / max(1.0, width / 6))
    middle = len(line) // 2
    if len(line) < 6 * gap or rng.random() > 0.3:
        return [line]
    return [line[: middle - gap], line[middle + gap :]]


def _add_rod(
    rng: np.random.Generator, scene: Scene, light: Floats, line: np.ndarray, width: float, variety: float
) -> None:
    half = np.full(len(line), width / 2 * rng.uniform(0.85, 1.15))
    stamp = tube(line, half, (light.shape[0], light.shape[1]))
    visible = scene.beside(stamp, hidden=0.1)
    if stamp is None or visible is None:
        return
    strength = float(np.exp(rng.normal(0, variety) - variety**2))
    body = stamp.soft(1.2) * (0.5 + 0.5 * stamp.dome())
    add_light(light, stamp, (strength * body * np.where(stamp.mask & ~visible, 0.2, 1.0)).astype(np.float32))
    if rng.random() < 0.25:
        _add_spot(rng, light, stamp, line)


def _add_spot(rng: np.random.Generator, light: Floats, stamp: Stamp, line: np.ndarray) -> None:
    """A brighter or darker body inside: a chromosome, a pole, a vacuole."""
    middle: XY = tuple(line[rng.integers(len(line))])
    spot = tube(np.array([middle]), np.array([max(1.0, stamp.radius * 0.6)]), (light.shape[0], light.shape[1]))
    if spot is not None:
        add_light(light, spot, (rng.choice([-0.3, 0.3, 0.6]) * spot.soft(2.0)).astype(np.float32))
