"""Masks as run lengths in a box: they cost their outline, not their frame, and move by moving the box."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import ConfigError, ImageError
from napari_sam.geometry.boxes import Box
from napari_sam.geometry.rle import Rle, counts_to_text
from napari_sam.geometry.runs import Strips, draw, frame_counts

Edge = Literal["left", "top", "right", "bottom"]
RegionMode = Literal["holes", "islands"]
EMPTY_BOX = Box(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Mask:
    """One object: its pixels, where they lie, and what the model said of it."""

    rle: Rle
    """The pixels inside `box` only, so its size is the box's."""
    box: Box
    """Tight box in the frame; (0, 0, 0, 0) for a mask without pixels."""
    frame_size: tuple[int, int]
    """(H, W) of the image or tile the box lies in."""
    predicted_iou: float = 1.0
    """The model's own rating; 1 for a mask that was given."""
    stability_score: float = 1.0
    """IoU of the mask with itself when its threshold moves; 1 for a mask that was given."""
    point_xy: tuple[float, float] | None = None
    """The point it was prompted with, if any."""
    crop_box: Box = EMPTY_BOX
    """The crop of the frame the model looked at; an empty one stands for the whole frame."""
    prompt: str = "mask"
    """What asked for it: "grid", "proposal", "reprompt", "point", "box", ..."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame_size", (int(self.frame_size[0]), int(self.frame_size[1])))
        if (self.rle.height, self.rle.width) != self.box.size:
            raise ImageError(
                f"a mask's run lengths cover its box: got a {self.rle.height} x {self.rle.width} mask for {self.box}; "
                "use Mask.from_array for a mask of the whole frame."
            )
        if not Box.of_size(self.frame_size).contains_box(self.box):
            raise ImageError(
                f"a mask must lie in its frame {self.frame_size} (H, W), got {self.box}; see Mask.cropped."
            )
        if self.crop_box.is_empty:
            object.__setattr__(self, "crop_box", Box.of_size(self.frame_size))

    @classmethod
    def from_array(cls, mask: ArrayLike, **fields: Any) -> Mask:
        """The mask of a whole frame, (H, W); `fields` are `predicted_iou`, `point_xy` and so on."""
        pixels = np.asarray(mask)
        if pixels.ndim != 2:
            raise ImageError(f"a mask must have shape (H, W), got {pixels.shape}; pass one mask at a time.")
        height, width = pixels.shape
        return cls.from_window(pixels, Box(0, 0, width, height), (height, width), **fields)

    @classmethod
    def from_window(cls, pixels: ArrayLike, window: Box, frame_size: tuple[int, int], **fields: Any) -> Mask:
        """The mask whose pixels inside `window` are `pixels` and which has none outside.

        Parameters
        ----------
        pixels : array of the window's size, bool
        window : Box
            In the frame; need not be tight, the mask's own box will be.
        frame_size : (H, W)

        Raises
        ------
        ImageError
            If `pixels` has another size than `window`, or the window leaves the frame.
        """
        array = np.asarray(pixels).astype(bool, copy=False)
        if array.shape != window.size:
            raise ImageError(f"the window {window} has {window.size} pixels (H, W), got a mask of {array.shape}.")
        tight = tight_box(array)
        box = tight if tight.is_empty else tight.shifted(window.x0, window.y0)
        return cls(Rle.encode(array[tight.slices]), box, frame_size, **fields)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.rle.area

    @property
    def is_empty(self) -> bool:
        return self.box.is_empty

    @property
    def box_xyxy(self) -> NDArray[np.int64]:
        return self.box.as_xyxy()

    @property
    def crop_box_xyxy(self) -> NDArray[np.int64]:
        return self.crop_box.as_xyxy()

    @property
    def centroid_xy(self) -> tuple[float, float]:
        """Mean of its pixel centres; (nan, nan) without pixels."""
        strips = self._strips()
        if self.is_empty:
            return math.nan, math.nan
        x = np.average(strips.column, weights=strips.lengths)
        y = np.average((strips.row0 + strips.row1 - 1) / 2, weights=strips.lengths)
        return float(x), float(y)

    def to_array(self) -> NDArray[np.bool_]:
        """All of the frame, shape (H, W); for a huge one ask for a `window`."""
        return self.window(Box.of_size(self.frame_size))

    def window(self, box: Box) -> NDArray[np.bool_]:
        """The part of the frame in `box`, bool of the box's size; outside the frame there is nothing."""
        return draw(self._strips(), box)

    def to_coco_rle(self) -> dict[str, Any]:
        """COCO run lengths of the whole frame, made from the runs alone: `{"size": [H, W], "counts": text}`.

        pycocotools itself reads frames of fewer than 2 ** 32 pixels; the text form has no such limit.
        """
        counts = frame_counts(self._strips(), Box.of_size(self.frame_size))
        return {"size": list(self.frame_size), "counts": counts_to_text(counts)}

    def shifted(self, dx: int, dy: int, frame_size: tuple[int, int]) -> Mask:
        """The same object in a frame of `frame_size`, in which our frame begins at (dx, dy)."""
        point = None if self.point_xy is None else (self.point_xy[0] + dx, self.point_xy[1] + dy)
        box = EMPTY_BOX if self.is_empty else self.box.shifted(dx, dy)
        return replace(self, box=box, frame_size=frame_size, point_xy=point, crop_box=self.crop_box.shifted(dx, dy))

    def cropped(self, window: Box) -> Mask:
        """Its part inside `window` of the frame, as a mask whose frame is that window."""
        part = self.box.clipped(window)
        crop = self.crop_box.clipped(window)
        cut = Mask.from_window(self.window(part), part.shifted(-window.x0, -window.y0), window.size)
        return replace(
            self,
            rle=cut.rle,
            box=cut.box,
            frame_size=window.size,
            point_xy=None if self.point_xy is None else (self.point_xy[0] - window.x0, self.point_xy[1] - window.y0),
            crop_box=EMPTY_BOX if crop.is_empty else crop.shifted(-window.x0, -window.y0),
        )

    def scaled(self, factor_y: float, factor_x: float, frame_size: tuple[int, int]) -> Mask:
        """It in a frame resized by the two factors, nearest neighbour.

        Each new pixel takes the old pixel its centre falls in. A mask thinner than 1 / factor may lose all its pixels.

        Raises
        ------
        ConfigError
            If a factor is not positive.
        """
        if factor_y <= 0 or factor_x <= 0:
            raise ConfigError(f"scale factors must be positive, got {factor_y} and {factor_x}; 0.5 halves the size.")
        rows = _sampled_range(self.box.y0, self.box.y1, factor_y, frame_size[0])
        columns = _sampled_range(self.box.x0, self.box.x1, factor_x, frame_size[1])
        pixels = self.rle.decode()[
            _source_of(rows, factor_y, self.box.y0, self.box.y1)[:, None],
            _source_of(columns, factor_x, self.box.x0, self.box.x1)[None],
        ]
        new = Mask.from_window(pixels, Box(columns.start, rows.start, columns.stop, rows.stop), frame_size)
        return replace(
            self,
            rle=new.rle,
            box=new.box,
            frame_size=frame_size,
            point_xy=_scaled_point(self.point_xy, factor_y, factor_x),
            crop_box=_scaled_box(self.crop_box, factor_y, factor_x).clipped(Box.of_size(frame_size)),
        )

    def _strips(self) -> Strips:
        return Strips.of([self.rle], [self.box])


