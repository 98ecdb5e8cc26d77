"""What is drawn of objects that are not committed yet: pure functions from prompts and masks to points and pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from napari_sam.workflows.annotating.interactive import Box, BoxPrompt, Click, Mask, Prompt, Scribble

POSITIVE_COLOUR, NEGATIVE_COLOUR, ASIDE_COLOUR = "#2fd35d", "#ff4d4d", "#7fb2ff"
"""Green and red; symbols differ too, for who sees these two alike."""
CURRENT, UNSURE, ASIDE = 1, 2, 3
"""Values of the preview layer: the current object, a plane of it to look at, objects put aside."""

_PREVIEW_PX = 1 << 22
"""Pixels of the preview; a larger object is shown at every second, fourth, ... pixel."""

Plane = tuple[int, ...]
Coordinates = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """A mask to show."""

    plane: Plane
    mask: Mask
    value: int = CURRENT


@dataclass(frozen=True, slots=True, eq=False)
class Stamp:
    """Pixels of a small layer, and where it lies in the image."""

    pixels: np.ndarray[Any, Any]
    """uint8, as many axes as the labels."""
    origin: tuple[float, ...]
    """Pixel of the image that it begins with."""
    step: int = 1
    """Rows and columns of the image that one of it shows."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Prompts as points and outlines, in pixels of the labels' axes."""

    points: tuple[Coordinates, ...] = ()
    colours: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    outlines: tuple[tuple[Coordinates, ...], ...] = ()
    outline_types: tuple[str, ...] = ()
    outline_colours: tuple[str, ...] = ()

    @property
    def points_part(self) -> tuple[tuple[Any, ...], ...]:
        """All that a layer of points shows of it."""
        return self.points, self.colours, self.symbols

    @property
    def outlines_part(self) -> tuple[tuple[Any, ...], ...]:
        """All that a layer of outlines shows of it."""
        return self.outlines, self.outline_types, self.outline_colours

    def __add__(self, other: Marks) -> Marks:
        names = ("points", "colours", "symbols", "outlines", "outline_types", "outline_colours")
        return Marks(*((*getattr(self, name), *getattr(other, name)) for name in names))


def marks_of(plane: Plane, prompts: Iterable[Prompt]) -> Marks:
    """The marks of the prompts of one object in one plane."""
    marks = Marks()
    for prompt in prompts:
        marks = marks + _mark(plane, prompt)
    return marks


def outline_of(plane: Plane, box: Box, colour: str = ASIDE_COLOUR) -> Marks:
    """The outline of a box, such as that of an object put aside."""
    return _rectangle(plane, (box.x0, box.y0, box.x1, box.y1), colour)


def stroke_marks(plane: Plane, tool: str, path_xy: Sequence[tuple[float, float]], positive: bool) -> Marks:
    """A stroke while it is drawn."""
    colour = POSITIVE_COLOUR if positive else NEGATIVE_COLOUR
    if tool == "box":
        (x0, y0), (x1, y1) = path_xy[0], path_xy[-1]
        return _rectangle(plane, (min(x0, x1) + 0.5, min(y0, y1) + 0.5, max(x0, x1) + 0.5, max(y0, y1) + 0.5), colour)
    return _path(plane, path_xy, colour)


def stamp(previews: Sequence[Preview], frame_size: tuple[int, int], ndim: int) -> Stamp:
    """Small pixels that show masks: the box around them, coarser if it is large; later masks lie on top.

    Objects put aside are left out where they lie so far away that the current one would be shown coarser.
    """
    shown = [preview for preview in previews if not preview.mask.is_empty]
    nearest = [preview for preview in shown if preview.value != ASIDE]
    if nearest and _volume(shown, 1) > max(_PREVIEW_PX, _volume(nearest, 1)):
        shown = nearest
    if not shown:
        return Stamp(np.zeros((1,) * ndim, np.uint8), (0.0,) * ndim)
    planes = np.array([preview.plane for preview in shown], dtype=int).reshape(len(shown), ndim - 2)
    low, high = planes.min(axis=0), planes.max(axis=0)
    step = 1
    while _volume(shown, step) > _PREVIEW_PX:
        step *= 2
    reduced = (-(-frame_size[0] // step), -(-frame_size[1] // step))
    masks = [p.mask if step == 1 else p.mask.scaled(1 / step, 1 / step, reduced) for p in shown]
    around = _around([mask.box for mask in masks if not mask.is_empty] or [Box(0, 0, 1, 1)])
    pixels = np.zeros((*(high - low + 1), *around.size), np.uint8)
    for preview, mask in zip(shown, masks, strict=True):
        if not mask.is_empty:
            at = tuple(np.array(preview.plane, dtype=int) - low)
            pixels[(*at, *mask.box.shifted(-around.x0, -around.y0).slices)][mask.window(mask.box)] = preview.value
    return Stamp(pixels, (*map(float, low), float(around.y0 * step), float(around.x0 * step)), step)


def _volume(previews: Sequence[Preview], step: int) -> int:
    """Pixels of the box around masks, in all planes, at a reduction."""
    box = _around([preview.mask.box for preview in previews])
    planes = np.array([preview.plane for preview in previews], dtype=int).reshape(len(previews), -1)
    depth = int(np.prod(planes.max(axis=0) - planes.min(axis=0) + 1))
    return (box.width // step + 1) * (box.height // step + 1) * depth


def _around(boxes: Sequence[Box]) -> Box:
    return reduce(Box.joined, boxes)


def _mark(plane: Plane, prompt: Prompt) -> Marks:
    if isinstance(prompt, Click):
        colour = POSITIVE_COLOUR if prompt.positive else NEGATIVE_COLOUR
        return Marks(((*plane, prompt.xy[1], prompt.xy[0]),), (colour,), ("disc" if prompt.positive else "x",))
    if isinstance(prompt, Scribble):
        return _path(plane, prompt.path_xy, POSITIVE_COLOUR if prompt.positive else NEGATIVE_COLOUR)
    if isinstance(prompt, BoxPrompt):
        return _rectangle(plane, prompt.box_xyxy, POSITIVE_COLOUR)
    return outline_of(plane, prompt.mask.box, POSITIVE_COLOUR)


def _path(plane: Plane, path_xy: Sequence[tuple[float, float]], colour: str) -> Marks:
    points = tuple((*plane, y, x) for x, y in path_xy)
    # napari draws no path of one point.
    return Marks((), (), (), (points if len(points) > 1 else points * 2,), ("path",), (colour,))


def _rectangle(plane: Plane, xyxy: tuple[float, float, float, float], colour: str) -> Marks:
    # Edges of pixels lie half a pixel beside their centres, which are the whole numbers of a layer.
    x0, y0, x1, y1 = (value - 0.5 for value in xyxy)
    corners = tuple((*plane, y, x) for y, x in ((y0, x0), (y0, x1), (y1, x1), (y1, x0)))
    return Marks((), (), (), (corners,), ("rectangle",), (colour,))
