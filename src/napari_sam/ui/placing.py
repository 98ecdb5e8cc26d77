"""Between the world of the viewer and the planes of a session: where a click falls, and where a new layer lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import ImageError

if TYPE_CHECKING:
    from napari.layers import Image

AXES = "TCZYX"


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """An Image layer of a session. Its place is looked up anew each time: a layer may be moved while one works."""

    layer: Image
    axes: str
    """One letter for each axis of the layer; the samples of RGB are not among them."""

    def __post_init__(self) -> None:
        wrong = set(self.axes) - set(AXES) or len(set(self.axes)) < len(self.axes)
        if wrong or len(self.axes) != self.layer.ndim or not self.axes.endswith("YX"):
            raise ImageError(
                f"the axes of layer {self.layer.name!r} must be {self.layer.ndim} different letters of {AXES} that end "
                f"with YX, got {self.axes!r}; a stack is ZYX, a time series TYX, channels CYX."
            )
        at = self.axes.find("C")
        if at > 0:
            # Labels have no channels, and napari lines layers up by their last axes: those between would be mistaken.
            raise ImageError(
                f"the channels of layer {self.layer.name!r} must be its first axis, got {self.axes}; split them into "
                f"layers (right click on the layer, Split Stack), or add np.moveaxis(data, {at}, 0) as a layer, which "
                f"has the axes C{self.axes.replace('C', '')}."
            )

    @property
    def kept(self) -> list[int]:
        """The axes that labels have too: all but channels."""
        return [i for i, axis in enumerate(self.axes) if axis != "C"]

    @property
    def pixels(self) -> Any:
        """What is opened as an image: an array, or the levels of a pyramid."""
        return list(self.layer.data) if self.layer.multiscale else self.layer.data

    @property
    def axes_of_pixels(self) -> str:
        return self.axes + ("S" if self.layer.rgb else "")

    def locate(self, position: Sequence[float]) -> tuple[tuple[int, ...], tuple[float, float]]:
        """(plane, (x, y)) of a world position, one number for each dimension of the viewer."""
        at = np.asarray(self.layer.world_to_data(tuple(position)[-self.layer.ndim :]))[self.kept]
        plane = tuple(int(i) for i in np.round(at[:-2]))
        return plane, (float(at[-1]), float(at[-2]))

    def world_of(self, plane: Sequence[int], xy: tuple[float, float]) -> tuple[float, ...]:
        """World position, for the labels' dimensions, of a point of a plane."""
        matrix, offset = self._to_world()
        return tuple((matrix @ np.array([*plane, xy[1], xy[0]]) + offset).tolist())

    def placement(self, origin: Sequence[float] | None = None, step: int = 1) -> dict[str, Any]:
        """Arguments that put a layer of the labels' axes where it belongs.

        Parameters
        ----------
        origin : sequence of float, optional
            Pixel of the image that the layer's first pixel begins with; the image's first one if left out.
        step : int
            Rows and columns of the image that one of the layer shows.
        """
        matrix, offset = self._to_world()
        start = np.zeros(len(offset)) if origin is None else np.asarray(origin, dtype=float)
        start[-2:] += (step - 1) / 2
        offset, matrix = offset + matrix @ start, matrix.copy()
        matrix[:, -2:] *= step
        units = tuple(self.layer.units[i] for i in self.kept)
        names = tuple(self.layer.axis_labels[i] for i in self.kept)
        if np.allclose(matrix, np.diag(np.diag(matrix))):
            return {"scale": np.diag(matrix), "translate": offset, "units": units, "axis_labels": names}
        affine = np.eye(len(offset) + 1)
        affine[:-1, :-1], affine[:-1, -1] = matrix, offset
        return {"affine": affine, "units": units, "axis_labels": names}

    def pixels_per_world(self) -> float:
        """Pixels of the image along a world unit of the screen's."""
        matrix, _ = self._to_world()
        area = abs(float(np.linalg.det(matrix[-2:, -2:])))
        return 1.0 / math.sqrt(area) if area > 0 else 1.0

    def view_step(self, zoom: float) -> int:
        """Pixels of the image that one pixel of the screen shows, as a power of two, at a camera zoom."""
        pixels = self.pixels_per_world() / max(zoom, 1e-9)
        return int(2 ** max(0, math.floor(math.log2(pixels) + 1e-6)))

    def is_shown_flat(self, displayed: Sequence[int], ndim: int) -> bool:
        """Whether the viewer shows rows and columns of the image, in whatever order, and nothing else."""
        return {axis - ndim for axis in displayed} == {-2, -1}

    def _to_world(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        n = self.layer.ndim
        offset = np.asarray(self.layer.data_to_world(np.zeros(n)))
        columns = [np.asarray(self.layer.data_to_world(unit)) - offset for unit in np.eye(n)]
        matrix = np.stack(columns, axis=1)
        return matrix[np.ix_(self.kept, self.kept)], offset[self.kept]


def guess_axes(layer: Image) -> str:
    """The axes of a layer: as its own labels name them, else a stack, or a time series of stacks."""
    named = "".join(str(label)[:1].upper() for label in layer.axis_labels)
    spelled = all(len(str(label)) == 1 or str(label).lower() in _WORDS for label in layer.axis_labels)
    if spelled and set(named) <= set(AXES) and len(set(named)) == len(named) and named.endswith("YX"):
        return named
    return {2: "YX", 3: "ZYX", 4: "TZYX", 5: "CTZYX"}.get(layer.ndim, "")


_WORDS = {"time", "channel", "channels", "z", "y", "x"}
