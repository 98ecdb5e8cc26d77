"""The averaged weights of a training, and the plain network made of them: the result."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from napari_sam.model.sam import Sam
from napari_sam.training.batches import Batch, CropEncoder
from napari_sam.training.lora import merge_lora

EMA_EVERY = 8
"""Steps between two updates of the averaged weights; an update reads all weights, which costs memory traffic."""


@torch.no_grad()
def update_average(averaged: Sam, sam: Sam, *, step: int, decay: float) -> None:
    """Move `averaged` towards `sam`; faster in the beginning, whose weights are not worth keeping."""
    if step % EMA_EVERY:
        return
    decay = min(decay**EMA_EVERY, (1 + step) / (10 + step))
    pairs = list(zip(averaged.state_dict().values(), sam.state_dict().values(), strict=True))
    floats = [(kept, new) for kept, new in pairs if kept.is_floating_point()]
    torch._foreach_lerp_([kept for kept, _ in floats], [new for _, new in floats], 1 - decay)


def has_batch_norms(encoder: nn.Module) -> bool:
    """Whether statistics of its own are to be measured for an average of this encoder's weights."""
    return any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())


def plain_copy(averaged: Sam) -> Sam:
    """A copy with low-rank changes merged in: a network as any other."""
    plain = copy.deepcopy(averaged)
    merge_lora(plain.image_encoder)
    return plain.eval().requires_grad_(False)


@torch.no_grad()
def settle_statistics(sam: Sam, batches: Iterable[Batch], device: torch.device) -> None:
    """Measure the batch norms' statistics of averaged weights: the average of statistics is something else."""
    norms = [module for module in sam.image_encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    for batch in batches:
        encode(sam, batch.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def encode(sam: Sam, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Image embedding (B, C, h, w) of the crops, and centre offsets (B, 2, h, w) from an encoder that has them."""
    x = ((batch.images - sam.pixel_mean) / sam.pixel_std).contiguous(memory_format=torch.channels_last)
    if isinstance(sam.image_encoder, CropEncoder):
        return sam.image_encoder.embed(x, origin_px=batch.origins_px)
    return sam.image_encoder(x), None
