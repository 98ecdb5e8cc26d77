"""Training prompts: a point or box for each object, then points where the mask is still wrong (paper, appendix A)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from napari_sam.training.targets import ObjectPlaces


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """P prompts on the crops of a batch; coordinates are pixels of the model's frame."""

    crop: Tensor
    """(P,) which crop each prompt lies on."""
    truth: Tensor
    """(P, S/2, S/2) float: the object; all zero for a background point."""
    is_object: Tensor
    """(P,) bool: False for background points, whose masks are all wrong."""
    origin_px: Tensor
    """(P, 2) where in the frame the crop lies, (x, y)."""
    points: Tensor
    """(P, N, 2), (x, y); N may be 0."""
    labels: Tensor
    """(P, N)"""
    boxes: Tensor | None
    """(P, 4) or None."""

    def with_error_points(self, logits: Tensor) -> PromptBatch:
        """One more point each, from where `logits` (P, S/2, S/2) are wrong: positive if the object was missed there."""
        mask, truth = logits > 0, self.truth > 0.5
        wrong = mask ^ truth
        chance = torch.rand_like(self.truth) * wrong.float() + torch.rand_like(self.truth) * truth * 1e-3
        flat = chance.flatten(1).argmax(1)  # without an error: any point of the object
        y, x = flat // chance.shape[2], flat % chance.shape[2]
        rows = torch.arange(len(flat), device=flat.device)
        point = torch.stack([x, y], dim=1) * 2 + self.origin_px  # the truth lies at half resolution
        label = truth[rows, y, x].long()
        return replace(
            self,
            points=torch.cat([self.points, point[:, None].float()], dim=1),
            labels=torch.cat([self.labels, label[:, None]], dim=1),
        )


def first_prompts(
    labels: Tensor,
    places: list[ObjectPlaces],
    origins_px: Tensor,
    *,
    per_crop: int,
    background_per_crop: tuple[int, ...],
    use_boxes: bool,
    rng: np.random.Generator,
) -> PromptBatch | None:
    """A first prompt for up to `per_crop` objects of each crop, and some background points (not with boxes).

    `labels` (B, S, S); `origins_px` (B, 2). None where no crop holds an object.
    """
    half = labels[:, ::2, ::2]
    crops, truths, prompts, objects = [], [], [], []
    for i, place in enumerate(places):
        order = rng.permutation(len(place.ids))[:per_crop]
        for row in order:
            truth = half[i] == int(place.ids[row])
            if int(truth.sum()) < 5:
                continue
            crops.append(i)
            truths.append(truth)
            objects.append(True)
            side = labels.shape[-1]
            box_or_point = (
                _noised_box(place.boxes_xyxy[row], side, rng)
                if use_boxes
                else _point(truth, place.centres_xy[row], rng)
            )
            prompts.append(box_or_point)
        if not use_boxes:
            for point in _background_points(half[i], background_per_crop[i], rng):
                crops.append(i)
                truths.append(torch.zeros_like(half[i], dtype=torch.bool))
                objects.append(False)
                prompts.append(point)
    if not any(objects):
        return None
    crop = torch.tensor(crops)
    origin = origins_px[crop]  # (P, 2)
    given = torch.tensor(np.array(prompts), dtype=torch.float32)
    count = len(crops)
    return PromptBatch(
        crop=crop,
        truth=torch.stack(truths).float(),
        is_object=torch.tensor(objects),
        origin_px=origin,
        points=torch.zeros(count, 0, 2) if use_boxes else (given + origin)[:, None],
        labels=torch.zeros(count, 0, dtype=torch.long) if use_boxes else torch.ones(count, 1, dtype=torch.long),
        boxes=given + origin.repeat(1, 2) if use_boxes else None,
    )


def _point(truth: Tensor, centre_xy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the time any pixel of the object, else near its centre, where proposals and people click."""
    if rng.random() < 0.5:
        near = centre_xy + rng.normal(0, 0.08 * np.sqrt(float(truth.sum()) * 4), 2)
        x, y = (near / 2).round().astype(int)
        if 0 <= y < truth.shape[0] and 0 <= x < truth.shape[1] and truth[y, x]:
            return np.asarray(near)
    pixels = torch.nonzero(truth)
    y, x = pixels[int(rng.integers(len(pixels)))].tolist()
    return np.array([x, y]) * 2.0 + rng.random(2)


def _background_points(half: Tensor, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    pixels = torch.nonzero(half == 0)
    if not len(pixels):
        return []
    chosen = pixels[torch.from_numpy(rng.integers(len(pixels), size=count))]
    return [np.array([x, y]) * 2.0 + 0.5 for y, x in chosen.tolist()]


def _noised_box(box: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """The box with each side moved by noise of 10 % of its length, at most 20 px (paper, appendix A)."""
    x0, y0, x1, y1 = box.astype(float)
    spread = np.minimum(0.1 * np.array([x1 - x0, y1 - y0] * 2), 20)
    noised = np.array([x0, y0, x1, y1]) + (rng.normal(0, spread) if rng.random() < 0.7 else 0)
    low = np.clip(noised[:2], 0, side - 2)
    return np.concatenate([low, np.clip(noised[2:], low + 1, side)])
