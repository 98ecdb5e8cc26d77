"""Random crops of a sample: one affine map (scale, rotation, flip, place), then changes of light."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_sam.training.config import AugmentConfig
from napari_sam.training.data import Sample


@dataclass(frozen=True, slots=True)
class Crop:
    """A training crop."""

    image: Tensor
    """(3, S, S) float32 in 0 to 255."""
    labels: Tensor
    """(S, S) int64; 0 is background or outside."""


def model_scale(image_size: tuple[int, int], model_size: int) -> float:
    """Factor by which the model sees an image: small ones are enlarged to its frame, large ones tiled at full size."""
    return max(1.0, model_size / max(image_size))


def random_crop(sample: Sample, *, size: int, model_size: int, config: AugmentConfig, rng: np.random.Generator) -> Crop:
    """A crop of `size` pixels from `sample`, varied as `config` says."""
    height, width = sample.labels.shape
    scale = model_scale((height, width), model_size) * math.exp(rng.uniform(-1, 1) * math.log(config.scale_jitter))
    angle = rng.uniform(0, 2 * math.pi) if rng.random() < config.rotate else rng.integers(4) * math.pi / 2
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    reach = size / scale / 2
    centre = _centre_of_crop(sample.labels, reach, rng)
    image = torch.from_numpy(sample.image).permute(2, 0, 1)[None].float()  # (1, 3, H, W)
    if scale < 0.6:  # average first: bilinear sampling alone would skip pixels
        image = F.interpolate(image, scale_factor=scale, mode="area")
    labels = torch.from_numpy(sample.labels)[None, None].float()
    step = (torch.arange(size) - (size - 1) / 2) / scale
    dy, dx = step[:, None], step[None, :] * mirror
    x = centre[0] + dx * math.cos(angle) - dy * math.sin(angle)
    y = centre[1] + dx * math.sin(angle) + dy * math.cos(angle)
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)[None]  # (1, S, S, 2)
    crop = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    inside = ((grid.abs() <= 1).all(-1))[0]
    cut = F.grid_sample(labels, grid, mode="nearest", padding_mode="zeros", align_corners=False)[0, 0]
    crop = _vary_light(crop, config, rng) * inside  # outside: black, as an image's own padding
    return Crop(crop, (cut.round().long() * inside))


def _centre_of_crop(labels: np.ndarray, reach: float, rng: np.random.Generator) -> tuple[float, float]:
    """(x, y), mostly on or near an object, and mostly such that the crop of half-width `reach` lies in the image."""
    height, width = labels.shape
    wanted = (rng.uniform(0, width), rng.uniform(0, height))
    if rng.random() < 0.7:
        objects = np.flatnonzero(labels)
        if len(objects):
            y, x = divmod(int(objects[rng.integers(len(objects))]), width)
            wanted = (x + rng.uniform(-0.7, 0.7) * reach, y + rng.uniform(-0.7, 0.7) * reach)
    overhang = 0.25 * reach if rng.random() < 0.2 else 0.0
    return _keep_inside(wanted[0], width, reach - overhang, rng), _keep_inside(wanted[1], height, reach - overhang, rng)


def _keep_inside(wanted: float, length: int, reach: float, rng: np.random.Generator) -> float:
    if 2 * reach < length:
        return float(np.clip(wanted, reach, length - reach))
    return length / 2 + rng.uniform(-1, 1) * 0.1 * length


def _vary_light(image: Tensor, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """Gamma, contrast, brightness; sometimes inversion, colour, blur, noise. (3, S, S) in 0 to 255."""
    x = image / 255
    if rng.random() < config.invert:
        x = 1 - x
    x = x.clamp_min(0) ** math.exp(rng.uniform(-0.5, 0.5))
    x = (x - x.mean()) * math.exp(rng.uniform(-0.5, 0.25)) + x.mean() + rng.uniform(-0.08, 0.08)
    if rng.random() < config.colour:
        if rng.random() < 0.4:
            x = x.mean(0, keepdim=True).expand(3, -1, -1)
        else:
            x = x * torch.tensor(rng.uniform(0.7, 1.2, (3, 1, 1)), dtype=x.dtype)
            x = x[torch.from_numpy(rng.permutation(3))] if rng.random() < 0.3 else x
    if rng.random() < config.degrade:
        x = _blur(x, rng.uniform(0.4, 1.6)) if rng.random() < 0.5 else x
        noise = torch.from_numpy(rng.standard_normal(x.shape[1:], dtype=np.float32))
        x = x + noise * rng.uniform(0.0, 0.06)
    return x.clamp(0, 1) * 255


def _blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (3, S, S)."""
    radius = max(1, round(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = F.pad(x[None], (radius,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)[0]
