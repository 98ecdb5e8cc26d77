"""A reference network and ours with equal random weights, and the prompts to ask both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from napari_sam.model.config import SamConfig, VitConfig
from napari_sam.model.sam import Sam, build_sam
from oracles.reference import build_reference_sam

SMALL = SamConfig(
    encoder=VitConfig(width=64, depth=4, heads=4, global_blocks=(1, 3), window_size=5),
    image_size=128,
    prompt_embed_dim=64,
    decoder_heads=4,
    decoder_mlp_dim=128,
    iou_head_hidden_dim=32,
)
"""The network of `build_reference_sam()` in our words."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts of one kind for the small network, as both prompt encoders take them."""

    points: tuple[torch.Tensor, torch.Tensor] | None = None
    boxes: torch.Tensor | None = None
    masks: torch.Tensor | None = None

    def as_arguments(self) -> dict[str, Any]:
        return {"points": self.points, "boxes": self.boxes, "masks": self.masks}


def small_pair(*, seed: int = 0) -> tuple[Any, Sam]:
    """The small reference and ours with the same random weights, both in evaluation mode."""
    reference = build_reference_sam(seed=seed)
    ours = build_sam(SMALL)
    ours.load_state_dict(reference.state_dict(), strict=True)
    return reference, ours.eval()


def small_prompts(count: int = 3) -> dict[str, Prompts]:
    """Every kind of prompt, `count` prompt sets each: name to prompts (the first three of 8 x 8 tokens' frame)."""
    generator = torch.Generator().manual_seed(7)
    points = 128 * torch.rand(count, 4, 2, generator=generator)
    positive = torch.ones(count, 4, dtype=torch.long)
    mixed = torch.tensor([1, 0, 1, 0]).repeat(count, 1)
    padded = torch.tensor([1, 0, -1, -1]).repeat(count, 1)
    corners = 64 * torch.rand(count, 2, 2, generator=generator)
    boxes = torch.cat([corners[:, 0], corners.sum(dim=1)], dim=1)
    masks = 5 * torch.randn(count, 1, 32, 32, generator=generator)
    return {
        "one foreground point": Prompts(points=(points[:, :1], positive[:, :1])),
        "foreground points": Prompts(points=(points, positive)),
        "foreground and background points": Prompts(points=(points, mixed)),
        "points with padding": Prompts(points=(points, padded)),
        "float labels": Prompts(points=(points, mixed.float())),
        "points outside the frame": Prompts(points=(2 * points - 64, mixed)),
        "boxes": Prompts(boxes=boxes),
        "points and boxes": Prompts(points=(points, mixed), boxes=boxes),
        "masks": Prompts(masks=masks),
        "points and masks": Prompts(points=(points, padded), masks=masks),
        "points, boxes and masks": Prompts(points=(points, mixed), boxes=boxes, masks=masks),
        "nothing": Prompts(),
    }
