"""Boxes: half-open ranges of pixels, their overlap, and non-maximum suppression."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import ConfigError, PromptError
from napari_sam.geometry.suppression import iter_neighbours, survivors


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of whole pixels, half-open: columns `x0:x1`, rows `y0:y1`."""

    x0: int
    y0: int
    x1: int
    y1: int

    def __post_init__(self) -> None:
        for name in ("x0", "y0", "x1", "y1"):
            object.__setattr__(self, name, _whole_number(name, getattr(self, name)))
        if self.x1 < self.x0 or self.y1 < self.y0:
            raise PromptError(
                f"a box needs x0 <= x1 and y0 <= y1, got ({self.x0}, {self.y0}, {self.x1}, {self.y1}); "
                "give its corners as (x0, y0, x1, y1)."
            )

    @classmethod
    def of_size(cls, size: tuple[int, int]) -> Box:
        """The box of a whole image of shape `size` (H, W)."""
        return cls(0, 0, size[1], size[0])

    @classmethod
    def from_xyxy(cls, xyxy: ArrayLike) -> Box:
        """The smallest box of whole pixels that holds `xyxy` (x0, y0, x1, y1), which may be fractional."""
        corners = np.asarray(xyxy, dtype=np.float64)
        if corners.shape != (4,) or not np.isfinite(corners).all():
            raise PromptError(f"a box must be four finite numbers (x0, y0, x1, y1), got {xyxy!r}; pass a single box.")
        x0, y0 = np.floor(corners[:2])
        x1, y1 = np.ceil(corners[2:])
        return cls(int(x0), int(y0), int(x1), int(y1))

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width): the shape of the pixels it cuts out."""
        return self.height, self.width

    @property
    def area(self) -> int:
        return self.width * self.height

    @property
    def is_empty(self) -> bool:
        return self.area == 0

    @property
    def center_xy(self) -> tuple[float, float]:
        """Middle between its edges; in pixel centres this is half a pixel further left and up."""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    @property
    def slices(self) -> tuple[slice, slice]:
        """(rows, columns), to index an array with."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def contains(self, x: float, y: float) -> bool:
        """Whether (x, y) lies in it; the lower edges belong to it, the upper ones do not."""
        return self.x0 <= x < self.x1 and self.y0 <= y < self.y1

    def contains_box(self, other: Box) -> bool:
        """Whether all of `other` lies in it."""
        return self.x0 <= other.x0 and self.y0 <= other.y0 and other.x1 <= self.x1 and other.y1 <= self.y1

    def intersects(self, other: Box) -> bool:
        """Whether the two share at least one pixel."""
        return max(self.x0, other.x0) < min(self.x1, other.x1) and max(self.y0, other.y0) < min(self.y1, other.y1)

    def shifted(self, dx: int, dy: int) -> Box:
        return Box(self.x0 + dx, self.y0 + dy, self.x1 + dx, self.y1 + dy)

    def grown(self, px: int) -> Box:
        """It with `px` more on each side; with negative `px` it shrinks, at most to nothing around its middle."""
        x0, x1 = _grown_range(self.x0, self.x1, px)
        y0, y1 = _grown_range(self.y0, self.y1, px)
        return Box(x0, y0, x1, y1)

    def clipped(self, other: Box) -> Box:
        """Its part inside `other`; an empty box where they do not meet."""
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        return Box(x0, y0, max(x0, min(self.x1, other.x1)), max(y0, min(self.y1, other.y1)))

    def joined(self, other: Box) -> Box:
        """The smallest box around both."""
        x0, y0 = min(self.x0, other.x0), min(self.y0, other.y0)
        return Box(x0, y0, max(self.x1, other.x1), max(self.y1, other.y1))

    def as_xyxy(self) -> NDArray[np.int64]:
        """(x0, y0, x1, y1) as an array of shape (4,)."""
        return np.array([self.x0, self.y0, self.x1, self.y1], dtype=np.int64)


