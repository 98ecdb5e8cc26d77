"""The interactive rounds of one step: prompt, mask, loss, and again where the mask is wrong (paper, appendix A)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.model.sam import Sam
from napari_sam.training.losses import mask_iou, mask_loss
from napari_sam.training.prompts import PromptBatch

LOGITS_AT_MOST = 20.0
"""Mask logits go into the next round clamped to this, as in use."""


def teach_rounds(
    sam: Sam,
    prompts: PromptBatch,
    embedding: Tensor,
    *,
    rounds: int,
    masked: frozenset[int],
    balance: float,
    seed: int,
    autocast: Callable[[], AbstractContextManager[object]],
) -> dict[str, float]:
    """Add the gradients of all rounds to the network's parameters and to `embedding`; figures for the log.

    Each round is worked back by itself, so that eleven of them need no more memory than one.

    Parameters
    ----------
    prompts : PromptBatch
        The first prompts, on the network's device.
    embedding : (B, C, h, w) tensor
        A leaf.
    rounds, masked
        How many, and which bring no new point, see :func:`napari_sam.training.schedule.draw_rounds`.
    balance : float
        See :func:`napari_sam.training.losses.mask_loss`.
    seed : int
        Of the points drawn from errors.
    """
    generator = torch.Generator().manual_seed(seed)
    values: dict[str, float] = {}
    former = None
    for number in range(rounds):
        with autocast():
            # Not by indexing: its gradient is summed by several threads in any order, and no two runs would be equal.
            image = embedding.index_select(0, prompts.crop)  # (P, C, h, w)
            sparse, dense = sam.prompt_encoder(
                (prompts.points, prompts.labels) if prompts.points.shape[1] else None,
                prompts.boxes,
                former,
                text=prompts.text,
                grid_size=(embedding.shape[-2], embedding.shape[-1]),
            )
            places = _positions(sam, prompts, embedding)
            logits, iou = sam.mask_decoder.predict_all(image, places, sparse, dense)
        loss, chosen, said = round_loss(logits.float(), iou.float(), prompts, ambiguous=number == 0, balance=balance)
        if loss.requires_grad:
            (loss / rounds).backward()
        values |= {f"{name}{number + 1}": value for name, value in said.items()}
        if number + 1 < rounds:
            if number + 1 not in masked:
                prompts = prompts.with_error_points(chosen, generator)
            former = chosen[:, None].clamp(-LOGITS_AT_MOST, LOGITS_AT_MOST)
    return values


def _positions(sam: Sam, prompts: PromptBatch, embedding: Tensor) -> Tensor:
    """Positional encoding (P, C, h, w) of the part of the frame where each prompt's crop lies."""
    whole = sam.prompt_encoder.get_dense_pe()[0]  # (C, H, W)
    h, w = embedding.shape[-2:]
    corners = (prompts.origin_px / sam.config.embedding_stride).long().tolist()
    return torch.stack([whole[:, y : y + h, x : x + w] for x, y in corners])


def round_loss(
    logits: Tensor, iou: Tensor, prompts: PromptBatch, *, ambiguous: bool, balance: float
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Loss of one round, the mask logits (P, H, W) the next round starts from, and figures for the log.

    The first prompt is ambiguous: of its three masks only the best is taught (paper, "resolving ambiguity"). The
    single mask is always taught. Background points teach the predicted IoU alone.
    """
    truth = prompts.truth[:, None].expand_as(logits)  # (P, M, H, W)
    actual = mask_iou(logits, truth)  # (P, M)
    iou_loss = F.mse_loss(iou, actual)
    at = prompts.is_object
    single = mask_loss(logits[at, 0], truth[at, 0], balance=balance)
    chosen = logits[:, 0]
    loss = single.mean()
    if ambiguous:
        several = mask_loss(logits[at, 1:], truth[at, 1:], balance=balance)  # (P', 3)
        loss = 0.5 * loss + several.min(1).values.mean()
        best = iou[:, 1:].argmax(1)
        rows = torch.arange(len(logits), device=logits.device)
        chosen = logits[rows, 1 + best] if prompts.boxes is None else chosen
    figures = {
        "mask": float(loss.detach()),
        "iou": float(mask_iou(chosen[at], prompts.truth[at]).mean()),
        "iou_error": float((iou - actual).detach().abs().mean()),
    }
    return loss + iou_loss, chosen.detach(), figures


def prompt_seed(seed: int, step: int) -> tuple[np.random.Generator, int]:
    """The generator of a step's first prompts, and the seed of its error points; the same for any way to that step."""
    return np.random.default_rng([seed, step, 1]), int(np.random.default_rng([seed, step, 2]).integers(2**62))
