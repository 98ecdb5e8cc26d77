"""Cells under phase contrast: gray on gray, a bright halo around each, dark rims and granules inside."""

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
from napari_sam.training.generators.shapes import XY, Floats, Size, Stamp, blob, curve, joined, tube
from napari_sam.training.generators.textures import fractal_noise, smooth_noise


def phase_contrast_cells(rng: np.random.Generator, size: Size) -> GeneratedImage:
    """Adherent cells (spread, spindle-shaped, with protrusions) and round ones, with halos; debris is not labelled."""
    scene, inside = Scene(size), np.zeros(size, dtype=np.float32)
    detail = np.zeros(size, dtype=np.float32)
    radius = object_radius(rng, size, 10, 55)
    if not is_empty(rng):
        _add_cells(rng, scene, inside, detail, radius)
    _add_debris(rng, detail, radius)
    image = np.float32(rng.uniform(0.35, 0.6)) + _phase_shift(rng, inside, radius) + detail
    image += np.float32(rng.uniform(0.003, 0.02)) * smooth_noise(rng, size, rng.uniform(4, 30))
    image = blurred(image, rng.uniform(0.4, 1.3))
    recorded = photographed(rng, uneven_light(rng, image, rng.uniform(0, 0.2)), photons=log_uniform(rng, 300, 8000))
    return GeneratedImage(eight_bits(rng, recorded, inverted=0.04), scene.finished(), "phase_contrast_cells")


def _phase_shift(rng: np.random.Generator, inside: Floats, radius: float) -> Floats:
    """Light gained outside and lost inside near each outline: thickness minus its own blur."""
    wide = max(2.0, min(14.0, radius * rng.uniform(0.15, 0.35)))
    halo = blurred(inside, wide) - inside
    fine = blurred(inside, max(1.0, wide / 4)) - inside
    shift: Floats = np.float32(rng.uniform(0.25, 0.9)) * halo + np.float32(rng.uniform(0.0, 0.6)) * fine
    return shift + np.float32(rng.uniform(-0.09, 0.05)) * inside


def _add_cells(rng: np.random.Generator, scene: Scene, inside: Floats, detail: Floats, radius: float) -> None:
    size = scene.labels.shape
    granules = fractal_noise(rng, size, rng.uniform(3, 8), octaves=2, persistence=0.8)
    roughness = np.float32(rng.uniform(0.02, 0.11))
    kinds = rng.dirichlet([1.0, 1.0, 1.0, 0.4])
    for center in places(rng, size, radius, log_uniform(rng, 0.08, 0.9)):
        kind = rng.choice(["spread", "spindle", "star", "round"], p=kinds)
        stamp = _cell(rng, kind, center, radius * float(np.exp(rng.normal(0, 0.25))), size)
        visible = scene.beside(stamp, hidden=0.12)
        if stamp is None or visible is None:
            continue
        thick = rng.uniform(1.4, 2.2) if kind == "round" else rng.uniform(0.4, 1.2)
        body = stamp.soft(2.0) * visible
        add_light(inside, stamp, (thick * body * (0.6 + 0.4 * stamp.dome())).astype(np.float32))
        add_light(detail, stamp, roughness * granules[stamp.box.slices] * body)
        if kind == "round":
            add_light(detail, stamp, (rng.uniform(0.1, 0.5) * body * stamp.dome()).astype(np.float32))
        else:
            _add_nucleus(rng, detail, center, radius * 0.35, stamp)


def _cell(rng: np.random.Generator, kind: str, center: XY, radius: float, size: Size) -> Stamp | None:
    angle = rng.uniform(0, 2 * np.pi)
    if kind == "round":
        return blob(rng, center, radius * 0.5, size, aspect=rng.uniform(1, 1.2), angle=angle, roughness=0.02)
    if kind == "spread":
        aspect, rough = rng.uniform(1, 2), rng.uniform(0.08, 0.25)
        return blob(rng, center, radius, size, aspect=aspect, angle=angle, roughness=rough, lobes=9)
    if kind == "spindle":
        width = radius * rng.uniform(0.25, 0.5)
        line = curve(rng, center, radius * rng.uniform(2.5, 5), angle, 0.6, max(1.0, width * 0.25))
        taper = np.sqrt(np.clip(1 - np.linspace(-1, 1, len(line)) ** 2, 0, 1)) ** rng.uniform(1, 2.5)
        return tube(line, np.maximum(width * taper, max(1.0, width * 0.2)), size)
    body = blob(rng, center, radius * 0.6, size, aspect=rng.uniform(1, 1.8), angle=angle, roughness=0.2, lobes=7)
    arms = [_arm(rng, center, radius, angle + k, size) for k in rng.uniform(0, 2 * np.pi, rng.integers(2, 6))]
    return joined([body, *arms], size)


def _arm(rng: np.random.Generator, center: XY, radius: float, angle: float, size: Size) -> Stamp | None:
    """A protrusion that starts in the cell's middle and gets thinner."""
    length, width = radius * rng.uniform(1.0, 2.2), radius * rng.uniform(0.2, 0.4)
    middle = (center[0] + np.cos(angle) * length / 2, center[1] + np.sin(angle) * length / 2)
    line = curve(rng, middle, length, angle, 0.3, max(1.0, width * 0.25))
    return tube(line, np.maximum(np.linspace(width, width * 0.2, len(line)), 1.0), size)


def _add_nucleus(rng: np.random.Generator, detail: Floats, center: XY, radius: float, cell: Stamp) -> None:
    """A slightly other gray with a few dark or bright dots, drawn inside the cell only."""
    size = detail.shape
    shades = [(radius, rng.uniform(-0.06, 0.08))]
    shades += [(radius * rng.uniform(0.12, 0.3), rng.choice([-0.25, -0.15, 0.2])) for _ in range(rng.integers(1, 4))]
    for i, (r, shade) in enumerate(shades):
        offset = rng.normal(0, radius * 0.5, 2) if i else np.zeros(2)
        at = (center[0] + float(offset[0]), center[1] + float(offset[1]))
        spot = blob(rng, at, max(1.2, r), (size[0], size[1]), aspect=1.3, angle=rng.uniform(0, np.pi), roughness=0.05)
        if spot is not None:
            add_light(detail, spot, (shade * spot.soft(2.0)).astype(np.float32))


def _add_debris(rng: np.random.Generator, detail: Floats, radius: float) -> None:
    """Specks on the glass, too small and too faint to be cells."""
    size = (detail.shape[0], detail.shape[1])
    dark = bool(rng.random() < 0.5)
    for _ in range(int(rng.integers(0, 60))):
        at = (float(rng.uniform(0, size[1])), float(rng.uniform(0, size[0])))
        speck = blob(rng, at, min(radius * 0.12, rng.uniform(1, 4)), size, aspect=rng.uniform(1, 3), roughness=0.3)
        if speck is not None:
            shade = rng.uniform(0.03, 0.12) * (-1 if dark else 1)
            add_light(detail, speck, (shade * speck.soft(1.5)).astype(np.float32))
