"""Stained tissue in transmitted light: purple nuclei on pink fibres and white gaps."""

from __future__ import annotations

import numpy as np

from napari_sam.training.generators.optics import blurred, eight_bits, photographed, uneven_light
from napari_sam.training.generators.scene import GeneratedImage, Scene, is_empty, log_uniform, object_radius, places
from napari_sam.training.generators.shapes import Floats, Size, Stamp, blob
from napari_sam.training.generators.textures import fractal_noise, smooth_noise, strands

HAEMATOXYLIN = np.array([0.65, 0.70, 0.29], dtype=np.float32)
EOSIN = np.array([0.10, 0.62, 0.30], dtype=np.float32)
STAINS = {
    "pink": (HAEMATOXYLIN, EOSIN),
    "violet": (np.array([0.62, 0.75, 0.15], dtype=np.float32), np.array([0.45, 0.55, 0.15], dtype=np.float32)),
    "magenta": (np.array([0.40, 0.85, 0.30], dtype=np.float32), np.array([0.15, 0.20, 0.25], dtype=np.float32)),
    "brown": (np.array([0.27, 0.57, 0.78], dtype=np.float32), np.array([0.35, 0.33, 0.20], dtype=np.float32)),
}
"""How strongly each stain (nuclear, ground) absorbs red, green and blue."""


def stained_tissue(rng: np.random.Generator, size: Size) -> GeneratedImage:
    """Nuclei in a section; light is absorbed by two stains (Beer-Lambert), whose colours and strengths vary."""
    scene, nuclear = Scene(size), np.zeros(size, dtype=np.float32)
    radius = object_radius(rng, size, 5, 28)
    gaps = _gaps(rng, size, radius)
    ground = _ground(rng, size, radius) * (1 - gaps)
    if not is_empty(rng):
        _add_nuclei(rng, scene, nuclear, gaps, radius)
    nuclear = blurred(nuclear, rng.uniform(0.4, max(0.5, radius * 0.09)))
    image = _absorbed(rng, nuclear, ground)
    image = photographed(rng, uneven_light(rng, image, rng.uniform(0, 0.1)), photons=log_uniform(rng, 400, 10_000))
    return GeneratedImage(eight_bits(rng, image, inverted=0.02), scene.finished(), "stained_tissue")


def _absorbed(rng: np.random.Generator, nuclear: Floats, ground: Floats) -> Floats:
    first, second = STAINS[rng.choice(list(STAINS), p=[0.45, 0.25, 0.2, 0.1])]
    first, second = (np.clip(s + rng.normal(0, 0.06, 3), 0.02, None).astype(np.float32) for s in (first, second))
    density = nuclear[..., None] * first * np.float32(rng.uniform(0.9, 2.2)) + ground[..., None] * second
    light = rng.uniform(0.88, 0.98, 3).astype(np.float32)
    absorbed: Floats = light * np.exp(-density)
    return absorbed


def _ground(rng: np.random.Generator, size: Size, radius: float) -> Floats:
    """The stain of everything that is no nucleus: fibres, cytoplasm, grain."""
    field = fractal_noise(rng, size, radius * rng.uniform(2, 6), octaves=5, persistence=0.65)
    if rng.random() < 0.6:
        drawn = strands(rng, size, radius * rng.uniform(0.15, 0.6), angle=rng.uniform(0, np.pi))
        field = field + np.float32(rng.uniform(0.3, 1.2)) * drawn
    level = np.float32(log_uniform(rng, 0.08, 0.7))
    contrast = np.float32(rng.uniform(0.1, 0.4))
    stain: Floats = np.clip(level * (1 + contrast * field), 0.0, None)
    return stain


def _gaps(rng: np.random.Generator, size: Size, radius: float) -> Floats:
    """1 where there is no tissue, such as vessels and fat; in some images nowhere."""
    if rng.random() < 0.4:
        return np.zeros(size, dtype=np.float32)
    field = fractal_noise(rng, size, radius * rng.uniform(4, 12), octaves=4, persistence=0.4)
    gaps: Floats = np.clip((field - np.float32(rng.uniform(0.5, 1.5))) * 6, 0, 1)
    return gaps


def _add_nuclei(rng: np.random.Generator, scene: Scene, nuclear: Floats, gaps: Floats, radius: float) -> None:
    size = (nuclear.shape[0], nuclear.shape[1])
    chromatin = fractal_noise(rng, size, max(2.5, radius * 0.5), octaves=3, persistence=0.8)
    flow = smooth_noise(rng, size, radius * rng.uniform(6, 20)) * rng.uniform(0.2, 2)
    contrast, spread, aspect = rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.4), rng.uniform(1.0, 2.6)
    rim, variety, rough = rng.uniform(0, 0.6), rng.uniform(0.1, 0.45), rng.uniform(0.03, 0.16)
    for x, y in places(rng, size, radius, log_uniform(rng, 0.08, 0.6)):
        row, column = (int(np.clip(c, 0, n - 1)) for c, n in ((y, size[0]), (x, size[1])))
        if gaps[row, column] > 0.5:
            continue
        stamp = blob(
            rng,
            (x, y),
            radius * float(np.exp(rng.normal(0, spread))),
            size,
            aspect=1 + abs(rng.normal(0, aspect - 0.9)),
            angle=float(flow[row, column]) + rng.normal(0, 0.4),
            roughness=rough,
        )
        visible = scene.beside(stamp, hidden=0.12)
        if stamp is None or visible is None:
            continue
        _stain(nuclear, stamp, visible, chromatin, contrast, rim, float(np.exp(rng.normal(0, variety))))


def _stain(
    nuclear: Floats, stamp: Stamp, visible: np.ndarray, chromatin: Floats, contrast: float, rim: float, strength: float
) -> None:
    """Chromatin grains and a darker rim; a neighbour in front keeps its own stain."""
    edge = 1 + rim * np.clip(stamp.level, 0, 1) ** 6
    grain = np.maximum(1 + contrast * chromatin[stamp.box.slices], 0.2)
    cover = stamp.soft(1.5) * np.where(stamp.mask & ~visible, 0.2, 1.0)
    window = nuclear[stamp.box.slices]
    np.maximum(window, (0.8 * strength * cover * edge * grain).astype(np.float32), out=window)
