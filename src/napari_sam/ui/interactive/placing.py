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
Matrix = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """The pixels of a layer as they were before their axes were put into another order for napari."""

    pixels: Any
    """An array, or the levels of a pyramid."""
    axes: str
    """Of the pixels, S for samples of RGB among them."""


STORED = "napari-sam-tiles stored"
"""Key of a layer's metadata that holds its `Stored`."""


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """An Image layer of a session. Its place is looked up anew each time: a layer may be moved while one works.

    napari lines layers up by their last axes, and labels have no channels: so channels come first, rows and columns
    last. `arranging.placed_image` makes such a layer of one that is otherwise.
    """

    layer: Image
    axes: str
    """One letter for each axis of the layer; the samples of RGB are not among them."""

    def __post_init__(self) -> None:
        check_axes(self.layer, self.axes)
        if self.axes != lined_up(self.axes):
            raise ImageError(
                f"the axes of layer {self.layer.name!r} are {self.axes}, and napari needs {lined_up(self.axes)} to put "
                "labels on it; show it with `placed_image` first."
            )

    @property
    def kept(self) -> list[int]:
        """The axes that labels have too: all but channels."""
        return [i for i, axis in enumerate(self.axes) if axis != "C"]

    @property
    def _stored(self) -> Stored:
        """What was arranged is read as it was before: the image of a journal stays the same one."""
        known = self.layer.metadata.get(STORED)
        return known if isinstance(known, Stored) else stored_pixels(self.layer, self.axes)

    @property
    def pixels(self) -> Any:
        """What is opened as an image: an array, or the levels of a pyramid."""
        return self._stored.pixels

    @property
    def axes_of_pixels(self) -> str:
        return self._stored.axes

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
        return placement_of(self.layer, self.kept, origin, step)

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

    def _to_world(self) -> tuple[Matrix, Matrix]:
        return world_matrix(self.layer, self.kept)


def stored_pixels(layer: Image, axes: str) -> Stored:
    """The pixels of a layer and what they are; `axes` has a letter for each axis of the layer."""
    pixels = list(layer.data) if layer.multiscale else layer.data
    return Stored(pixels, axes + ("S" if layer.rgb else ""))


def placement_of(
    layer: Image, kept: Sequence[int], origin: Sequence[float] | None = None, step: int = 1
) -> dict[str, Any]:
    """Arguments that put a new layer, of the axes `kept` of `layer`, where its first pixel belongs.

    Parameters
    ----------
    layer : napari.layers.Image
    kept : sequence of int
        Axes of the layer that the new one has, in this order; the last two are its rows and columns.
    origin, step
        See :meth:`PlacedImage.placement`.
    """
    matrix, offset = world_matrix(layer, kept)
    start = np.zeros(len(offset)) if origin is None else np.asarray(origin, dtype=float)
    start[-2:] += (step - 1) / 2
    offset, matrix = offset + matrix @ start, matrix.copy()
    matrix[:, -2:] *= step
    units = tuple(layer.units[i] for i in kept)
    names = tuple(layer.axis_labels[i] for i in kept)
    if np.allclose(matrix, np.diag(np.diag(matrix))):
        return {"scale": np.diag(matrix), "translate": offset, "units": units, "axis_labels": names}
    affine = np.eye(len(offset) + 1)
    affine[:-1, :-1], affine[:-1, -1] = matrix, offset
    return {"affine": affine, "units": units, "axis_labels": names}


def world_matrix(layer: Image, kept: Sequence[int]) -> tuple[Matrix, Matrix]:
    """(matrix, offset) from pixels of a layer to the world, of the axes `kept` in this order."""
    n = layer.ndim
    offset = np.asarray(layer.data_to_world(np.zeros(n)))
    columns = [np.asarray(layer.data_to_world(unit)) - offset for unit in np.eye(n)]
    matrix = np.stack(columns, axis=1)
    return matrix[np.ix_(kept, kept)], offset[list(kept)]


def lined_up(axes: str) -> str:
    """The same axes in the order in which napari can line labels up: channels first, rows and columns last.

    Examples
    --------
    >>> lined_up("TYXC"), lined_up("ZCYX"), lined_up("ZTYX")
    ('CTYX', 'CZYX', 'ZTYX')
    """
    return ("C" if "C" in axes else "") + "".join(axis for axis in axes if axis not in "CYX") + "YX"


def check_axes(layer: Image, axes: str) -> None:
    """Refuse letters that cannot be the axes of a layer; ImageError."""
    if not (set("YX") <= set(axes) <= set(AXES) and len(set(axes)) == len(axes) == layer.ndim):
        raise ImageError(
            f"the axes of layer {layer.name!r} must be {layer.ndim} different letters of {AXES} with Y and X among "
            f"them, got {axes!r}; a stack is ZYX, a time series TYX, channels CYX, channels last YXC."
        )


def guess_axes(layer: Image) -> str:
    """The axes of a layer: as its own labels name them, else a stack, or a time series of stacks.

    A last axis that is much shorter than the two before it is one of channels.
    """
    named = "".join(str(label)[:1].upper() for label in layer.axis_labels)
    spelled = all(len(str(label)) == 1 or str(label).lower() in _WORDS for label in layer.axis_labels)
    if spelled and set("YX") <= set(named) <= set(AXES) and len(set(named)) == len(named):
        return named
    shape = layer.level_shapes[0]
    if not layer.rgb and layer.ndim in (3, 4, 5) and shape[-1] <= _MOST_CHANNELS and shape[-1] * 2 < min(shape[-3:-1]):
        return {3: "YXC", 4: "ZYXC", 5: "TZYXC"}[layer.ndim]
    return {2: "YX", 3: "ZYX", 4: "TZYX", 5: "CTZYX"}.get(layer.ndim, "")


_WORDS = {"time", "channel", "channels", "z", "y", "x"}
_MOST_CHANNELS = 16
