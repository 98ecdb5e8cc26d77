"""Boxes of a detector become masks (Kirillov et al. 2023, section 7.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from napari_sam.geometry import Mask
from napari_sam.predict.config import Precision
from napari_sam.predict.decoding import PROMPTS_PER_BATCH, iter_decoded
from napari_sam.predict.embedding import ImageEmbedding, embed_image
from napari_sam.predict.filtering import mask_and_stability
from napari_sam.predict.prompts import check_prompts
from napari_sam.predict.upsampling import LogitUpsampler

if TYPE_CHECKING:
    from napari_sam.model.loading import SamModel

STABILITY_OFFSET = 1.0
"""As published for automatic masks; the score is reported, not filtered by."""


def masks_from_boxes(
    model: SamModel, image: np.ndarray, boxes_xyxy: ArrayLike, *, precision: Precision = "auto"
) -> list[Mask]:
    """One mask for each box: the instance in it (Kirillov et al. 2023, section 7.4).

    The image is shown to the model whole; :func:`napari_sam.segment_boxes` takes images of any size.

    Parameters
    ----------
    model : SamModel
    image : ndarray of shape (H, W) or (H, W, 3), uint8
    boxes_xyxy : array of shape (N, 4)
        Half-open, in image pixels; what lies outside the image is cut off.
    precision : "auto" or "fp32"
        "auto" computes in 16 bits where that is faster.

    Returns
    -------
    list of N Mask
        In the order of the boxes, with prompt "box"; a mask may be empty.

    Raises
    ------
    ImageError
        If `image` is not a gray or RGB uint8 image.
    PromptError
        If a box is empty, not finite or lies outside the image.
    """
    return box_masks(model, embed_image(model, image, precision=precision), boxes_xyxy, precision=precision)


def box_masks(
    model: SamModel, embedding: ImageEmbedding, boxes_xyxy: ArrayLike, *, precision: Precision = "auto"
) -> list[Mask]:
    """:func:`masks_from_boxes` for an image that is embedded already."""
    embedding.require_model(model)
    if not np.size(boxes_xyxy):
        return []
    size = embedding.frame.image_size
    prompts = check_prompts(size, embedding.low_res_size, boxes_xyxy=boxes_xyxy)
    upsampler = LogitUpsampler(embedding.low_res_size, embedding.frame)
    masks = []
    # A box is a clear prompt: the single mask answers it.
    for _, logits, iou in iter_decoded(
        model, embedding, prompts, multimask=False, batch_size=PROMPTS_PER_BATCH, precision=precision
    ):
        for mask_logits, rating in zip(logits[:, 0].cpu().numpy(), iou[:, 0].tolist(), strict=True):
            window, pixels, stability = mask_and_stability(
                mask_logits, upsampler, threshold=model.sam.config.mask_threshold, offset=STABILITY_OFFSET
            )
            scores = {"predicted_iou": rating, "stability_score": stability}
            masks.append(Mask.from_window(pixels, window, size, prompt="box", **scores))
    return masks
