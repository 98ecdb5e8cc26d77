"""Training images made by rule, with exact labels: as many as wanted, of any size, the same for the same seed.

Real images with exact outlines are few and of few kinds. These are made of shapes, textures and optics, so that a
network meets every kind of object, size, contrast and crowding, and images without any object too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from napari_sam.errors import TrainingError
from napari_sam.training import generators
from napari_sam.training.generators import GeneratedImage

__all__ = ["GENERATORS", "GeneratedImage", "Generator", "generate_image"]

Generator = Callable[[np.random.Generator, tuple[int, int]], GeneratedImage]
"""From a random generator and a size (H, W) to an image of that size."""

GENERATORS: Mapping[str, Generator] = MappingProxyType(
    {
        generator.__name__: generator
        for generator in (
            generators.fluorescent_nuclei,
            generators.phase_contrast_cells,
            generators.bacteria,
            generators.stained_tissue,
            generators.brightfield,
            generators.membranes,
            generators.particles,
            generators.polished_grains,
            generators.fields,
            generators.trees_and_roofs,
            generators.leaves,
            generators.collage,
        )
    }
)
"""Every kind of generated image, by name."""

LEAST_SIDE_PX = 32


def generate_image(seed: int, size: tuple[int, int] = (512, 512), kind: str | None = None) -> GeneratedImage:
    """One generated image with its labels.

    Parameters
    ----------
    seed : int
        The same seed, size and kind give the same image.
    size : (H, W)
        In pixels, at least 32 x 32.
    kind : str or None
        A name of `GENERATORS`; None draws one, all alike.

    Raises
    ------
    TrainingError
        If there is no such kind or the size is too small.

    Examples
    --------
    >>> generate_image(0, (64, 96), "bacteria").labels.shape
    (64, 96)
    """
    if min(size) < LEAST_SIDE_PX:
        raise TrainingError(f"a generated image needs at least {LEAST_SIDE_PX} x {LEAST_SIDE_PX} pixels, got {size}.")
    rng = np.random.default_rng(seed)
    name = str(rng.choice(list(GENERATORS))) if kind is None else kind
    if name not in GENERATORS:
        raise TrainingError(f"generated images are of the kinds {', '.join(GENERATORS)}, got {name!r}.")
    return GENERATORS[name](rng, size)
