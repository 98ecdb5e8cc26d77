"""The whole of an object of which only a part was seen: asked for again on a larger window."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Mask, interior_points, intersection_area, mask_iou_window
from napari_sam.predict.config import Precision
from napari_sam.predict.decoding import iter_decoded
from napari_sam.predict.embedding import embed_image
from napari_sam.predict.filtering import mask_and_stability, piece_of_point
from napari_sam.predict.prompts import Prompts
from napari_sam.predict.upsampling import LogitUpsampler

if TYPE_CHECKING:
    from napari_sam.model.loading import SamModel

POINTS_PER_FRAGMENT = 3
"""Points inside the fragment; more say little that is new, and each costs a token."""
LEAST_COVERAGE = 0.5
"""Part of the fragment a mask must cover to be the same object."""
MARGIN = 0.25
"""How far around the fragment's box a mask must agree with it, as part of the box's shorter side: the background next
to the object was seen as well, and a mask that takes it in is another object."""
STABILITY_OFFSET = 1.0
"""As published for automatic masks; the score is reported, not filtered by."""


def reprompt(
    model: SamModel,
    window_image: np.ndarray,
    fragment: Mask,
    *,
    pred_iou_thresh: float = 0.0,
    one_piece: bool = False,
    precision: Precision = "auto",
) -> Mask | None:
    """The object of `fragment` as the model sees it in a larger window.

    The model is asked twice, with the most interior point of the fragment and with two more far from it. Of all masks
    that cover at least half of the fragment, the best is the one with the largest product of its predicted IoU and
    its IoU with the fragment near the fragment, as far as `fragment.crop_box` reaches: beyond it nothing was seen.

    Parameters
    ----------
    model : SamModel
    window_image : ndarray of shape (H, W) or (H, W, 3), uint8
    fragment : Mask
        The part that is known, in pixels of `window_image`.
    pred_iou_thresh : float
        Masks whose predicted IoU is not above this are no answer, as in automatic masks.
    one_piece : bool
        Whether only the piece of a mask counts that the fragment's most interior point lies on, as in automatic masks.

    Returns
    -------
    Mask or None
        In pixels of `window_image`, with prompt "reprompt"; None if no mask covers half of the fragment.

    Raises
    ------
    ImageError
        If `window_image` is not a gray or RGB uint8 image.
    """
    embedding = embed_image(model, window_image, precision=precision)
    points = interior_points(fragment, POINTS_PER_FRAGMENT)
    upsampler = LogitUpsampler(embedding.low_res_size, embedding.frame)
    seen = fragment.box.grown(math.ceil(MARGIN * min(fragment.box.size))).clipped(fragment.crop_box)
    best, best_rating = None, 0.0
    for _, logits, iou in iter_decoded(model, embedding, _first_and_all(points), multimask=True, precision=precision):
        scores = iou.flatten().tolist()
        for score, mask_logits in zip(scores, logits.flatten(0, 1).cpu().numpy(), strict=True):
            if score <= pred_iou_thresh:
                continue
            window, pixels, stability = mask_and_stability(
                mask_logits, upsampler, threshold=model.sam.config.mask_threshold, offset=STABILITY_OFFSET
            )
            if one_piece:
                pixels = piece_of_point(pixels, window, points[0].tolist())
            mask = Mask.from_window(
                pixels,
                window,
                embedding.frame.image_size,
                predicted_iou=score,
                stability_score=stability,
                point_xy=(float(points[0, 0]), float(points[0, 1])),
                prompt="reprompt",
            )
            rating = score * mask_iou_window(mask, fragment, seen)
            if rating > best_rating and intersection_area(mask, fragment) >= LEAST_COVERAGE * fragment.area:
                best, best_rating = mask, rating
    return best


def _first_and_all(points_xy: NDArray[np.float64]) -> Prompts:
    """Two prompt sets: the first of `points_xy` (N, 2) alone, and all of them."""
    labels = np.ones((2, len(points_xy)), dtype=np.int64)
    labels[0, 1:] = -1
    return Prompts(points_xy=np.stack([points_xy, points_xy]), point_labels=labels)
