"""The paper's losses (appendix A): focal and dice for masks, squared error for the predicted IoU; dense ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def focal_loss(logits: Tensor, target: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al. 2017) averaged over the last two axes: (..., H, W) -> (...)."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = torch.exp(-cross_entropy).neg().add(1)  # 1 - probability given to the truth
    return (cross_entropy * wrong**gamma).mean((-2, -1))


def balanced_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy in which object and background weigh the same: starts the learning where objects are small."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    inside = target.sum((-2, -1)).clamp_min(1)
    outside = (1 - target).sum((-2, -1)).clamp_min(1)
    return 0.5 * (
        (cross_entropy * target).sum((-2, -1)) / inside + (cross_entropy * (1 - target)).sum((-2, -1)) / outside
    )


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - dice coefficient (Milletari et al. 2016) over the last two axes: (..., H, W) -> (...)."""
    probability = logits.sigmoid()
    overlap = (probability * target).sum((-2, -1))
    return 1 - (2 * overlap + 1) / (probability.sum((-2, -1)) + target.sum((-2, -1)) + 1)


def mask_loss(logits: Tensor, target: Tensor, *, balance: float = 0.0) -> Tensor:
    """Focal 20 : dice 1 for each mask; `balance` in [0, 1] hands focal over to the balanced cross-entropy."""
    loss = dice_loss(logits, target)
    if balance < 1:
        loss = loss + (1 - balance) * 20 * focal_loss(logits, target)
    if balance > 0:
        loss = loss + balance * balanced_loss(logits, target)
    return loss


@torch.no_grad()
def mask_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of the thresholded masks with the truth: (..., H, W) -> (...)."""
    mask, truth = logits > 0, target > 0.5
    overlap = (mask & truth).sum((-2, -1))
    return overlap / (mask | truth).sum((-2, -1)).clamp_min(1)


def heat_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Penalty-reduced focal loss of centre maps (Zhou et al. 2019), averaged over the centres."""
    probability = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    is_centre = heat >= 0.999
    found = torch.log(probability) * (1 - probability) ** 2 * is_centre
    silent = torch.log(1 - probability) * probability**2 * (1 - heat) ** 4 * ~is_centre
    return -(found + silent).sum() / is_centre.sum().clamp_min(1)
