"""Views from above, in colour: fields, trees and roofs, and leaves on the ground."""

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
from napari_sam.training.generators.shapes import XY, Floats, Size, Stamp, blob, lens, rectangle
from napari_sam.training.generators.textures import cells, fibres, fractal_noise

SOIL = np.array([[0.45, 0.36, 0.26], [0.62, 0.55, 0.42], [0.35, 0.38, 0.24], [0.55, 0.56, 0.54]], dtype=np.float32)
CROPS = np.array(
    [[0.30, 0.42, 0.18], [0.55, 0.60, 0.28], [0.72, 0.66, 0.40], [0.42, 0.33, 0.22], [0.22, 0.33, 0.16]],
    dtype=np.float32,
)
TREES = np.array([[0.16, 0.28, 0.12], [0.25, 0.38, 0.16], [0.33, 0.40, 0.20], [0.40, 0.30, 0.14]], dtype=np.float32)
ROOFS = np.array(
    [[0.65, 0.35, 0.26], [0.72, 0.72, 0.70], [0.40, 0.40, 0.43], [0.55, 0.45, 0.38], [0.85, 0.84, 0.80]],
    dtype=np.float32,
)
LEAVES = np.array(
    [[0.32, 0.50, 0.18], [0.70, 0.55, 0.16], [0.62, 0.30, 0.12], [0.45, 0.28, 0.16], [0.20, 0.38, 0.15]],
    dtype=np.float32,
)
"""Reflected red, green and blue; each object is near one of them."""


def fields(rng: np.random.Generator, size: Size) -> GeneratedImage:
    """Farmland: plots with furrows, divided by tracks."""
    spacing = log_uniform(rng, 24, max(24.0, min(160, min(size) / 2.5)))
    ids, distance = cells(rng, size, spacing, warp=rng.uniform(0.0, 0.04), merge=rng.choice([0.0, 0.3]))
    track = rng.uniform(0.8, max(1.0, min(4.0, spacing * 0.04)))
    ground = _ground(rng, size)
    if is_empty(rng):
        return _photographed(rng, ground, np.zeros(size, dtype=np.int32), "fields")
    plots = (distance > track) & (rng.random(int(ids.max()) + 1) < rng.uniform(0.6, 1.0))[ids]
    colours = _near(rng, CROPS, int(ids.max()) + 1, 0.05)
    kinds = rng.integers(0, 3, int(ids.max()) + 1)[ids]
    surfaces = [
        fibres(rng, size, rng.uniform(3, 9), angle=rng.uniform(0, np.pi), waviness=0.15),
        fibres(rng, size, rng.uniform(4, 14), angle=rng.uniform(0, np.pi), waviness=0.3),
        fractal_noise(rng, size, spacing / 3, octaves=5),
    ]
    relief = np.choose(kinds, surfaces) * np.float32(rng.uniform(0.03, 0.13))
    image = np.where(plots[..., None], colours[ids] * (1 + relief[..., None]), ground)
    labels = connected_labels(np.where(plots, ids, 0).astype(np.int32), 30)
    return _photographed(rng, image, labels, "fields")


def trees_and_roofs(rng: np.random.Generator, size: Size) -> GeneratedImage:
    """Tree crowns and buildings with shadows on grass, soil or asphalt."""
    scene, image = Scene(size), _ground(rng, size)
    if not is_empty(rng):
        radius = object_radius(rng, size, 7, 45)
        leafage = fractal_noise(rng, size, radius * 0.6, octaves=4, persistence=0.8)
        shadow = rng.uniform(-0.6, 0.6, 2) * radius
        roofs = rng.choice([0.0, 0.3, 0.8])
        along = rng.uniform(0, np.pi)
        for center in places(rng, size, radius, log_uniform(rng, 0.06, 0.65)):
            own = radius * float(np.exp(rng.normal(0, 0.25)))
            if rng.random() < roofs:
                _add_roof(rng, scene, image, center, own, along, shadow)
            else:
                _add_tree(rng, scene, image, center, own, leafage, shadow)
    return _photographed(rng, image, scene.finished(20), "trees_and_roofs")


def leaves(rng: np.random.Generator, size: Size) -> GeneratedImage:
    """Leaves strewn on soil or paper, over one another, with a midrib each."""
    scene = Scene(size)
    pale = rng.random() < 0.35
    image = _ground(rng, size) * np.float32(0.15) + np.float32(0.8) if pale else _ground(rng, size)
    if not is_empty(rng):
        radius = object_radius(rng, size, 10, 70)
        surface = fractal_noise(rng, size, radius * 0.5, octaves=4)
        slender, shadow = rng.uniform(0.3, 0.8), rng.uniform(-0.12, 0.12, 2) * radius
        for center in places(rng, size, radius, log_uniform(rng, 0.08, 0.8)):
            own = 2 * radius * float(np.exp(rng.normal(0, 0.25)))
            _add_leaf(rng, scene, image, center, own, slender, surface, shadow)
    return _photographed(rng, image, scene.finished(20), "leaves")


