"""From an Image layer to the pixels a job reads, and from its labels back to a layer in the same place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from napari_sam.errors import ImageError
from napari_sam.ui.interactive.placing import placement_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image

LayerTuple = tuple[Any, dict[str, Any], str]
"""What napari takes a layer from: data, keyword arguments, layer type."""


@dataclass(frozen=True, slots=True)
class ShownPlane:
    """The plane of an Image layer that the user is looking at, or the stack of planes it is of, and where it lies.

    Everything about the layer is copied, so the layer may be moved or deleted while a job reads the pixels.
    """

    name: str
    """Name of the layer."""
    pixels: Any
    """Full-resolution array of shape (H, W), or (H, W, 3 or 4) for an RGB layer; as lazy as the layer's data. Of a
    stack (N, H, W), or (N, H, W, 3 or 4). Channels come before all of these."""
    axes: str
    """One letter for each axis of the pixels; those of a stack are Z, whether it is depth or time."""
    index: tuple[int, ...]
    """Position on the axes before those of the pixels, one number each, without channels; empty for all of a layer."""
    placement: dict[str, Any]
    """Arguments that put a new layer where this plane lies: scale and translate, or affine; units."""


def shown_plane(
    layer: Image, point: Sequence[float], *, is_stack: bool = False, has_channels: bool = False
) -> ShownPlane:
    """The plane of `layer` that contains the world position `point` (the viewer's `dims.point`), or its stack.

    Parameters
    ----------
    layer : napari.layers.Image
        Gray or RGB, 2-D or more, multiscale or not; of a multiscale layer the full resolution is taken.
    point : sequence of float
        World coordinates, one for each dimension of the viewer, which may be more than the layer has.
    is_stack : bool
        All planes along the last axis before rows and columns, instead of a single one.
    has_channels : bool
        The first axis is one of channels, which are taken together; else it is one of planes.

    Raises
    ------
    ImageError
        If the layer has fewer than two axes (three for a stack), or `point` lies before its first or after its last
        plane.
    """
    if layer.ndim < 2:
        raise ImageError(f"a plane has rows and columns, but layer {layer.name!r} has {layer.ndim}; choose an image.")
    kept = list(range(int(has_channels), layer.ndim))
    if is_stack and len(kept) < 3:
        raise ImageError(f"layer {layer.name!r} is a single plane; untick 'all planes', or choose a stack.")
    data = layer.data[0] if layer.multiscale else layer.data
    planes = tuple(data.shape[i] for i in kept[:-2])
    position = np.asarray(layer.world_to_data(tuple(point)[-layer.ndim :]))[kept[:-2]]
    index = tuple(int(i) for i in np.round(position).astype(int))
    if any(not 0 <= i < n for i, n in zip(index, planes, strict=True)):
        raise ImageError(
            f"layer {layer.name!r} has planes {planes}, and the viewer shows position {index} of it; "
            "move the sliders to a plane of this layer."
        )
    before = index[:-1] if is_stack else index
    first_plane = (*before, 0) if is_stack else index
    return ShownPlane(
        name=layer.name,
        pixels=data[(slice(None),) * has_channels + before] if before else data,
        axes="C" * has_channels + "Z" * is_stack + "YX" + "S" * layer.rgb,
        index=before,
        placement=placement_of(layer, kept, (*first_plane, 0, 0)),
    )


def labels_layer(labels: Any, plane: ShownPlane) -> LayerTuple:
    """A Labels layer that lies on the plane its labels were made from.

    Parameters
    ----------
    labels : array of shape (H, W), or (N, H, W) for a stack, int
        Numpy, dask or zarr; a lazy array stays lazy.
    plane : ShownPlane
        For a plane of a stack the layer is one plane thick and lies on that plane.
    """
    if plane.index:
        stacked = labels if isinstance(labels, np.ndarray) else da.asarray(labels)
        labels = stacked[(np.newaxis,) * len(plane.index)]
    return labels, {"name": f"{plane.name} objects", **plane.placement}, "labels"
