"""Prompts, checked once: points, boxes and masks in image pixels (paper, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import PromptError


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Prompts:
    """P prompt sets, each of which asks for one object. At least one field is given.

    Made by :func:`check_prompts` from user input; the code behind trusts them.
    """

    points_xy: NDArray[np.float64] | None = None
    """(P, N, 2) as (x, y), image pixels."""
    point_labels: NDArray[np.int64] | None = None
    """(P, N): 1 inside the object, 0 outside, -1 padding."""
    boxes_xyxy: NDArray[np.float64] | None = None
    """(P, 4) half-open, image pixels."""
    mask_logits: NDArray[np.float32] | None = None
    """(P, h, w), at the low resolution of the decoder's output."""

    def __len__(self) -> int:
        return next(len(v) for v in (self.points_xy, self.boxes_xyxy, self.mask_logits) if v is not None)


def check_prompts(
    image_size: tuple[int, int],
    mask_size: tuple[int, int],
    *,
    points_xy: ArrayLike | None = None,
    point_labels: ArrayLike | None = None,
    boxes_xyxy: ArrayLike | None = None,
    mask_logits: ArrayLike | None = None,
) -> Prompts:
    """Prompts a user gave, as the P prompt sets they mean.

    Parameters
    ----------
    image_size : (H, W)
        Points must lie on its pixels; boxes are clipped to it.
    mask_size : (h, w)
        What a mask prompt must measure.
    points_xy : array of shape (P, N, 2) or (N, 2), optional
        (x, y), whole numbers are pixel centres; (N, 2) is one prompt set.
    point_labels : array of shape (P, N) or (N,), optional
        1 inside the object, 0 outside, -1 for padding of sets with fewer points; all 1 if left out.
    boxes_xyxy : array of shape (P, 4) or (4,), optional
    mask_logits : array of shape (P, h, w), (P, 1, h, w) or (h, w), optional
        `low_res_logits` of an earlier prediction.

    Raises
    ------
    PromptError
        If nothing is given, shapes or batch sizes do not fit, or a value is impossible; it names the prompt.
    """
    if points_xy is None and point_labels is not None:
        raise PromptError("point_labels came without points_xy; give both, one label a point.")
    points = None if points_xy is None else _points(points_xy)
    labels = None if points is None else _labels(point_labels, points)
    boxes = None if boxes_xyxy is None else _boxes(boxes_xyxy, image_size)
    masks = None if mask_logits is None else _masks(mask_logits, mask_size)
    _check_batch_sizes({"points_xy": points, "boxes_xyxy": boxes, "mask_logits": masks})
    if points is not None and labels is not None:
        if boxes is None and masks is None:
            _check_not_only_padding(labels)
        points = np.where(labels[..., None] == -1, 0.0, points)
        _check_inside(points, labels, image_size)
    return Prompts(points_xy=points, point_labels=labels, boxes_xyxy=boxes, mask_logits=masks)


def _points(points_xy: ArrayLike) -> NDArray[np.float64]:
    points = _numbers(points_xy, "points_xy")
    if points.ndim not in (2, 3) or points.shape[-1] != 2:
        raise PromptError(
            f"points_xy must have shape (N, 2), or (P, N, 2) for P objects, as (x, y) pixels, got {points.shape}; "
            f"a single click is [[x, y]]."
        )
    return points if points.ndim == 3 else points[None]


def _labels(point_labels: ArrayLike | None, points: NDArray[np.float64]) -> NDArray[np.int64]:
    if point_labels is None:
        return np.ones(points.shape[:2], dtype=np.int64)
    labels = _numbers(point_labels, "point_labels")
    labels = labels[None] if labels.ndim == 1 else labels
    if labels.shape != points.shape[:2]:
        raise PromptError(
            f"point_labels must have shape {points.shape[:2]}, one label for each point of points_xy "
            f"(P, N) = {points.shape[:2]}, got {labels.shape}."
        )
    wrong = np.setdiff1d(labels, (1, 0, -1))  # NaN is found as well
    if len(wrong):
        raise PromptError(f"point_labels must be 1 (inside), 0 (outside) or -1 (padding), got {wrong[0]:g}.")
    return labels.astype(np.int64)


