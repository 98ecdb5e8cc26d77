"""Gray transmitted light without phase contrast: dark nuclei in thin sheets of cell, and clear cells with dark rims."""

from __future__ import annotations

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
from napari_sam.training.generators.shapes import XY, Floats, Size, Stamp, blob, polygon
from napari_sam.training.generators.textures import fractal_noise, smooth_noise


def brightfield(rng: np.random.Generator, size: Size) -> GeneratedImage:
    """Either a smear, whose labels are the nuclei, or clear round cells, whose labels are the cells."""
    scene, absorbed = Scene(size), np.zeros(size, dtype=np.float32)
    if not is_empty(rng):
        draw = _add_smear if rng.random() < 0.5 else _add_clear_cells
        draw(rng, scene, absorbed)
    light = np.float32(rng.uniform(0.6, 0.85)) * np.exp(-absorbed)
    light += np.float32(rng.uniform(0.002, 0.015)) * smooth_noise(rng, size, rng.uniform(3, 40))
    light = blurred(light, rng.uniform(0.4, 1.2))
    recorded = photographed(rng, uneven_light(rng, light, rng.uniform(0, 0.2)), photons=log_uniform(rng, 400, 10_000))
    return GeneratedImage(eight_bits(rng, recorded, inverted=0.04), scene.finished(), "brightfield")


def _add_smear(rng: np.random.Generator, scene: Scene, absorbed: Floats) -> None:
    """Wide, folded, nearly transparent cells that overlap, each with one dark nucleus."""
    size = (absorbed.shape[0], absorbed.shape[1])
    radius = object_radius(rng, size, 5, 20)
    folds = fractal_noise(rng, size, radius * 2, octaves=4)
    thin, dark = rng.uniform(0.05, 0.35), rng.uniform(0.6, 1.6)
    for center in places(rng, size, radius * rng.uniform(2.0, 5.0), log_uniform(rng, 0.1, 1.0)):
        sheet = _sheet(rng, center, radius * rng.uniform(2.5, 5), size)
        if sheet is not None:
            cover = sheet.soft(2.0) * np.maximum(1 + 0.35 * folds[sheet.box.slices], 0)
            edge = np.exp(-(((sheet.level - 1) * sheet.radius / 2.5) ** 2)) * 0.4
            add_light(absorbed, sheet, (thin * (cover + edge)).astype(np.float32))
        _add_nucleus(rng, scene, absorbed, center, radius, dark, folds)


def _sheet(rng: np.random.Generator, center: XY, radius: float, size: Size) -> Stamp | None:
    if rng.random() < 0.4:
        return polygon(rng, center, radius, size, corners=int(rng.integers(5, 9)))
    return blob(
        rng, center, radius, size, aspect=rng.uniform(1, 1.6), angle=rng.uniform(0, np.pi), roughness=0.12, lobes=9
    )


def _add_nucleus(
    rng: np.random.Generator,
    scene: Scene,
    absorbed: Floats,
    center: XY,
    radius: float,
    dark: float,
    grain: Floats,
) -> None:
    size = (absorbed.shape[0], absorbed.shape[1])
    own, aspect = radius * float(np.exp(rng.normal(0, 0.2))), rng.uniform(1, 1.7)
    stamp = blob(rng, center, own, size, aspect=aspect, angle=rng.uniform(0, np.pi), roughness=0.06)
    if stamp is not None and scene.beside(stamp, hidden=0.1) is not None:
        depth = dark * rng.uniform(0.7, 1.2) * stamp.soft(1.5) * np.maximum(1 + 0.2 * grain[stamp.box.slices], 0.3)
        add_light(absorbed, stamp, depth.astype(np.float32))


def _add_clear_cells(rng: np.random.Generator, scene: Scene, absorbed: Floats) -> None:
    """Round cells that act as lenses: a dark rim, a bright ring beside it, a middle hardly darker than the ground."""
    size = (absorbed.shape[0], absorbed.shape[1])
    radius = object_radius(rng, size, 7, 40)
    rim, inner, width = rng.uniform(0.3, 1.0), rng.uniform(-0.12, 0.3), max(1.0, radius * rng.uniform(0.06, 0.16))
    aspect, rough, grain = rng.uniform(1.0, 1.6), rng.uniform(0.01, 0.06), fractal_noise(rng, size, radius * 0.5)
    for center in places(rng, size, radius, log_uniform(rng, 0.06, 0.75)):
        stamp = blob(
            rng,
            center,
            radius * float(np.exp(rng.normal(0, 0.2))),
            size,
            aspect=rng.uniform(1, aspect),
            angle=rng.uniform(0, np.pi),
            roughness=rough,
        )
        visible = scene.beside(stamp, hidden=0.06)
        if stamp is not None and visible is not None:
            _add_lens(rng, absorbed, stamp, visible, rim, inner, width, grain)


def _add_lens(
    rng: np.random.Generator,
    absorbed: Floats,
    stamp: Stamp,
    visible: np.ndarray,
    rim: float,
    inner: float,
    width: float,
    grain: Floats,
) -> None:
    outward = (stamp.level - 1) * stamp.radius  # pixels from the outline, negative inside
    ring = rim * np.exp(-(((outward + 0.5 * width) / width) ** 2))
    bright = -0.25 * rim * np.exp(-(((outward + 2.5 * width) / width) ** 2))
    body = stamp.soft(1.5) * (inner + 0.06 * grain[stamp.box.slices] + rng.uniform(-0.04, 0.04))
    own_side = np.where(stamp.mask & ~visible, 0.0, 1.0)
    add_light(absorbed, stamp, ((ring + bright + body) * own_side).astype(np.float32))
