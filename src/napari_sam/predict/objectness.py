"""Object proposals: many masks, hardly filtered, ranked (Kirillov et al. 2023, section 7.3 and appendix D.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.errors import ConfigError
from napari_sam.geometry import Mask
from napari_sam.predict.automatic import generate_masks
from napari_sam.predict.config import AutoMaskConfig, Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.model.loading import SamModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectProposalConfig:
    """How many objects are proposed and from where, with the published values."""

    points_per_side: int = 64
    """Points along each side of the grid; the grid has this number squared, and each point gives three masks."""
    points_per_batch: int = 64
    """Points answered at once; more is faster on a GPU and needs more memory."""
    box_nms_thresh: float = 0.9
    """Of two masks whose boxes have an IoU above this, the one with the higher predicted IoU stays; 1 keeps both."""
    proposals: int = 1000
    """At most this many are given, the best first."""

    def __post_init__(self) -> None:
        for name in ("points_per_side", "points_per_batch", "proposals"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.box_nms_thresh <= 1:
            raise ConfigError(f"box_nms_thresh must lie in [0, 1], got {self.box_nms_thresh}; 0.9 is usual.")

    def automatic(self) -> AutoMaskConfig:
        """These settings as automatic masks know them: a grid, no filter but for duplicates."""
        return AutoMaskConfig(
            prompts="grid",
            points_per_side=self.points_per_side,
            points_per_batch=self.points_per_batch,
            pred_iou_thresh=0.0,
            stability_score_thresh=0.0,
            max_mask_fraction=1.0,
            box_nms_thresh=self.box_nms_thresh,
        )


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
