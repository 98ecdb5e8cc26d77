"""Fluorescent nuclei: bright on dark, alone, touching or in clumps, some dividing."""

from __future__ import annotations

import math

import numpy as np

from napari_sam.training.generators.optics import blurred, eight_bits, photographed, uneven_light
from napari_sam.training.generators.scene import (
    GeneratedImage,
    Scene,
    add_light,
    is_empty,
    log_uniform,
    object_radius,
    places,
)
from napari_sam.training.generators.shapes import XY, Floats, Size, Stamp, blob
from napari_sam.training.generators.textures import fractal_noise, smooth_noise


def fluorescent_nuclei(rng: np.random.Generator, size: Size) -> GeneratedImage:
    """Nuclei as a fluorescence microscope shows them; radius 4 to 40 px, brightness up to many times different."""
    scene, light = Scene(size), np.zeros(size, dtype=np.float32)
    radius = object_radius(rng, size, 4, 40)
    if not is_empty(rng):
        _add_nuclei(rng, scene, light, radius)
    light = blurred(light, rng.uniform(0.4, max(0.5, min(2.5, radius * 0.12))))
    light += _haze(rng, light, radius)
    recorded = photographed(rng, uneven_light(rng, light, rng.uniform(0, 0.35)))
    return GeneratedImage(eight_bits(rng, recorded, inverted=0.1), scene.finished(), "fluorescent_nuclei")


def _add_nuclei(rng: np.random.Generator, scene: Scene, light: Floats, radius: float) -> None:
    size = scene.labels.shape
    chromatin = fractal_noise(rng, size, max(3.0, radius * rng.uniform(0.3, 1.0)), octaves=3)
    contrast, variety = rng.uniform(0.02, 0.35), rng.uniform(0.05, 0.8)
    spread, aspect = rng.uniform(0.05, 0.35), rng.uniform(1.0, 1.9)
    roundness, edge, dividing = rng.uniform(0.0, 0.7), rng.uniform(0.8, 2.5), rng.uniform(0, 0.08)
    for center in places(rng, size, radius, log_uniform(rng, 0.04, 0.75)):
        strength = 0.6 * float(np.exp(rng.normal(0, variety) - variety**2 / 2))
        own = radius * float(np.exp(rng.normal(0, spread)))
        if rng.random() < dividing:
            stamps, strength = _dividing(rng, center, own, size), strength * 1.8
        else:
            shape = blob(
                rng,
                center,
                own,
                size,
                aspect=1 + abs(rng.normal(0, aspect - 1)),
                angle=rng.uniform(0, np.pi),
                roughness=rng.uniform(0.01, 0.14),
            )
            stamps = [shape]
        for stamp in stamps:
            visible = scene.beside(stamp)
            if stamp is None or visible is None:
                continue
            body = (1 - roundness) + roundness * stamp.dome()
            grain = 1 + contrast * chromatin[stamp.box.slices]
            # Where a neighbour is in front, its light is there; the two must not add up on its side.
            own_side = stamp.soft(edge) * np.where(stamp.mask & ~visible, 0.25, 1.0)
            add_light(light, stamp, (strength * own_side * body * np.maximum(grain, 0.1)).astype(np.float32))


def _dividing(rng: np.random.Generator, center: XY, radius: float, size: Size) -> list[Stamp | None]:
    """One metaphase plate, or the two plates of an anaphase: bright bars."""
    angle, bar = rng.uniform(0, np.pi), radius * 0.65
    if rng.random() < 0.5:
        offsets = [0.0]
    else:
        gap = radius * rng.uniform(0.7, 1.3)
        offsets = [-gap, gap]
    aspect = rng.uniform(2.0, 3.5)
    return [
        blob(
            rng,
            (center[0] - offset * math.sin(angle), center[1] + offset * math.cos(angle)),
            bar,
            size,
            aspect=aspect,
            angle=angle,
            roughness=0.1,
        )
        for offset in offsets
    ]


def _haze(rng: np.random.Generator, light: Floats, radius: float) -> Floats:
    """What is not in focus: the glow of cell bodies and nuclei far below, and the camera's offset."""
    size = light.shape
    glow = np.float32(rng.uniform(0, 0.15)) * blurred(light[::2, ::2], max(1.0, radius)).repeat(2, 0).repeat(2, 1)
    haze = np.float32(rng.uniform(0.0, 0.08)) + glow[: size[0], : size[1]]
    if rng.random() < 0.35:
        bodies = np.clip(smooth_noise(rng, (size[0], size[1]), 3 * radius) - 0.8, 0, None)
        haze = haze + np.float32(rng.uniform(0.01, 0.05)) * bodies
    return haze
