"""Teach the instance head how good its regions are, when everything else has been learned."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.model.sam import Sam
from napari_sam.predict.regions import grow_regions
from napari_sam.training.averaging import encode
from napari_sam.training.batches import Batch

STEPS = 1500
"""Steps of AdamW over the regions of all frames; seconds, since the rating is small."""
BATCH = 1024
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05


def learn_ratings(sam: Sam, batches: Iterable[Batch], device: torch.device) -> None:
    """Fit the rating of `sam`'s instance head to the IoU of its regions with the true objects, in place.

    Only exhaustively labelled crops count: elsewhere a region without an object may be right.
    """
    head = sam.instance_head
    if head is None:
        return
    described = [pair for batch in batches for pair in _regions_of(sam, batch.to(device))]
    if not described:
        return
    features, ious = (torch.cat(each) for each in zip(*described, strict=True))
    if not len(features):
        return
    rng = torch.Generator().manual_seed(0)
    head.rating.requires_grad_(True)
    optimizer = torch.optim.AdamW(head.rating.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(STEPS):
        rows = torch.randint(len(features), (min(BATCH, len(features)),), generator=rng).to(device)
        loss = ((head.rate(features[rows]) - ious[rows]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    head.rating.requires_grad_(False)


@torch.no_grad()
def _regions_of(sam: Sam, batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """Features (N, F) and IoU (N,) of the regions of each crop that is labelled exhaustively."""
    if sam.instance_head is None or sam.proposal_head is None:
        return []
    embedding, _ = encode(sam, batch)
    centres = sam.proposal_head(embedding)[:, 0]
    found = []
    for i in np.flatnonzero(batch.exhaustive):
        grown = grow_regions(sam.instance_head, embedding[i : i + 1], centres[i])
        step = batch.labels.shape[-1] // grown.labels.shape[-1]
        truth = batch.labels[i, step // 2 :: step, step // 2 :: step].numpy()
        ious = torch.from_numpy(best_iou(grown.labels, truth)).to(embedding.device)
        found.append((grown.features, ious))
    return found


def best_iou(regions: NDArray[np.integer], truth: NDArray[np.integer]) -> NDArray[np.float32]:
    """IoU of regions 1 to N with the true object that each fits best; both (h, w), 0 is background."""
    ids, objects = np.unique(truth, return_inverse=True)
    count, kinds = int(regions.max(initial=0)) + 1, len(ids)
    both = np.bincount(regions.ravel() * kinds + objects.ravel(), minlength=count * kinds).reshape(count, kinds)
    union = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
    iou = np.where(ids > 0, both / np.maximum(union, 1), 0)
    return np.asarray(iou[1:].max(axis=1, initial=0), dtype=np.float32)
