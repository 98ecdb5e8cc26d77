"""A phase-contrast film: crawling cells with known outlines, each with the same label in every frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.training.generators.optics import blurred, photographed
from napari_sam.training.generators.scene import Scene
from napari_sam.training.generators.shapes import Floats, Size, Stamp, blob
from napari_sam.training.generators.textures import smooth_noise

FRAMES = 12
SIZE = (384, 512)
CELLS = 16

_HALO_PX = 6.0
_GRAY = 0.45


@dataclass(frozen=True, slots=True)
class _Cell:
    """How one cell looks and moves."""

    number: int
    start_xy: tuple[float, float]
    step_xy: tuple[float, float]
    """Pixels a frame."""
    radius: float
    angle: float
    turn: float
    """Radians a frame."""

    def stamp(self, frame: int, size: Size) -> Stamp | None:
        """Its outline in one frame; None where it has left the picture."""
        breath = 1 + 0.25 * np.sin(0.5 * frame + self.number)
        x, y = (start + frame * step for start, step in zip(self.start_xy, self.step_xy, strict=True))
        # The same generator each time: its outline keeps its lobes while it moves.
        own = np.random.default_rng(self.number)
        angle = self.angle + frame * self.turn
        return blob(own, (x, y), self.radius, size, aspect=1.4 * breath, angle=angle, roughness=0.16, lobes=7)


def phase_contrast_film(
    *, seed: int = 0, frames: int = FRAMES, size: Size = SIZE
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """A film of crawling cells, (T, H, W), and its labels of the same shape.

    Parameters
    ----------
    seed : int
        The same seed gives the same film.
    frames : int
    size : (H, W)
    """
    rng = np.random.default_rng(seed)
    cells = [_new_cell(rng, number, size) for number in range(1, CELLS + 1)]
    glass = np.float32(0.02) * smooth_noise(rng, size, 60)
    shown = [_frame(rng, cells, glass, frame, size) for frame in range(frames)]
    return np.stack([image for image, _ in shown]), np.stack([labels for _, labels in shown])


def _new_cell(rng: np.random.Generator, number: int, size: Size) -> _Cell:
    height, width = size
    return _Cell(
        number,
        (float(rng.uniform(0, width)), float(rng.uniform(0, height))),
        (float(rng.normal(0, 2.5)), float(rng.normal(0, 2.5))),
        float(rng.uniform(20, 34)),
        float(rng.uniform(0, np.pi)),
        float(rng.normal(0, 0.05)),
    )


def _frame(
    rng: np.random.Generator, cells: list[_Cell], glass: Floats, frame: int, size: Size
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    scene, thickness = Scene(size), np.zeros(size, np.float32)
    labels = np.zeros(size, np.int32)
    for cell in cells:
        stamp = cell.stamp(frame, size)
        visible = scene.beside(stamp, hidden=1.0)
        if stamp is not None and visible is not None:
            labels[stamp.box.slices][visible] = cell.number
            thickness[stamp.box.slices] += stamp.soft(2.0) * visible * (0.6 + 0.4 * stamp.dome())
    # Phase contrast: light is lost inside an outline and gained outside of it.
    shift = blurred(thickness, _HALO_PX) - thickness
    fine = blurred(thickness, _HALO_PX / 4) - thickness
    image = np.float32(_GRAY) + glass + np.float32(0.45) * shift + np.float32(0.35) * fine
    recorded = photographed(rng, blurred(image, 0.7), photons=1500, read_noise=0.004)
    return np.clip(recorded * 255, 0, 255).astype(np.uint8), labels
