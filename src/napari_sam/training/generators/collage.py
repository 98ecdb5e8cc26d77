"""Shapes of every kind cut from textures and laid over one another: what is true of objects in any photograph."""

from __future__ import annotations

import numpy as np

from napari_sam.training.generators.optics import blurred, eight_bits, photographed, uneven_light
from napari_sam.training.generators.scene import GeneratedImage, Scene, is_empty, log_uniform, mix
from napari_sam.training.generators.shapes import XY, Floats, Size, Stamp, blob, curve, lens, polygon, rectangle, tube
from napari_sam.training.generators.textures import fibres, fractal_noise, network, smooth_noise

N_TEXTURES = 5


def collage(rng: np.random.Generator, size: Size) -> GeneratedImage:
    """Textured shapes of very different size that hide parts of each other, with shadows, on a textured ground."""
    scene = Scene(size)
    textures = [_texture(rng, size) for _ in range(N_TEXTURES)]
    image = _painted(rng, textures, slice(None), slice(None)).copy()
    if not is_empty(rng):
        n = int(log_uniform(rng, 5, 60))
        largest = min(size) / 3
        radii = np.sort([log_uniform(rng, min(6.0, largest), largest) for _ in range(n)])[::-1]
        for radius in radii:
            _add_shape(rng, scene, image, textures, float(radius))
    image = blurred(image, rng.uniform(0.3, 1.2))
    lit = np.clip(uneven_light(rng, image, rng.uniform(0, 0.3)), 0, 1)
    recorded = photographed(rng, lit, photons=log_uniform(rng, 150, 8000), read_noise=0.005)
    if rng.random() < 0.25:
        recorded = recorded.mean(axis=2)
    return GeneratedImage(eight_bits(rng, recorded, inverted=0.0), scene.finished(30), "collage")


def _texture(rng: np.random.Generator, size: Size) -> Floats:
    """A gray texture around 0: smooth, rough, striped, veined or plain."""
    scale = log_uniform(rng, 3, 40)
    kind = rng.choice(["smooth", "rough", "stripes", "veins", "plain"])
    if kind == "smooth":
        return smooth_noise(rng, size, 2 * scale)
    if kind == "rough":
        return fractal_noise(rng, size, scale, octaves=4, persistence=0.8)
    if kind == "stripes":
        return fibres(rng, size, scale, angle=rng.uniform(0, np.pi), waviness=rng.uniform(0, 1.5))
    if kind == "veins":
        return network(rng, size, max(8.0, scale))
    return np.float32(0.1) * smooth_noise(rng, size, 4)


def _painted(rng: np.random.Generator, textures: list[Floats], rows: slice, columns: slice) -> Floats:
    """A piece of one texture that passes between two colours; (h, w, 3)."""
    texture = textures[rng.integers(len(textures))]
    turned = texture[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])][rows, columns]
    first = rng.uniform(0.05, 0.95, 3).astype(np.float32)
    second = np.clip(first + rng.normal(0, rng.uniform(0.05, 0.35), 3), 0, 1).astype(np.float32)
    share = 1 / (1 + np.exp(-np.float32(rng.uniform(0.5, 3)) * turned))[..., None]
    painted: Floats = first * share + second * (1 - share)
    return painted


def _add_shape(rng: np.random.Generator, scene: Scene, image: Floats, textures: list[Floats], radius: float) -> None:
    size = (image.shape[0], image.shape[1])
    center = (float(rng.uniform(0, size[1])), float(rng.uniform(0, size[0])))
    stamp = _shape(rng, center, radius, size)
    if stamp is None or scene.on_top(stamp) is None:
        return
    if rng.random() < 0.5:  # a soft dark edge around it, as of a thing that lies on another
        outside = np.exp(-(np.clip((stamp.level - 1) * stamp.radius, 0, None) / max(1.5, 0.05 * radius)))
        mix(image, stamp, 0.0, (rng.uniform(0.1, 0.5) * outside).astype(np.float32))
    paint = _painted(rng, textures, *stamp.box.slices)
    relief = 1 + np.float32(rng.uniform(-0.4, 0.2)) * np.clip(stamp.level, 0, 1) ** 2
    mix(image, stamp, paint * relief[..., None], stamp.soft(rng.uniform(0.8, 1.6)))


def _shape(rng: np.random.Generator, center: XY, radius: float, size: Size) -> Stamp | None:
    kind = rng.choice(["blob", "polygon", "rectangle", "leaf", "tube"], p=[0.35, 0.25, 0.15, 0.1, 0.15])
    angle = rng.uniform(0, np.pi)
    if kind == "blob":
        rough = rng.uniform(0, 0.25)
        return blob(rng, center, radius, size, aspect=rng.uniform(1, 2.5), angle=angle, roughness=rough, lobes=7)
    if kind == "polygon":
        return polygon(rng, center, radius, size, corners=int(rng.integers(3, 9)), aspect=rng.uniform(1, 2))
    if kind == "rectangle":
        return rectangle(center, (radius * rng.uniform(0.8, 1.8), radius * rng.uniform(0.4, 0.8)), angle, size)
    if kind == "leaf":
        return lens(center, 2 * radius, radius * rng.uniform(0.5, 1.2), angle, size)
    width = max(2.0, radius * rng.uniform(0.15, 0.4))
    line = curve(rng, center, 2.5 * radius, angle, 1.2, max(1.0, width * 0.2))
    return tube(line, np.full(len(line), width), size)
