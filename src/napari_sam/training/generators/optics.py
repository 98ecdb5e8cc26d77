"""From an ideal picture to a recorded one: blur, uneven light, noise, eight bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.training.generators.scene import log_uniform
from napari_sam.training.generators.shapes import Floats
from napari_sam.training.generators.textures import smooth_noise


def blurred(image: Floats, sigma_px: float) -> Floats:
    """Gaussian blur of (H, W) or (H, W, 3) along the image axes."""
    sigma = (sigma_px, sigma_px, 0)[: image.ndim]
    result: Floats = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=3.0)
    return result


def uneven_light(rng: np.random.Generator, image: Floats, strength: float) -> Floats:
    """`image` times a slowly changing field around 1."""
    size = image.shape[:2]
    field = 1 + np.float32(strength) * np.tanh(smooth_noise(rng, (size[0], size[1]), max(size) / 2))
    return image * (field[..., None] if image.ndim == 3 else field)


def photographed(
    rng: np.random.Generator, image: Floats, *, photons: float | None = None, read_noise: float | None = None
) -> Floats:
    """`image` in [0, 1] with shot noise of `photons` at full brightness, and read noise of that deviation."""
    count = log_uniform(rng, 25, 4000) if photons is None else photons
    read = log_uniform(rng, 0.001, 0.03) if read_noise is None else read_noise
    bright = np.clip(image, 0, None)
    if count < 200 and image.ndim == 2:  # few photons come one by one; many are as good as normal
        shot = rng.poisson(bright * count).astype(np.float32) / np.float32(count)
    else:
        shot = bright + np.sqrt(bright / np.float32(count)) * rng.standard_normal(image.shape, dtype=np.float32)
    noisy: Floats = shot + np.float32(read) * rng.standard_normal(image.shape, dtype=np.float32)
    return noisy


def eight_bits(rng: np.random.Generator, image: Floats, *, inverted: float = 0.08) -> NDArray[np.uint8]:
    """`image` in [0, 1] as uint8, with random black level and headroom, and dark for bright with chance `inverted`."""
    black, white = rng.uniform(-0.02, 0.06), rng.uniform(0.85, 1.1)
    levels: NDArray[np.uint8] = np.clip((image * (white - black) + black) * 255, 0, 255).astype(np.uint8)
    return 255 - levels if rng.random() < inverted else levels