def as_boxes(boxes: ArrayLike) -> NDArray[np.float64]:
    """`boxes` as a float array of shape (N, 4), an empty list as (0, 4); PromptError for anything else."""
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0 and array.ndim <= 2:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise PromptError(
            f"boxes must have shape (N, 4) as (x0, y0, x1, y1) pixels, got {array.shape}; "
            "a single box is [[x0, y0, x1, y1]]."
        )
    return array


def box_iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of each box of `a` with each of `b`.

    Parameters
    ----------
    a : array of shape (N, 4)
    b : array of shape (M, 4)
        Half-open XYXY, pixels.

    Returns
    -------
    ndarray of shape (N, M), float64
        In [0, 1]; 0 where both boxes are empty.

    Raises
    ------
    PromptError
        If `a` or `b` is not (N, 4).

    Examples
    --------
    >>> box_iou([[0, 0, 2, 2]], [[1, 0, 3, 2], [5, 5, 6, 6]])
    array([[0.33333333, 0.        ]])
    """
    rows, columns = as_boxes(a)[:, None], as_boxes(b)[None]
    return pair_iou(rows, columns)


def nms(boxes: ArrayLike, scores: ArrayLike, iou_thresh: float) -> NDArray[np.intp]:
    """Indices of the boxes left by greedy non-maximum suppression, best first.

    The box with the best score stays and removes all boxes whose IoU with it is above `iou_thresh`, then the next
    best of those left, and so on (Kirillov et al. 2023, appendix B). Among equal scores the lower index wins.
    Empty boxes neither remove nor are removed.

    Parameters
    ----------
    boxes : array of shape (N, 4)
        Half-open XYXY.
    scores : array of shape (N,)
    iou_thresh : float
        In [0, 1].

    Returns
    -------
    ndarray of shape (K,), intp

    Raises
    ------
    PromptError
        If the shapes do not fit.
    ConfigError
        If `iou_thresh` lies outside [0, 1].

    Examples
    --------
    >>> nms([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]], [0.5, 0.9, 0.7], 0.7)
    array([1, 2])
    """
    checked, weights = as_boxes(boxes), np.asarray(scores, dtype=np.float64)
    check_iou_thresh(iou_thresh)
    if weights.shape != checked.shape[:1]:
        raise PromptError(f"need one score a box, shape ({len(checked)},), got {weights.shape}; check both arrays.")
    order = np.argsort(-weights, kind="stable")
    ranked = checked[order]

    def in_conflict(pairs: NDArray[np.intp]) -> NDArray[np.bool_]:
        return pair_iou(ranked[pairs[:, 0]], ranked[pairs[:, 1]]) > iou_thresh

    kept: NDArray[np.intp] = order[survivors(ranked, in_conflict, iou_thresh)]
    return kept


def overlapping_pairs(boxes: ArrayLike) -> NDArray[np.intp]:
    """All pairs of boxes that share a pixel: (P, 2) indices, the lower first."""
    return np.concatenate([np.empty((0, 2), dtype=np.intp), *iter_neighbours(as_boxes(boxes), min_iou=0.0)])


def check_iou_thresh(iou_thresh: float) -> None:
    if not 0.0 <= iou_thresh <= 1.0:
        raise ConfigError(f"an IoU threshold must lie in [0, 1], got {iou_thresh}; 0.7 is usual.")


def pair_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of boxes `a` (..., 4) with boxes `b` (..., 4), broadcast against each other; 0 where both are empty."""
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    shared = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    union = _area(a) + _area(b) - shared
    iou: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    area: NDArray[np.float64] = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return area


def _grown_range(start: int, stop: int, px: int) -> tuple[int, int]:
    if stop - start + 2 * px < 0:
        middle = (start + stop) // 2
        return middle, middle
    return start - px, stop + px


def _whole_number(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise PromptError(
            f"a box is a range of whole pixels, got {name} = {value!r}; round it, or use Box.from_xyxy."
        ) from None
