"""Which parts of a network are trained, and by what optimizer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from napari_sam.model.sam import Sam
from napari_sam.training.config import TrainConfig
from napari_sam.training.lora import add_lora

BETAS = (0.9, 0.99)


def encoder_learns(config: TrainConfig) -> bool:
    """Whether gradients of the encoder are needed: of its weights or of a low-rank change."""
    return "encoder" not in config.freeze


def encoder_rests(config: TrainConfig) -> bool:
    """Whether the encoder's own weights and statistics stay (a low-rank change may be trained beside them)."""
    return "encoder" in config.freeze or config.lora_rank > 0


def choose_parts(sam: Sam, config: TrainConfig) -> None:
    """Set `sam` to training, except for what is frozen."""
    sam.train()
    if encoder_rests(config):
        sam.image_encoder.eval().requires_grad_(False)
    if config.lora_rank:
        add_lora(sam.image_encoder, config.lora_rank)
    if "prompt_encoder" in config.freeze:
        sam.prompt_encoder.requires_grad_(False)
    if "decoder" in config.freeze:
        sam.mask_decoder.requires_grad_(False)
        for head in (sam.proposal_head, sam.instance_head):
            if head is not None:
                head.requires_grad_(False)
    if config.freeze_norms:
        for module in sam.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def make_optimizer(
    parameters: Iterable[nn.Parameter], config: TrainConfig, device: torch.device
) -> torch.optim.Optimizer:
    """AdamW of those that are trained; biases and norms do not decay."""
    trained = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=BETAS, fused=device.type in ("cpu", "cuda"))
