"""Particles and grains: powder in an electron microscope, pebbles, crystals, polished metal."""

from __future__ import annotations

import numpy as np

from napari_sam.training.generators.optics import blurred, eight_bits, photographed, uneven_light
from napari_sam.training.generators.scene import (
    GeneratedImage,
    Scene,
    connected_labels,
    is_empty,
    log_uniform,
    mix,
    object_radius,
    places,
)
from napari_sam.training.generators.shapes import XY, Floats, Size, Stamp, blob, polygon
from napari_sam.training.generators.textures import cells, fractal_noise, network


def particles(rng: np.random.Generator, size: Size) -> GeneratedImage:
    """Shaded bodies on a textured ground that hide each other: what is in front is larger and brighter."""
    scene = Scene(size)
    ground = np.float32(rng.uniform(0.03, 0.35))
    image = ground * (1 + np.float32(rng.uniform(0.03, 0.2)) * fractal_noise(rng, size, rng.uniform(8, 60), octaves=5))
    if not is_empty(rng):
        _add_particles(rng, scene, image, float(ground))
    image = blurred(image, rng.uniform(0.3, 1.0))
    recorded = photographed(rng, uneven_light(rng, image, rng.uniform(0, 0.2)), photons=log_uniform(rng, 80, 3000))
    return GeneratedImage(eight_bits(rng, recorded, inverted=0.05), scene.finished(20), "particles")


def _add_particles(rng: np.random.Generator, scene: Scene, image: Floats, ground: float) -> None:
    size = (image.shape[0], image.shape[1])
    radius = object_radius(rng, size, 8, 70)
    surface = network(rng, size, radius * rng.uniform(0.15, 0.4)) + fractal_noise(rng, size, radius * 0.4)
    light = _Light(rng)
    spread, angular = rng.uniform(0.15, 0.7), rng.choice([0.0, 0.1, 1.0], p=[0.6, 0.25, 0.15])
    centers = places(rng, size, radius, log_uniform(rng, 0.12, 0.95))
    radii = np.sort(radius * np.exp(rng.normal(0, spread, len(centers))))
    for depth, (center, own) in enumerate(zip(centers, radii.tolist(), strict=True)):
        nearness = (depth + 1) / len(centers)
        stamp = _particle(rng, center, min(own, 0.4 * min(size)), size, is_angular=bool(rng.random() < angular))
        if scene.on_top(stamp) is None or stamp is None:
            continue
        tone = max(ground + 0.12, rng.uniform(0.25, 0.45) + 0.25 * nearness)
        shade = light.on(stamp, center) * (1 + light.grain * surface[stamp.box.slices])
        mix(image, stamp, np.maximum(tone * shade, 0.02), stamp.soft(1.2))


def _particle(rng: np.random.Generator, center: XY, radius: float, size: Size, *, is_angular: bool) -> Stamp | None:
    if is_angular:
        return polygon(rng, center, radius, size, corners=int(rng.integers(4, 9)), aspect=rng.uniform(1, 1.8))
    aspect, rough = 1 + abs(rng.normal(0, 0.2)), rng.uniform(0.0, 0.08)
    return blob(rng, center, radius, size, aspect=aspect, angle=rng.uniform(0, np.pi), roughness=rough)


class _Light:
    """How surfaces are lit in one image: from where, how bright edges are, how rough surfaces look."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.direction = rng.uniform(0, 2 * np.pi)
        self.side = rng.uniform(0.0, 0.45)
        # Electrons brighten the edges of a body, lamps darken them.
        self.edge = rng.uniform(0.2, 0.9) if rng.random() < 0.5 else rng.uniform(-0.5, 0.0)
        self.grain = np.float32(rng.uniform(0.02, 0.14))

    def on(self, stamp: Stamp, center: XY) -> Floats:
        """Brightness of each pixel of the window, about 1 in the middle."""
        x = np.arange(stamp.box.x0, stamp.box.x1, dtype=np.float32)[None] - np.float32(center[0])
        y = np.arange(stamp.box.y0, stamp.box.y1, dtype=np.float32)[:, None] - np.float32(center[1])
        lean = (x * np.cos(self.direction) + y * np.sin(self.direction)) / stamp.radius
        lit = 1 + self.side * np.clip(lean, -1.5, 1.5) + self.edge * np.clip(stamp.level, 0, 1) ** 5
        brightness: Floats = np.maximum(lit, 0.1).astype(np.float32)
        return brightness


def polished_grains(rng: np.random.Generator, size: Size) -> GeneratedImage:
    """A polished and etched section: grains of different gray, divided by thin lines or by their gray alone."""
    spacing = log_uniform(rng, 14, max(14.0, min(120, min(size) / 3)))
    ids, distance = cells(rng, size, spacing, warp=rng.uniform(0.0, 0.15))
    shades = rng.uniform(0.25, 0.85, int(ids.max()) + 1).astype(np.float32)
    flat = is_empty(rng)
    image = np.full(size, 0.5, dtype=np.float32) if flat else shades[ids]
    image += np.float32(rng.uniform(0.01, 0.06)) * fractal_noise(rng, size, rng.uniform(3, 30))
    labels = np.zeros(size, dtype=np.int32) if flat else connected_labels(ids, 20)
    if not flat:
        line = np.exp(-((distance / np.float32(rng.uniform(0.6, 1.6))) ** 2))
        image += np.float32(rng.choice([-0.45, -0.25, 0.3])) * line
    image = blurred(image, rng.uniform(0.3, 1.0))
    recorded = photographed(rng, uneven_light(rng, image, rng.uniform(0, 0.15)), photons=log_uniform(rng, 150, 5000))
    return GeneratedImage(eight_bits(rng, recorded), labels, "polished_grains")
