"""Images to try things on: real ones that scikit-image ships, generated ones whose objects are known. No download."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import skimage.data
from numpy.typing import NDArray

from napari_sam.errors import ImageError
from napari_sam.training.generated import GENERATORS, GeneratedImage
from napari_sam.workflows.samples.phase import phase_contrast_film

FIELD_PX = 512
"""Side of one field of the mosaic."""
MOSAIC_FIELDS = (6, 8)
"""Rows and columns of fields in the mosaic."""
REAL_IMAGES = {
    (0, 0): "coins",
    (0, 4): "astronaut",
    (1, 2): "immunohistochemistry",
    (2, 6): "hubble_deep_field",
    (3, 1): "cell",
    (3, 5): "coffee",
    (4, 3): "gravel",
    (5, 7): "retina",
}
"""Place in the mosaic (row, column) of each image of `skimage.data`; only such as are inside its wheel."""
CELL_KINDS = ("fluorescent_nuclei", "stained_tissue", "fluorescent_nuclei", "phase_contrast_cells")
"""Generated fields of the mosaic, in turn: cells and nuclei, which the built-in model is for."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """An image and what is known about it."""

    image: NDArray[np.uint8]
    """(H, W) or (H, W, 3); of a film (T, H, W)."""
    labels: NDArray[np.int32] | None = None
    """(H, W) or (T, H, W), 1 to N, 0 where no object is; None if nothing is known."""
    known: NDArray[np.bool_] | None = None
    """(H, W), where `labels` tells the truth; None means everywhere."""


REAL_SAMPLES = ("coins", "cell", "immunohistochemistry", "retina", "hubble_deep_field")
"""Images of `skimage.data` that are inside its wheel and hold objects to segment."""


def real_sample(name: str) -> Sample:
    """A real image; nothing is known about its objects.

    Parameters
    ----------
    name : str
        One of `REAL_SAMPLES`.

    Raises
    ------
    ImageError
        If there is no such image.
    """
    if name not in REAL_SAMPLES:
        raise ImageError(f"the real images are {', '.join(REAL_SAMPLES)}, got {name!r}.")
    return Sample(np.asarray(getattr(skimage.data, name)()))


def coins() -> Sample:
    """A photograph of 24 ancient coins, (303, 384) gray; nothing is known about its labels."""
    return real_sample("coins")


def film(*, seed: int = 0) -> Sample:
    """A generated phase-contrast film of 12 frames of 384 x 512 pixels; a cell keeps its label from frame to frame."""
    return Sample(*phase_contrast_film(seed=seed))


def nuclei(*, seed: int = 0) -> Sample:
    """A generated field of fluorescent nuclei, (512, 512), and its labels."""
    generated = GENERATORS["fluorescent_nuclei"](np.random.default_rng(seed), (FIELD_PX, FIELD_PX))
    return Sample(generated.image, generated.labels)


def mosaic(*, seed: int = 0, fields: tuple[int, int] = MOSAIC_FIELDS) -> Sample:
    """A large image of real images among generated fields of cells whose labels are known.

    Parameters
    ----------
    seed : int
        The same seed gives the same image.
    fields : (int, int)
        Rows and columns of fields of 512 x 512 pixels; the default is an image of 4096 x 3072 (width x height).

    Returns
    -------
    Sample
        RGB. `known` leaves out the real images.
    """
    shape = (fields[0] * FIELD_PX, fields[1] * FIELD_PX)
    image = np.zeros((*shape, 3), np.uint8)
    labels = np.zeros(shape, np.int32)
    known = np.ones(shape, np.bool_)
    generated = _generated_fields(np.random.default_rng(seed))
    for row, column in np.ndindex(fields):
        place = np.s_[row * FIELD_PX : (row + 1) * FIELD_PX, column * FIELD_PX : (column + 1) * FIELD_PX]
        if (row, column) in REAL_IMAGES:
            image[place] = _real_field(REAL_IMAGES[row, column])
            known[place] = False
            continue
        field = next(generated)
        image[place] = _as_rgb(field.image)
        labels[place] = np.where(field.labels > 0, field.labels + labels.max(), 0)
    return Sample(image, labels, known)


def _generated_fields(rng: np.random.Generator) -> Iterator[GeneratedImage]:
    while True:
        for kind in CELL_KINDS:
            yield GENERATORS[kind](rng, (FIELD_PX, FIELD_PX))


def _real_field(name: str) -> NDArray[np.uint8]:
    """The middle of an image of scikit-image, on a ground of its own darkest tone where it is smaller than a field."""
    picture = _as_rgb(getattr(skimage.data, name)())
    field = np.full((FIELD_PX, FIELD_PX, 3), picture.min(axis=(0, 1)), np.uint8)
    height, width = (min(side, FIELD_PX) for side in picture.shape[:2])
    y, x = ((side - part) // 2 for side, part in zip(picture.shape[:2], (height, width), strict=True))
    to_y, to_x = (FIELD_PX - height) // 2, (FIELD_PX - width) // 2
    field[to_y : to_y + height, to_x : to_x + width] = picture[y : y + height, x : x + width]
    return field


def _as_rgb(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture if picture.ndim == 3 else np.repeat(picture[..., np.newaxis], 3, axis=2)
