"""Dense supervision: what every pixel of a crop is, for the encoder and the heads that see a whole image at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.training.losses import dice_loss, heat_loss
from napari_sam.training.targets import DenseTargets


def dense_loss(
    logits: Tensor | None, offsets: Tensor, heat: Tensor, targets: list[DenseTargets], exhaustive: list[bool]
) -> tuple[Tensor, dict[str, float]]:
    """Sum of the dense losses of a batch, and each by name.

    `logits` (B, 2, S/2, S/2) of the instance head, if there is one, `offsets` (B, 2, S/8, S/8), `heat` (B, 1, S/4, S/4)
    logits. Crops whose labels are not exhaustive teach offsets only.
    """
    weight = torch.stack([t.offset_weight for t in targets])  # (B, h, w)
    error = F.smooth_l1_loss(offsets, torch.stack([t.offsets for t in targets]), reduction="none", beta=0.2).sum(1)
    losses = {"offset": (error * weight).sum() / (weight > 0).sum().clamp_min(1)}
    rows = [i for i, whole in enumerate(exhaustive) if whole]
    if rows:
        if logits is not None:
            foreground = torch.stack([targets[i].foreground for i in rows])
            border = torch.stack([targets[i].border for i in rows])
            said = logits[rows].float()
            losses["foreground"] = _overlap_loss(said[:, 0], foreground)
            losses["border"] = _overlap_loss(said[:, 1], border)
        losses["heat"] = 0.5 * heat_loss(heat[rows, 0].float(), torch.stack([targets[i].heat for i in rows]))
    return torch.stack(list(losses.values())).sum(), {name: float(loss.detach()) for name, loss in losses.items()}


def _overlap_loss(logits: Tensor, truth: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, truth) + 0.5 * dice_loss(logits, truth).mean()
