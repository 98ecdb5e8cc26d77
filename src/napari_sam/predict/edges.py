"""Edges of everything in one image, from masks of everything (Kirillov et al. 2023, section 7.2 and appendix D.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.special import expit

from napari_sam.errors import ImageError
from napari_sam.geometry import Box, nms, point_grid, tight_box
from napari_sam.predict.config import EdgeConfig, Precision
from napari_sam.predict.decoding import iter_answers
from napari_sam.predict.embedding import check_image, embed_image
from napari_sam.predict.prompts import Prompts
from napari_sam.predict.upsampling import LogitUpsampler

if TYPE_CHECKING:
    from napari_sam.model.loading import SamModel

SMOOTHED_PX = 1.0
"""Standard deviation of the smoothing before edges are thinned: outlines of several masks of one object lie a pixel
apart and are one edge."""
TURNED_PX = 2.0
"""The same for the direction of an edge, which needs a wider view than its place."""
REACH_PX = 2
"""Around a mask: its outer boundary, and the neighbours that the Sobel filter sees there."""

_PLACES = np.indices((3, 3)).reshape(2, 9) - 1
_SOBEL = np.outer([1, 2, 1], [-1, 0, 1]) / 4
"""Gives 1 beside a step from 0 to 1."""
_GRADIENT = np.stack([_SOBEL.ravel(), _SOBEL.T.ravel()], axis=1).astype(np.float32)  # (9, 2)


def detect_edges(
    model: SamModel, image: np.ndarray, config: EdgeConfig | None = None, *, precision: Precision = "auto"
) -> NDArray[np.float32]:
    """How strong an edge is at each pixel of `image` (Kirillov et al. 2023, appendix D.2).

    A grid of points asks for masks, nothing is filtered but duplicates. Each mask gives the Sobel gradient of its
    probabilities on its outer boundary and 0 elsewhere; the largest over all masks counts. The result is brought to
    [0, 1] linearly and thinned. Memory is bounded by the outlines of the masks, never by masks times pixels.

    Parameters
    ----------
    model : SamModel
    image : ndarray of shape (H, W) or (H, W, 3), uint8
    config : EdgeConfig, optional
    precision : "auto" or "fp32"
        "auto" computes in 16 bits where that is faster.

    Returns
    -------
    ndarray of shape (H, W), float32
        In [0, 1]; all 0 where no mask has an outline inside the image.

    Raises
    ------
    ImageError
        If `image` is not a gray or RGB uint8 image.
    """
    strength = edge_strength(model, image, config, precision=precision)
    low, high = float(strength.min()), float(strength.max())
    return (strength - low) / (high - low) if high > low else np.zeros_like(strength)


def edge_strength(
    model: SamModel, image: np.ndarray, config: EdgeConfig | None = None, *, precision: Precision = "auto"
) -> NDArray[np.float32]:
    """:func:`detect_edges` before it is brought to [0, 1]: what tiles of one image have in common."""
    config = config or EdgeConfig()
    check_image(image)
    strength = np.zeros(image.shape[:2], dtype=np.float32)
    outlines = list(_iter_outlines(model, image, config, precision))
    kept = nms([o.box.as_xyxy() for o in outlines], [o.predicted_iou for o in outlines], config.box_nms_thresh)
    flat = strength.reshape(-1)
    for outline in (outlines[i] for i in kept):
        # An outline has each pixel once, so nothing is lost by this plain assignment.
        flat[outline.pixels] = np.maximum(flat[outline.pixels], outline.gradient)
    return thin_edges(strength) if config.thin else strength


@dataclass(frozen=True, slots=True, eq=False)
class _Outline:
    """The outer boundary of one mask."""

    box: Box
    """Of the mask."""
    predicted_iou: float
    pixels: NDArray[np.int64]
    """(K,) places in the raveled image, next to the mask and outside of it."""
    gradient: NDArray[np.float32]
    """(K,) magnitude of the Sobel gradient of the mask's probabilities there."""