def _boxes(boxes_xyxy: ArrayLike, image_size: tuple[int, int]) -> NDArray[np.float64]:
    boxes = _numbers(boxes_xyxy, "boxes_xyxy")
    boxes = boxes[None] if boxes.ndim == 1 and boxes.size else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise PromptError(
            f"boxes_xyxy must have shape (P, 4) as (x0, y0, x1, y1) pixels, got {boxes.shape}; "
            f"a single box is [x0, y0, x1, y1]."
        )
    height, width = image_size
    for i in np.flatnonzero(~np.isfinite(boxes).all(axis=1))[:1]:
        raise PromptError(f"box {i} holds NaN or infinity: {_text(boxes[i])}.")
    for i in np.flatnonzero((boxes[:, 2:] <= boxes[:, :2]).any(axis=1))[:1]:
        raise PromptError(f"box {i} is empty: {_text(boxes[i])} as (x0, y0, x1, y1) needs x0 < x1 and y0 < y1.")
    for i in np.flatnonzero(((boxes[:, 2:] <= 0) | (boxes[:, :2] >= (width, height))).any(axis=1))[:1]:
        raise PromptError(f"box {i} at {_text(boxes[i])} lies outside the image of {width} x {height} pixels (W x H).")
    return np.clip(boxes, 0, [width, height, width, height])


def _masks(mask_logits: ArrayLike, mask_size: tuple[int, int]) -> NDArray[np.float32]:
    given = _numbers(mask_logits, "mask_logits")
    masks = given[None] if given.ndim == 2 else given
    masks = masks[:, 0] if masks.ndim == 4 and masks.shape[1] == 1 else masks
    if masks.ndim != 3 or masks.shape[1:] != mask_size:
        h, w = mask_size
        raise PromptError(
            f"mask_logits must have shape (P, {h}, {w}) or ({h}, {w}), got {given.shape}; take one mask of each prompt "
            f"from Prediction.low_res_logits, such as prediction.low_res_logits[:, 0]."
        )
    for i in np.flatnonzero(~np.isfinite(masks).all(axis=(1, 2)))[:1]:
        raise PromptError(f"mask_logits of prompt set {i} hold NaN or infinity.")
    return masks.astype(np.float32)


def _check_batch_sizes(given: dict[str, NDArray[np.float64] | NDArray[np.float32] | None]) -> None:
    sizes = {name: len(value) for name, value in given.items() if value is not None}
    if not sizes:
        raise PromptError("no prompt was given; pass points_xy, boxes_xyxy or mask_logits.")
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise PromptError(
            f"prompts must be for the same number of objects P, but {found}; (N, 2) points are one object."
        )


def _check_not_only_padding(labels: NDArray[np.int64]) -> None:
    for i in np.flatnonzero((labels == -1).all(axis=1))[:1]:
        raise PromptError(f"prompt set {i} is empty: it has no point that is not padding (-1), and no box or mask.")


def _check_inside(points: NDArray[np.float64], labels: NDArray[np.int64], image_size: tuple[int, int]) -> None:
    height, width = image_size
    for p, n in np.argwhere(~np.isfinite(points).all(axis=2))[:1]:
        raise PromptError(f"point {n} of prompt set {p} is {_text(points[p, n])}: NaN or infinity is no place.")
    # A pixel reaches half a pixel to all sides of its centre, which lies at whole numbers.
    inside = ((points >= -0.5) & (points <= (width - 0.5, height - 0.5))).all(axis=2) | (labels == -1)
    for p, n in np.argwhere(~inside)[:1]:
        raise PromptError(
            f"point {n} of prompt set {p} at {_text(points[p, n])} lies outside the image: x must be in "
            f"[-0.5, {width - 0.5}] and y in [-0.5, {height - 0.5}], in the order (x, y)."
        )


def _numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name} must be an array of numbers with equally long rows: {error}.") from error


def _text(values: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"
