"""Text prompts taught without texts: CLIP's embedding of an object's picture is the prompt (paper, section 7.5, D.5).

CLIP embeds pictures and texts into one space. A network that learned to segment what the embedding of a *picture* shows
can be asked with that of a *text* (:func:`napari_sam.predict.text_prompts.predict_text`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.errors import TrainingError
from napari_sam.geometry import Mask
from napari_sam.model.sam import Sam
from napari_sam.predict.text import ClipLike, crop_window, unit_rows
from napari_sam.training.prompts import LEAST_TRUTH, PromptBatch, covered
from napari_sam.training.rounds import teach_rounds

LabelledImage = tuple[NDArray[np.uint8], NDArray[np.integer]]
"""Pixels (H, W, 3) and instance labels (H, W), no side longer than the network's frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTrainConfig:
    """How a network is taught to take CLIP embeddings."""

    steps: int = 1000
    """Steps of the optimizer."""
    learning_rate: float = 1e-3
    """Of AdamW, constant."""
    images_per_step: int = 4
    """Images in a batch."""
    objects_per_image: int = 4
    """Objects asked for in each."""
    rounds: int = 2
    """Prompts for each object: the embedding alone, then each time with one more point where the mask is wrong."""
    largest_margin: float = 2.0
    """The square crop that CLIP sees is drawn from 1 to this times the object's longer side."""
    least_area_px: int = 100
    """Smaller objects are not asked for: there is little to see in them (the paper: 100 x 100)."""
    seed: int = 0
    """Of images, objects, crops and points."""


def teach_text(
    sam: Sam, clip: ClipLike, images: Sequence[LabelledImage], config: TextTrainConfig | None = None
) -> list[dict[str, float]]:
    """Teach a network, in place, to segment what a CLIP embedding shows; figures of each step.

    All parts that require gradients learn; freeze those that are to rest beforehand.

    Parameters
    ----------
    sam : Sam
        With `text_embed_dim` equal to the width of `clip`.
    clip : ClipLike
    images : sequence of (pixels, labels)
    config : TextTrainConfig, optional

    Returns
    -------
    list of dict
        `mask1`, `iou1`, ... as :func:`napari_sam.training.rounds.teach_rounds` says; empty for a step that drew no
        object.

    Raises
    ------
    TrainingError
        If the network takes no embeddings of this width, or no image has an object that is large enough.
    """
    config = config or TextTrainConfig()
    usable = [item for item in images if len(_large_labels(item[1], config.least_area_px))]
    if not usable:
        raise TrainingError(
            f"no image has an object of {config.least_area_px} px or more; give larger ones, or lower least_area_px."
        )
    _check_width(sam, clip, usable[0][0])
    rng = np.random.default_rng(config.seed)
    optimizer = torch.optim.AdamW([p for p in sam.parameters() if p.requires_grad], lr=config.learning_rate)
    sam.train()
    logged = []
    for step in range(config.steps):
        chosen = [usable[i] for i in rng.integers(len(usable), size=config.images_per_step)]
        optimizer.zero_grad()
        logged.append(_teach_batch(sam, clip, chosen, config, rng, seed=config.seed + step))
        optimizer.step()
    sam.eval()
    return logged


def _teach_batch(
    sam: Sam,
    clip: ClipLike,
    images: Sequence[LabelledImage],
    config: TextTrainConfig,
    rng: np.random.Generator,
    *,
    seed: int,
) -> dict[str, float]:
    device = sam.pixel_mean.device
    prompts = text_prompts(sam, clip, images, config, rng)
    if prompts is None:
        return {}
    pixels = torch.stack([sam.preprocess(torch.from_numpy(p).to(device).permute(2, 0, 1).float()) for p, _ in images])
    encoded = sam.image_encoder(pixels)  # (B, C, h, w)
    leaf = encoded.detach().requires_grad_(encoded.requires_grad)
    said = teach_rounds(
        sam,
        prompts.to(device),
        leaf,
        rounds=config.rounds,
        masked=frozenset(),
        balance=0.5,
        seed=seed,
        autocast=nullcontext,
    )
    if leaf.grad is not None:
        encoded.backward(leaf.grad)
    return said


def text_prompts(
    sam: Sam, clip: ClipLike, images: Sequence[LabelledImage], config: TextTrainConfig, rng: np.random.Generator
) -> PromptBatch | None:
    """Embeddings of crops around some objects of each image, as prompts; None where no object is large enough."""
    size = sam.config.image_size
    step_px = sam.config.embedding_stride // 4  # the decoder upscales the embedding four times
    crops: list[NDArray[np.uint8]] = []
    truths: list[Tensor] = []
    owners: list[int] = []
    for number, (pixels, labels) in enumerate(images):
        padded = np.zeros((size, size), bool)
        for label in rng.permutation(_large_labels(labels, config.least_area_px))[: config.objects_per_image]:
            padded[: labels.shape[0], : labels.shape[1]] = labels == label
            truth = covered(torch.from_numpy(padded.copy()), step_px)
            if int((truth > 0.5).sum()) >= LEAST_TRUTH:
                window = crop_window(Mask.from_array(labels == label), rng.uniform(1, config.largest_margin))
                crops.append(pixels[window.slices])
                truths.append(truth)
                owners.append(number)
    if not crops:
        return None
    count = len(crops)
    return PromptBatch(
        crop=torch.tensor(owners),
        truth=torch.stack(truths),
        is_object=torch.ones(count, dtype=torch.bool),
        origin_px=torch.zeros(count, 2),
        points=torch.zeros(count, 0, 2),
        labels=torch.zeros(count, 0, dtype=torch.long),
        boxes=None,
        step_px=step_px,
        text=torch.from_numpy(unit_rows(clip.embed_images(crops)).astype(np.float32)),
    )


def _large_labels(labels: NDArray[np.integer], least_area_px: int) -> NDArray[np.integer]:
    values, areas = np.unique(labels, return_counts=True)
    return np.asarray(values[(values > 0) & (areas >= least_area_px)])


def _check_width(sam: Sam, clip: ClipLike, pixels: NDArray[np.uint8]) -> None:
    width = clip.embed_images([pixels]).shape[1]
    if sam.config.text_embed_dim != width:
        raise TrainingError(
            f"{clip.name} makes embeddings of {width} numbers and this network takes {sam.config.text_embed_dim}; "
            f"build it with text_embed_dim = {width}."
        )
