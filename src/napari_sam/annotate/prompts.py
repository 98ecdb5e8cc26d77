"""What a user points at: clicks, scribbles, boxes and painted masks, in full-resolution pixels of one plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import PromptError
from napari_sam.geometry import Box, Mask
from napari_sam.images.roi import PolygonRoi

Plane: TypeAlias = tuple[int, ...]
"""Index on the axes before rows and columns: () for a 2-D image, (z,) or (t, z) for stacks."""

SCRIBBLE_SPACING_PX = 16.0
"""About how far apart the points of a scribble are, in pixels of what the model sees."""
_SCRIBBLE_POINTS = 16


@dataclass(frozen=True, slots=True)
class Click:
    """A point on the object, or on what does not belong to it."""

    xy: tuple[float, float]
    positive: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "xy", _pairs([self.xy], "a click")[0])
        object.__setattr__(self, "positive", bool(self.positive))


@dataclass(frozen=True, slots=True)
class Scribble:
    """A drawn line, all of it on the object or all of it off."""

    path_xy: tuple[tuple[float, float], ...]
    positive: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "path_xy", _pairs(self.path_xy, "a scribble"))
        object.__setattr__(self, "positive", bool(self.positive))

    def points_xy(self, spacing_px: float = SCRIBBLE_SPACING_PX, most: int = _SCRIBBLE_POINTS) -> NDArray[np.float64]:
        """Points along the line, both ends among them, at even distances of about `spacing_px`; (N, 2), N <= `most`."""
        path = np.array(self.path_xy)
        along = np.concatenate([[0.0], np.hypot(*np.diff(path, axis=0).T).cumsum()])
        count = int(np.clip(round(along[-1] / spacing_px) + 1, 2, max(2, most))) if along[-1] > 0 else 1
        at = np.linspace(0.0, along[-1], count)
        return np.stack([np.interp(at, along, path[:, 0]), np.interp(at, along, path[:, 1])], axis=1)


@dataclass(frozen=True, slots=True)
class BoxPrompt:
    """A box around the object, half-open; fractional corners are welcome."""

    box_xyxy: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        corners = np.asarray(self.box_xyxy, dtype=np.float64)
        if corners.shape != (4,) or not np.isfinite(corners).all() or not (corners[:2] < corners[2:]).all():
            raise PromptError(
                f"a box must be finite (x0, y0, x1, y1) with x0 < x1 and y0 < y1, got {self.box_xyxy}; "
                "drag from one corner of the object to the opposite one."
            )
        object.__setattr__(self, "box_xyxy", tuple(corners.tolist()))


@dataclass(frozen=True, slots=True)
class MaskPrompt:
    """A rough mask that the model makes precise: painted, or a filled polygon."""

    mask: Mask
    """In the plane's frame."""

    def __post_init__(self) -> None:
        if self.mask.is_empty:
            raise PromptError("a mask prompt needs at least one pixel, got an empty mask; paint on the object first.")


Prompt: TypeAlias = Click | Scribble | BoxPrompt | MaskPrompt

_KINDS: dict[type[Prompt], str] = {Click: "point", Scribble: "scribble", BoxPrompt: "box", MaskPrompt: "mask"}


def prompt_kind(prompt: Prompt) -> str:
    """What kind of prompt it is, in the word that masks and tables have for it."""
    return _KINDS[type(prompt)]


def polygon_mask(path_xy: ArrayLike, frame_size: tuple[int, int]) -> Mask:
    """The pixels whose centre lies inside a polygon.

    Parameters
    ----------
    path_xy : array of shape (N, 2)
        Corners as (x, y), at least three; whole numbers are pixel centres. The polygon closes itself, and where it
        crosses itself the even-odd rule holds.
    frame_size : (H, W)
        What lies outside is left out.

    Raises
    ------
    PromptError
        If there are fewer than three corners or they are not finite.
    """
    corners = np.array(_pairs(path_xy, "a polygon")) + 0.5
    if len(corners) < 3:
        raise PromptError(f"a polygon needs at least three corners, got {len(corners)}; click around the object.")
    window = Box.from_xyxy([*corners.min(axis=0), *corners.max(axis=0)]).clipped(Box.of_size(frame_size))
    if window.is_empty:
        return Mask.from_window(np.zeros((0, 0), np.bool_), Box(0, 0, 0, 0), frame_size, prompt="polygon")
    return Mask.from_window(PolygonRoi(((corners,),)).mask(window), window, frame_size, prompt="polygon")


def extent_of(prompt: Prompt) -> Box:
    """The smallest box of whole pixels that holds a prompt; a click has the box of its pixel."""
    if isinstance(prompt, MaskPrompt):
        return prompt.mask.box
    if isinstance(prompt, BoxPrompt):
        return Box.from_xyxy(prompt.box_xyxy)
    points = np.array([prompt.xy] if isinstance(prompt, Click) else prompt.path_xy)
    x0, y0 = np.floor(points.min(axis=0) + 0.5).astype(int).tolist()
    x1, y1 = np.floor(points.max(axis=0) + 0.5).astype(int).tolist()
    return Box(x0, y0, x1 + 1, y1 + 1)


def check_prompt(prompt: Prompt, frame_size: tuple[int, int]) -> None:
    """Refuse a prompt that has no part in a frame (H, W).

    Raises
    ------
    PromptError
        If it lies wholly outside, or a mask is of another frame.
    """
    height, width = frame_size
    if isinstance(prompt, MaskPrompt) and prompt.mask.frame_size != frame_size:
        raise PromptError(
            f"a mask prompt must be in the frame {frame_size} (H, W) of the plane, got {prompt.mask.frame_size}; "
            "see Mask.shifted."
        )
    extent = extent_of(prompt)
    if not extent.intersects(Box.of_size(frame_size)):
        raise PromptError(
            f"this prompt lies outside the image: its pixels are x {extent.x0}:{extent.x1}, y {extent.y0}:{extent.y1}, "
            f"the image is {width} wide and {height} high; point inside it."
        )


def _pairs(path_xy: ArrayLike, what: str) -> tuple[tuple[float, float], ...]:
    points = np.asarray(path_xy, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not np.isfinite(points).all():
        raise PromptError(f"{what} needs finite points (x, y) in pixels, got {path_xy!r:.200}.")
    return tuple((x, y) for x, y in points.tolist())
