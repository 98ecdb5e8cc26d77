"""From what a user drew to prompts: strokes to boxes, scribbles and masks; a line to the parts it cuts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_sam.annotate.prompts import BoxPrompt, Click, MaskPrompt, Prompt, Scribble, polygon_mask
from napari_sam.errors import AnnotationError, PromptError
from napari_sam.geometry import Box, Mask

Tool = Literal["box", "scribble", "lasso", "brush"]
TOOLS: tuple[Tool, ...] = get_args(Tool)

_CUT_RADIUS_PX = 0.8
"""Half the width of a cut: the thinnest line that no two pixels touch across by a side."""


def prompt_of_stroke(
    tool: Tool,
    path_xy: Sequence[tuple[float, float]],
    frame_size: tuple[int, int],
    *,
    positive: bool = True,
    brush_radius_px: float = 5.0,
) -> Prompt:
    """What a stroke means with a tool.

    Parameters
    ----------
    tool : "box", "scribble", "lasso" or "brush"
    path_xy : sequence of (x, y)
        Full-resolution pixels of the plane, whole numbers at pixel centres.
    frame_size : (H, W)
    positive : bool
        For a scribble, and a click.
    brush_radius_px : float

    Raises
    ------
    PromptError
        If nothing of it lies in the image, or it has no extent.
    """
    if len(path_xy) == 1:
        return Click(path_xy[0], positive)
    if tool == "scribble":
        return Scribble(tuple(path_xy), positive)
    if tool == "lasso":
        return MaskPrompt(polygon_mask(path_xy, frame_size))
    if tool == "brush":
        return MaskPrompt(stroke_mask(path_xy, brush_radius_px, frame_size))
    (x0, y0), (x1, y1) = path_xy[0], path_xy[-1]
    height, width = frame_size
    # Pixel centres are whole numbers and a box is half-open: its edges lie half a pixel further.
    left, right = (float(np.clip(x + 0.5, 0, width)) for x in sorted((x0, x1)))
    top, bottom = (float(np.clip(y + 0.5, 0, height)) for y in sorted((y0, y1)))
    return BoxPrompt((left, top, right, bottom))


def stroke_mask(path_xy: ArrayLike, radius_px: float, frame_size: tuple[int, int]) -> Mask:
    """The pixels whose centre is no further than `radius_px` from a line through the points `path_xy` (N, 2)."""
    path = np.asarray(path_xy, dtype=np.float64).reshape(-1, 2)
    reach = radius_px + 1
    around = Box.from_xyxy([*(path.min(axis=0) - reach), *(path.max(axis=0) + reach)])
    box = around.clipped(Box.of_size(frame_size))
    if box.is_empty:
        raise PromptError("this stroke lies outside the image; draw on the image.")
    pixels = np.zeros(box.size, np.bool_)
    for start, end in pairwise(path if len(path) > 1 else np.repeat(path, 2, axis=0)):
        low, high = np.minimum(start, end) - reach, np.maximum(start, end) + reach
        part = Box.from_xyxy([*low, *high]).clipped(box)
        if not part.is_empty:
            near = _distance(part, start, end) <= radius_px
            pixels[part.shifted(-box.x0, -box.y0).slices] |= near
    return Mask.from_window(pixels, box, frame_size, prompt="brush")


def cut_parts(mask: Mask, path_xy: ArrayLike) -> list[Mask]:
    """The parts that a drawn line cuts a mask into, the largest first; each pixel of the mask is in exactly one.

    Raises
    ------
    AnnotationError
        If the line does not cut it.
    """
    box = mask.box
    pixels = mask.window(box)
    line = stroke_mask(path_xy, _CUT_RADIUS_PX, mask.frame_size).window(box)
    before = ndimage.label(pixels)[1]
    parts, count = ndimage.label(pixels & ~line)
    if count <= before:
        raise AnnotationError(
            "the line does not cut this object in two; draw it right across, from outside to outside."
        )
    # The pixels under the line go to the part that is nearest.
    nearest = ndimage.distance_transform_edt(parts == 0, return_distances=False, return_indices=True)
    whole = np.where(pixels, parts[tuple(nearest)], 0)
    areas = np.bincount(whole.ravel(), minlength=count + 1)[1:]
    return [Mask.from_window(whole == i + 1, box, mask.frame_size) for i in np.argsort(-areas, kind="stable").tolist()]


def boxes_of_shapes(shapes: Iterable[ArrayLike]) -> Iterator[tuple[tuple[int, ...], tuple[float, float, float, float]]]:
    """(plane, (x0, y0, x1, y1)) of shapes given by their corners (N, ndim), as (..., row, column) pixel centres."""
    for shape in shapes:
        corners = np.asarray(shape, dtype=np.float64)
        low, high = corners.min(axis=0), corners.max(axis=0)
        plane = tuple(int(i) for i in np.round((low[:-2] + high[:-2]) / 2))
        yield plane, (float(low[-1] + 0.5), float(low[-2] + 0.5), float(high[-1] + 0.5), float(high[-2] + 0.5))


def boxes_of_labels(labels: NDArray[Any]) -> list[tuple[float, float, float, float]]:
    """(x0, y0, x1, y1) of each object of a label image (H, W)."""
    values, compact = np.unique(labels, return_inverse=True)
    numbers = compact.reshape(labels.shape) + int(0 not in values)
    found = (place for place in ndimage.find_objects(numbers) if place is not None)
    return [(float(x.start), float(y.start), float(x.stop), float(y.stop)) for y, x in found]


def _distance(box: Box, start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each pixel centre of a box to a piece of a line."""
    y, x = np.ogrid[box.y0 : box.y1, box.x0 : box.x1]
    along = end - start
    length2 = float(along @ along)
    at = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length2, 0, 1) if length2 else 0.0
    distance: NDArray[np.float64] = np.hypot(x - start[0] - at * along[0], y - start[1] - at * along[1])
    return distance