def _iter_outlines(model: SamModel, image: np.ndarray, config: EdgeConfig, precision: Precision) -> Iterator[_Outline]:
    """The outlines of all masks of a grid of points."""
    embedding = embed_image(model, image, precision=precision)
    height, width = embedding.frame.image_size
    points = point_grid(config.points_per_side) * (width, height)
    # Not checked: points of a grid lie between the corners 0 and W, so on tiny images beyond W - 0.5.
    prompts = Prompts(points_xy=points[:, None], point_labels=np.ones((len(points), 1), dtype=np.int64))
    upsampler = LogitUpsampler(embedding.low_res_size, embedding.frame)
    for answers in iter_answers(
        model, embedding, prompts, multimask=True, batch_size=config.points_per_batch, precision=precision
    ):
        iou = answers.predicted_iou  # (p, 3)
        chosen = iou > config.pred_iou_thresh if config.pred_iou_thresh > 0 else torch.ones_like(iou, dtype=torch.bool)
        for rating, logits in zip(iou[chosen].tolist(), answers.logits_of(chosen).cpu().numpy(), strict=True):
            outline = _outline_of(logits - model.sam.config.mask_threshold, upsampler, rating)
            if outline is not None:
                yield outline


def _outline_of(logits: NDArray[np.float32], upsampler: LogitUpsampler, predicted_iou: float) -> _Outline | None:
    """The outline of the mask where `logits` (h, w) are above 0; None for a mask without pixels."""
    image = Box.of_size(upsampler.image_size)
    window = upsampler.window_above(logits, 0.0)
    if window.is_empty:
        return None
    window = window.grown(REACH_PX).clipped(image)
    upsampled = upsampler.window(logits, window)
    mask = upsampled > 0
    box = tight_box(mask)
    if box.is_empty:
        return None
    rows, columns = np.nonzero(_outer_boundary(mask))
    padded = np.pad(upsampled, 1, mode="edge")
    around = expit(padded[rows[:, None] + 1 + _PLACES[0], columns[:, None] + 1 + _PLACES[1]])  # (K, 9)
    gradient = np.linalg.norm(around @ _GRADIENT, axis=1).astype(np.float32)
    pixels = (rows + window.y0) * image.width + columns + window.x0
    return _Outline(box.shifted(window.x0, window.y0), predicted_iou, pixels, gradient)


def _outer_boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels outside of `mask` (h, w) that share a side with one inside."""
    beside = np.zeros_like(mask)
    beside[1:] |= mask[:-1]
    beside[:-1] |= mask[1:]
    beside[:, 1:] |= mask[:, :-1]
    beside[:, :-1] |= mask[:, 1:]
    return beside & ~mask


def thin_edges(strength: NDArray[np.float32]) -> NDArray[np.float32]:
    """Edges one pixel thin: what is strongest across each edge stays (Canny 1986), the rest is 0.

    The map is smoothed a little first, so that outlines that lie side by side become one edge. The direction across
    an edge is that in which the map, smoothed more, curves down the most.

    Parameters
    ----------
    strength : ndarray of shape (H, W), float
        Not negative.

    Returns
    -------
    ndarray of shape (H, W), float32

    Raises
    ------
    ImageError
        If `strength` is not 2-D.
    """
    if strength.ndim != 2:
        raise ImageError(f"an edge map must have shape (H, W), got {strength.shape}; thin one map at a time.")
    smooth = gaussian_filter(strength.astype(np.float32), SMOOTHED_PX)
    bent_yy, bent_xy, bent_xx = (
        gaussian_filter(strength.astype(np.float32), TURNED_PX, order=order) for order in ((2, 0), (1, 1), (0, 2))
    )
    # Half the angle of the Hessian's double angle is where the second derivative is largest; across is at right angles.
    across = 0.5 * np.arctan2(2 * bent_xy, bent_xx - bent_yy) + np.pi / 2
    step_y, step_x = np.sin(across), np.cos(across)
    rows, columns = np.indices(strength.shape, dtype=np.float32)
    after, before = (
        map_coordinates(smooth, [rows + sign * step_y, columns + sign * step_x], order=1, mode="nearest")
        for sign in (1, -1)
    )
    # Larger than one side, at least as large as the other: a plateau keeps one of its pixels.
    is_ridge = (smooth > after) & (smooth >= before)
    return np.where(is_ridge, smooth, np.float32(0))
