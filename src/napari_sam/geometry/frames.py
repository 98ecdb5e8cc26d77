"""How an image lies in the square the model looks at, and coordinates between the two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import ConfigError, ImageError, PromptError


@dataclass(frozen=True, slots=True)
class ModelFrame:
    """How an image lies in the square the model looks at.

    The image is resized so that its longer side fills the square, and sits in its upper left corner; the rest is
    padding (Kirillov et al. 2023, appendix A). Coordinates are multiplied by new / old size on each axis and nothing
    else: the half pixel between a pixel's centre and its edge is added by the prompt encoder, as in the paper's code.
    """

    image_size: tuple[int, int]
    """(H, W) of the image, in pixels."""
    model_size: int
    """Side of the square, in pixels of the model."""
    longer_side: int | None = None
    """Model pixels that the image's longer side takes; by default all of the square's."""

    def __post_init__(self) -> None:
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise ImageError(f"an image needs a size (H, W) of at least 1 x 1 pixel, got {self.image_size}.")
        if self.model_size < 1:
            raise ConfigError(f"model_size must be at least 1 pixel, got {self.model_size}; ask the model for it.")
        if self.longer_side is not None and not 1 <= self.longer_side <= self.model_size:
            raise ConfigError(
                f"longer_side must lie in [1, model_size = {self.model_size}], got {self.longer_side}; leave it out to "
                "fill the square."
            )

    @property
    def scale(self) -> float:
        """Model pixels for one image pixel, before rounding to whole pixels."""
        return (self.longer_side or self.model_size) / max(self.image_size)

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the resized image; at least one pixel, also for very thin strips."""
        height, width = self.image_size
        return max(1, int(height * self.scale + 0.5)), max(1, int(width * self.scale + 0.5))

    def points_to_model(self, points_xy: ArrayLike) -> NDArray[np.float64]:
        """Points (..., 2) as (x, y), from image to model pixels."""
        return _checked(points_xy, 2, "points", "(x, y)") * self._factors_xy()

    def points_to_image(self, points_xy: ArrayLike) -> NDArray[np.float64]:
        """Points (..., 2) as (x, y), from model to image pixels."""
        return _checked(points_xy, 2, "points", "(x, y)") / self._factors_xy()

    def boxes_to_model(self, boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
        """Boxes (..., 4) as XYXY, from image to model pixels."""
        return _checked(boxes_xyxy, 4, "boxes", "(x0, y0, x1, y1)") * np.tile(self._factors_xy(), 2)

    def _factors_xy(self) -> NDArray[np.float64]:
        return np.array(self.input_size[::-1], dtype=np.float64) / np.array(self.image_size[::-1], dtype=np.float64)


def _checked(coordinates: ArrayLike, n: int, what: str, order: str) -> NDArray[np.float64]:
    array = np.array(coordinates, dtype=np.float64)
    if array.size == 0 and array.ndim <= 1:
        return array.reshape(0, n)
    if array.ndim < 2 or array.shape[-1] != n:
        raise PromptError(
            f"{what} must have shape (N, {n}) or (P, N, {n}) as {order} pixels, got {array.shape}; "
            f"a single one is a list with one entry, shape (1, {n})."
        )
    return array
