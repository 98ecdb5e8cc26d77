"""Training prompts: a point or box for each object, then points where the mask is still wrong (paper, appendix A)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

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
    """(P, S/step, S/step) float: the object; all zero for a background point."""
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
        point = torch.stack([x, y], dim=1) * self.step_px + first_pixel(self.step_px) + self.origin_px
        label = truth[rows, y, x].long()
        return replace(
            self,
            points=torch.cat([self.points, point[:, None].float()], dim=1),
            labels=torch.cat([self.labels, label[:, None]], dim=1),
        )


def first_pixel(step_px: int) -> int:
    """Of each `step_px` pixels, the one whose label the coarser truth takes: the middle, or just before it."""
    return (step_px - 1) // 2


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
    skip = first_pixel(step_px)
    coarse = labels[:, skip::step_px, skip::step_px]
    crops, truths, prompts, objects = [], [], [], []
    for i, place in enumerate(places):
        order = rng.permutation(len(place.ids))[:per_crop]
        for row in order:
            truth = coarse[i] == int(place.ids[row])
            if int(truth.sum()) < 5:
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
            for point in _background_points(coarse[i], background_per_crop[i], step_px, rng):
                crops.append(i)
                truths.append(torch.zeros_like(coarse[i], dtype=torch.bool))
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
        step_px=step_px,
    )


def _point(truth: Tensor, centre_xy: np.ndarray, step_px: int, rng: np.random.Generator) -> np.ndarray:
    """Half of the time any pixel of the object, else near its centre, where proposals and people click."""
    if rng.random() < 0.5:
        near = centre_xy + rng.normal(0, 0.08 * np.sqrt(float(truth.sum())) * step_px, 2)
        x, y = (near / step_px).round().astype(int)
        if 0 <= y < truth.shape[0] and 0 <= x < truth.shape[1] and truth[y, x]:
            return np.asarray(near)
    pixels = torch.nonzero(truth)
    y, x = pixels[int(rng.integers(len(pixels)))].tolist()
    return np.array([x, y]) * step_px + first_pixel(step_px) + rng.random(2)


def _background_points(coarse: Tensor, count: int, step_px: int, rng: np.random.Generator) -> list[np.ndarray]:
    pixels = torch.nonzero(coarse == 0)
    if not len(pixels):
        return []
    chosen = pixels[torch.from_numpy(rng.integers(len(pixels), size=count))]
    return [np.array([x, y]) * step_px + first_pixel(step_px) + 0.5 for y, x in chosen.tolist()]


def _noised_box(box: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """The box with each side moved by noise of 10 % of its length, at most 20 px (paper, appendix A)."""
    x0, y0, x1, y1 = box.astype(float)
    spread = np.minimum(0.1 * np.array([x1 - x0, y1 - y0] * 2), 20)
    noised = np.array([x0, y0, x1, y1]) + (rng.normal(0, spread) if rng.random() < 0.7 else 0)
    low = np.clip(noised[:2], 0, side - 2)
    return np.concatenate([low, np.clip(noised[2:], low + 1, side)])
