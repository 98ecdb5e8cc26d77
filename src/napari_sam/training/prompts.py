"""Training prompts: a point or box for each object, then points where the mask is still wrong (paper, appendix A)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.training.targets import ObjectPlaces

LEAST_TRUTH = 5
"""Mask pixels an object must cover to be prompted."""


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """P prompts on the crops of a batch; coordinates are pixels of the model's frame."""

    crop: Tensor
    """(P,) which crop each prompt lies on."""
    truth: Tensor
    """(P, S/step, S/step) float: how much of each mask pixel the object covers; all zero for a background point."""
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
    step_px: int = 2
    """Pixels of the frame per pixel of `truth` and of the decoder's masks."""
    text: Tensor | None = None
    """(P, D) CLIP embeddings, for networks that take them as a prompt."""

    def to(self, device: torch.device) -> PromptBatch:
        """The same on `device`."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: v.to(device) for name, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    def with_error_points(self, logits: Tensor, generator: torch.Generator) -> PromptBatch:
        """One more point each, from where `logits` (P, h, w) are wrong: positive if the object was missed there.

        `generator` is one of the CPU, so that the points are the same on every device.
        """
        mask, truth = logits > 0, self.truth > 0.5
        wrong = mask ^ truth
        drawn = torch.rand(self.truth.shape, generator=generator).to(truth.device)
        chance = drawn * (wrong.float() + 1e-3 * truth * ~wrong)
        flat = chance.flatten(1).argmax(1)  # without an error: any point of the object
        y, x = flat // chance.shape[2], flat % chance.shape[2]
        rows = torch.arange(len(flat), device=flat.device)
        point = torch.stack([x, y], dim=1) * self.step_px + middle(self.step_px) + self.origin_px
        label = truth[rows, y, x].long()
        return replace(
            self,
            points=torch.cat([self.points, point[:, None].float()], dim=1),
            labels=torch.cat([self.labels, label[:, None]], dim=1),
        )


def middle(step_px: int) -> float:
    """Where the middle of a mask pixel lies, from the centre of the first of the `step_px` pixels it is made of."""
    return (step_px - 1) / 2


def first_prompts(
    labels: Tensor,
    places: list[ObjectPlaces],
    origins_px: Tensor,
    *,
    per_crop: int,
    background_per_crop: tuple[int, ...],
    use_boxes: bool,
    rng: np.random.Generator,
    step_px: int = 2,
) -> PromptBatch | None:
    """A first prompt for up to `per_crop` objects of each crop, and some background points (not with boxes).

    `labels` (B, S, S); `origins_px` (B, 2); `step_px` pixels make one of the decoder's masks. None where no crop holds
    an object.
    """
    crops, truths, prompts, objects = [], [], [], []
    for i, place in enumerate(places):
        order = rng.permutation(len(place.ids))[:per_crop]
        for row in order:
            truth = covered(labels[i] == int(place.ids[row]), step_px)
            if int((truth > 0.5).sum()) < LEAST_TRUTH:
                continue
            crops.append(i)
            truths.append(truth)
            objects.append(True)
            side = labels.shape[-1]
            box_or_point = (
                _noised_box(place.boxes_xyxy[row], side, rng)
                if use_boxes
                else _point(truth, place.centres_xy[row], step_px, rng)
            )
            prompts.append(box_or_point)
        if not use_boxes:
            taken = covered(labels[i] > 0, step_px)
            for point in _background_points(taken, background_per_crop[i], step_px, rng):
                crops.append(i)
                truths.append(torch.zeros_like(taken))
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
        truth=torch.stack(truths),
        is_object=torch.tensor(objects),
        origin_px=origin,
        points=torch.zeros(count, 0, 2) if use_boxes else (given + origin)[:, None],
        labels=torch.zeros(count, 0, dtype=torch.long) if use_boxes else torch.ones(count, 1, dtype=torch.long),
        boxes=given + origin.repeat(1, 2) if use_boxes else None,
        step_px=step_px,
    )


def _point(truth: Tensor, centre_xy: np.ndarray, step_px: int, rng: np.random.Generator) -> np.ndarray:
    """Half of the time any pixel of the object, else near its centre, where proposals and people click."""
    if rng.random() < 0.5:
        near = centre_xy + rng.normal(0, 0.08 * np.sqrt(float(truth.sum())) * step_px, 2)
        x, y = np.floor((near + 0.5) / step_px).astype(int)
        if 0 <= y < truth.shape[0] and 0 <= x < truth.shape[1] and truth[y, x] > 0.5:
            return np.asarray(near)
    pixels = torch.nonzero(truth > 0.5)
    y, x = pixels[int(rng.integers(len(pixels)))].tolist()
    return np.array([x, y]) * step_px + middle(step_px) + rng.random(2) - 0.5


def covered(mask: Tensor, step_px: int) -> Tensor:
    """(S/step, S/step) float: how much of each mask pixel a mask (S, S) of the frame covers.

    Not one pixel of each: masks taught so lie half a pixel beside their objects.
    """
    return F.avg_pool2d(mask[None].float(), step_px)[0]


def _background_points(taken: Tensor, count: int, step_px: int, rng: np.random.Generator) -> list[np.ndarray]:
    pixels = torch.nonzero(taken == 0)
    if not len(pixels):
        return []
    chosen = pixels[torch.from_numpy(rng.integers(len(pixels), size=count))]
    return [np.array([x, y]) * step_px + middle(step_px) for y, x in chosen.tolist()]


def _noised_box(box: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """The box with each side moved by noise of 10 % of its length, at most 20 px (paper, appendix A)."""
    x0, y0, x1, y1 = box.astype(float)
    spread = np.minimum(0.1 * np.array([x1 - x0, y1 - y0] * 2), 20)
    noised = np.array([x0, y0, x1, y1]) + (rng.normal(0, spread) if rng.random() < 0.7 else 0)
    low = np.clip(noised[:2], 0, side - 2)
    return np.concatenate([low, np.clip(noised[2:], low + 1, side)])
