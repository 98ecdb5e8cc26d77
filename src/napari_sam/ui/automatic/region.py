"""Which part of an image the user means: the current view, or what is drawn in a Shapes layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError

if TYPE_CHECKING:
    from napari.layers import Image, Shapes

WITH_AREA = ("rectangle", "polygon", "ellipse")
"""Kinds of shapes that have an inside."""
_ELLIPSE_CORNERS = 64
Corners = NDArray[np.float64]
"""(N, 2) as (x, y), in pixels of the image; whole numbers are the centres of pixels."""


def view_corners(image: Image) -> Corners | None:
    """The part of the image on the screen, as a rectangle; None if it is out of sight."""
    first, last = np.asarray(image.corner_pixels, dtype=float)[:, -2:]
    if image.multiscale:
        factors = np.asarray(image.downsample_factors, dtype=float)[image.data_level, -2:]
        first, last = first * factors, (last + 1) * factors - 1
    top, left = first - 0.5
    bottom, right = last + 0.5
    if bottom - top <= 1 or right - left <= 1:  # what napari says of an image it has not drawn
        return None
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def shapes_corners(shapes: Shapes, image: Image, plane_index: Sequence[int], point: Sequence[float]) -> list[Corners]:
    """Outlines of the shapes that lie on a plane of `image`, in its pixels.

    Parameters
    ----------
    shapes : napari.layers.Shapes
    image : napari.layers.Image
    plane_index : sequence of int
        Position on the image's axes before (row, column); channels, which come before these, do not matter.
    point : sequence of float
        World coordinates the viewer shows, for axes that the shapes do not have.

    Raises
    ------
    ImageError
        If no shape with an inside lies there.
    """
    found = []
    for vertices, kind in zip(shapes.data, shapes.shape_type, strict=True):
        if kind in WITH_AREA:
            corners = _to_pixels(_outline(np.asarray(vertices, dtype=float), kind), shapes, image, point)
            before = corners[:, corners.shape[1] - 2 - len(plane_index) : -2]
            if np.all(np.round(before) == np.asarray(plane_index)):
                found.append(corners[:, :-3:-1])  # (row, column) to (x, y)
    if not found:
        raise ImageError(
            f"layer {shapes.name!r} has no {', '.join(WITH_AREA[:-1])} or {WITH_AREA[-1]} on the plane of "
            f"{image.name!r} that is shown; draw one, or choose another region."
        )
    return found


def _outline(vertices: Corners, kind: str) -> Corners:
    if kind != "ellipse":
        return vertices
    # napari gives the corners of the rectangle around it, which may be turned.
    centre = vertices.mean(axis=0)
    across, along = (vertices[1] - vertices[0]) / 2, (vertices[3] - vertices[0]) / 2
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)[:, np.newaxis]
    outline: Corners = centre + np.cos(angles) * across + np.sin(angles) * along
    return outline


def _to_pixels(vertices: Corners, shapes: Shapes, image: Image, point: Sequence[float]) -> NDArray[Any]:
    world = [tuple(shapes.data_to_world(vertex)) for vertex in vertices]
    missing = image.ndim - shapes.ndim
    before = tuple(point)[-image.ndim :][:missing] if missing > 0 else ()
    return np.array([image.world_to_data((*before, *place[-image.ndim :])) for place in world], dtype=float)