def tight_box(mask: NDArray[np.bool_]) -> Box:
    """The smallest box around the pixels of `mask` (H, W); (0, 0, 0, 0) without pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return EMPTY_BOX
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def remove_small_regions(mask: ArrayLike, area_px: float, mode: RegionMode) -> tuple[NDArray[np.bool_], bool]:
    """`mask` with its small holes filled or its small islands removed.

    The clean-up after automatic mask generation (Kirillov et al. 2023, appendix B). Regions are 8-connected.

    Parameters
    ----------
    mask : array of shape (H, W), bool
    area_px : float
        Regions with fewer pixels go.
    mode : "holes" or "islands"
        Holes are regions outside the mask, also those at the frame's edge. If every island is small, the largest stays.

    Returns
    -------
    mask : ndarray of shape (H, W), bool
    changed : bool

    Raises
    ------
    ConfigError
        If `mode` is another word.
    ImageError
        If `mask` is not 2-D.
    """
    from scipy import ndimage  # only here: the rest of geometry needs numpy alone

    pixels = np.asarray(mask).astype(bool, copy=False)
    if mode not in get_args(RegionMode):
        raise ConfigError(f"mode must be one of {', '.join(get_args(RegionMode))}, got {mode!r}.")
    if pixels.ndim != 2:
        raise ImageError(f"a mask must have shape (H, W), got {pixels.shape}; clean one mask at a time.")
    regions, n = ndimage.label(~pixels if mode == "holes" else pixels, structure=np.ones((3, 3)))
    sizes = np.bincount(regions.ravel(), minlength=n + 1)[1:]
    small = sizes < area_px
    if not small.any():
        return pixels, False
    if mode == "islands" and small.all():
        small[np.argmax(sizes)] = False
    is_small = np.concatenate([[False], small])[regions]
    return (pixels | is_small if mode == "holes" else pixels & ~is_small), True


def piece_at(mask: ArrayLike, row: int, column: int) -> NDArray[np.bool_]:
    """The 8-connected piece of `mask` that a pixel lies on.

    Parameters
    ----------
    mask : array of shape (H, W), bool
    row, column : int
        May lie outside the mask, or even the array: then it is the largest piece, the first of equally large ones.

    Returns
    -------
    ndarray of shape (H, W), bool

    Raises
    ------
    ImageError
        If `mask` is not 2-D.
    """
    from scipy import ndimage  # only here: the rest of geometry needs numpy alone

    pixels = np.asarray(mask).astype(bool, copy=False)
    if pixels.ndim != 2:
        raise ImageError(f"a mask must have shape (H, W), got {pixels.shape}; take the pieces of one mask at a time.")
    pieces, n = ndimage.label(pixels, structure=np.ones((3, 3)))
    if n < 2:
        return pixels
    is_inside = 0 <= row < pixels.shape[0] and 0 <= column < pixels.shape[1]
    chosen = int(pieces[row, column]) if is_inside else 0
    piece: NDArray[np.bool_] = pieces == (chosen or 1 + np.argmax(np.bincount(pieces.ravel())[1:]))
    return piece


def _sampled_range(start: int, stop: int, factor: float, limit: int) -> range:
    """New pixels whose centre falls into old pixels `start:stop`."""
    first = max(0, math.ceil(start * factor - 0.5))
    return range(first, max(first, min(limit, math.ceil(stop * factor - 0.5))))


def _source_of(new: range, factor: float, start: int, stop: int) -> NDArray[np.intp]:
    """Old pixel of each new one, counted from `start`."""
    old: NDArray[np.intp] = np.floor((np.arange(new.start, new.stop) + 0.5) / factor).astype(np.intp)
    return np.clip(old - start, 0, max(0, stop - start - 1))


def _scaled_point(point_xy: tuple[float, float] | None, factor_y: float, factor_x: float) -> tuple[float, float] | None:
    if point_xy is None:
        return None
    return (point_xy[0] + 0.5) * factor_x - 0.5, (point_xy[1] + 0.5) * factor_y - 0.5


def _scaled_box(box: Box, factor_y: float, factor_x: float) -> Box:
    return Box.from_xyxy([box.x0 * factor_x, box.y0 * factor_y, box.x1 * factor_x, box.y1 * factor_y])