def _photographed(rng: np.random.Generator, image: Floats, labels: np.ndarray, kind: str) -> GeneratedImage:
    image = blurred(image.astype(np.float32), rng.uniform(0.3, 1.1))
    lit = uneven_light(rng, image * np.float32(rng.uniform(0.8, 1.25)), rng.uniform(0, 0.15))
    recorded = photographed(rng, lit, photons=log_uniform(rng, 400, 10_000), read_noise=0.004)
    return GeneratedImage(eight_bits(rng, np.clip(recorded, 0, 1), inverted=0.0), labels, kind)


def _ground(rng: np.random.Generator, size: Size) -> Floats:
    """Two soils that pass into one another, with grain."""
    colours = _near(rng, SOIL, 2, 0.05)
    patches = np.clip(0.5 + fractal_noise(rng, size, max(size) / rng.uniform(2, 10), octaves=5), 0, 1)[..., None]
    grain = 1 + np.float32(rng.uniform(0.03, 0.15)) * fractal_noise(rng, size, rng.uniform(3, 15), octaves=3)
    ground: Floats = (colours[0] * patches + colours[1] * (1 - patches)) * grain[..., None]
    return ground


def _near(rng: np.random.Generator, palette: Floats, n: int, spread: float) -> Floats:
    """`n` colours, each near one of `palette`; (n, 3)."""
    chosen = palette[rng.integers(0, len(palette), n)] * rng.uniform(0.75, 1.25, (n, 1))
    return np.clip(chosen + rng.normal(0, spread, (n, 3)), 0.02, 1).astype(np.float32)


def _moved(center: XY, offset: np.ndarray) -> XY:
    return center[0] + float(offset[0]), center[1] + float(offset[1])


def _cast_shadow(scene: Scene, image: Floats, stamp: Stamp | None) -> None:
    """Darken the ground, not the objects that are there already."""
    if stamp is not None:
        on_ground = scene.labels[stamp.box.slices] == 0
        mix(image, stamp, 0.05, (0.55 * stamp.soft(2.0) * on_ground).astype(np.float32))


def _add_tree(
    rng: np.random.Generator,
    scene: Scene,
    image: Floats,
    center: XY,
    radius: float,
    leafage: Floats,
    shadow: np.ndarray,
) -> None:
    size = (image.shape[0], image.shape[1])
    aspect, rough, angle = rng.uniform(1, 1.3), rng.uniform(0.05, 0.2), rng.uniform(0, np.pi)
    crown = blob(rng, center, radius, size, aspect=aspect, angle=angle, roughness=rough, lobes=9)
    visible = scene.beside(crown, hidden=0.3)
    if crown is None or visible is None:
        return
    _cast_shadow(
        scene, image, blob(rng, _moved(center, shadow), radius, size, aspect=aspect, angle=angle, roughness=rough)
    )
    relief = (0.7 + 0.6 * crown.dome()) * np.maximum(1 + 0.28 * leafage[crown.box.slices], 0.2)
    colour = _near(rng, TREES, 1, 0.03) * relief[..., None].astype(np.float32)
    mix(image, crown, colour, crown.soft(1.5) * np.where(crown.mask & ~visible, 0, 1).astype(np.float32))


def _add_roof(
    rng: np.random.Generator, scene: Scene, image: Floats, center: XY, radius: float, along: float, shadow: np.ndarray
) -> None:
    size = (image.shape[0], image.shape[1])
    angle, sides = (
        along + rng.choice([0, np.pi / 2]) + rng.normal(0, 0.05),
        (radius * rng.uniform(0.8, 1.8), radius * 0.8),
    )
    roof = rectangle(center, sides, angle, size)
    if roof is None or scene.beside(roof, hidden=0.0) is None:
        return
    _cast_shadow(scene, image, rectangle(_moved(center, shadow * 0.6), sides, angle, size))
    y, x = np.ogrid[roof.box.y0 : roof.box.y1, roof.box.x0 : roof.box.x1]
    across = (y - center[1]) * np.cos(angle) - (x - center[0]) * np.sin(angle)
    slope = np.where(across > 0, 1 + rng.uniform(0, 0.25), 1.0).astype(np.float32)
    rows = 1 + 0.04 * np.sin(across * 2 * np.pi / rng.uniform(3, 7)).astype(np.float32)
    colour = _near(rng, ROOFS, 1, 0.03) * (slope * rows)[..., None]
    mix(image, roof, colour, roof.soft(1.0))


def _add_leaf(
    rng: np.random.Generator,
    scene: Scene,
    image: Floats,
    center: XY,
    length: float,
    slender: float,
    surface: Floats,
    shadow: np.ndarray,
) -> None:
    size = (image.shape[0], image.shape[1])
    angle, width = rng.uniform(0, 2 * np.pi), length * slender * rng.uniform(0.8, 1.2)
    leaf = lens(center, length, width, angle, size)
    if leaf is None:
        return
    shade = lens(_moved(center, shadow), length, width, angle, size)
    if shade is not None:
        mix(image, shade, 0.05, 0.4 * shade.soft(4.0))
    if scene.on_top(leaf) is None:
        return
    rib = np.exp(-((leaf.level * leaf.radius / max(0.8, length * 0.012)) ** 2))
    tone = np.maximum(1 + 0.12 * surface[leaf.box.slices] + 0.3 * rib, 0.3).astype(np.float32)
    mix(image, leaf, _near(rng, LEAVES, 1, 0.04) * tone[..., None], leaf.soft(1.2))
