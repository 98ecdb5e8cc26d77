"""Object proposals: many masks, hardly filtered, ranked (Kirillov et al. 2023, section 7.3 and appendix D.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam.geometry import Mask
from napari_sam.predict.automatic import generate_masks
from napari_sam.predict.config import ObjectProposalConfig, Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.model.loading import SamModel


def propose_objects(
    model: SamModel, image: np.ndarray, config: ObjectProposalConfig | None = None, *, precision: Precision = "auto"
) -> list[Mask]:
    """Masks of all that could be an object of `image`, the most likely first (Kirillov et al. 2023, appendix D.3).

    A dense grid of points asks for masks; neither predicted IoU nor stability filters them, only near duplicates go.
    They are ranked by :func:`proposal_score`.

    Parameters
    ----------
    model : SamModel
    image : ndarray of shape (H, W) or (H, W, 3), uint8
        Shown to the model whole.
    config : ObjectProposalConfig, optional
    precision : "auto" or "fp32"
        "auto" computes in 16 bits where that is faster.

    Returns
    -------
    list of Mask
        In pixels of `image`, at most `config.proposals`.

    Raises
    ------
    ImageError
        If `image` is not a gray or RGB uint8 image.
    """
    config = config or ObjectProposalConfig()
    masks = generate_masks(model, image, config.automatic(), precision=precision)
    return ranked_proposals(masks, config.proposals)


def ranked_proposals(masks: Sequence[Mask], most: int) -> list[Mask]:
    """The `most` masks with the best :func:`proposal_score`, best first; among equals the earlier one."""
    return sorted(masks, key=lambda mask: -proposal_score(mask))[:most]


def proposal_score(mask: Mask) -> float:
    """How likely a mask is an object: the mean of its predicted IoU and its stability score, as published."""
    return (mask.predicted_iou + mask.stability_score) / 2
