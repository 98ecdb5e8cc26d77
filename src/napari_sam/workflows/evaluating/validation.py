"""A quick judgement of a network in training, from a few images and objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from napari_sam.errors import ConfigError
from napari_sam.evaluation import find_overlaps, iter_object_scores, match_all, mean_segmentation_accuracy
from napari_sam.geometry import Box
from napari_sam.model import Sam, SamConfig, SamModel
from napari_sam.predict import preset_config
from napari_sam.training.config import DrawConfig, TrainConfig
from napari_sam.training.data import Pair, Sample
from napari_sam.training.loop import Validate
from napari_sam.training.reading import open_files
from napari_sam.workflows.segmentation import segment_array

WINDOW_PX = 1024
"""Of a larger image, the middle is judged."""


def make_validator(
    pairs: Sequence[Pair], settings: SamConfig, defaults: Mapping[str, Any], config: DrawConfig
) -> Validate:
    """A function from a network to its figures on `pairs`, at most `val_images` of them, spread evenly.

    The figures: `one_click` and `box`, mean IoU over objects from one click and from an exact box; for a network with a
    proposal head also `ap50` and `msa` of automatic masks, means over images; `score`, the mean of one_click, box and
    msa.
    """
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(config.val_images, len(pairs))).astype(int))
    judged = [pairs[i] for i in chosen]

    def validate(sam: Sam) -> dict[str, float]:
        device = next(sam.parameters()).device
        model = SamModel(sam, "in training", "0" * 64, torch.device(device), settings, defaults)
        return _figures([_judge(model, _sample_of(pair), config) for pair in judged])

    return validate


def check_selection(config: TrainConfig, settings: SamConfig) -> None:
    """Raise ConfigError if the figure to select by is not measured for this network."""
    if config.select_by in ("ap50", "msa") and not settings.has_proposals:
        raise ConfigError(
            f"select_by = {config.select_by} needs automatic masks, which are validated for networks with a proposal "
            "head only; select by score, one_click or box."
        )


def _sample_of(pair: Pair) -> Sample:
    opened = open_files(pair.image, pair.labels, pair.name)
    height, width = opened.image.shape
    y, x = max(0, (height - WINDOW_PX) // 2), max(0, (width - WINDOW_PX) // 2)
    return opened.read(Box(x, y, min(x + WINDOW_PX, width), min(y + WINDOW_PX, height)))


def _judge(model: SamModel, sample: Sample, config: DrawConfig) -> dict[str, list[float]]:
    """Values of the objects and of the image, by figure."""
    ids = np.unique(sample.labels[sample.labels > 0])
    prompted = np.random.default_rng(config.val_seed).permutation(ids)[: config.val_objects]
    labels = np.where(np.isin(sample.labels, prompted), sample.labels, 0)
    scores = list(iter_object_scores(model, sample.image, labels, clicks=1, boxes=True, seed=config.val_seed))
    values = {"one_click": [s.clicks[0] for s in scores], "box": [s.box for s in scores]}
    if model.config.has_proposals:
        settings = preset_config(None, defaults=model.automatic_defaults, overrides={})
        matchings = match_all(find_overlaps(sample.labels, segment_array(sample.image, model, automatic=settings)))
        values |= {"ap50": [matchings[0.5].average_precision], "msa": [mean_segmentation_accuracy(matchings)]}
    return values


def _figures(images: Sequence[Mapping[str, list[float]]]) -> dict[str, float]:
    values = {name: [v for image in images for v in image[name]] for name in images[0]}
    means = {name: float(np.mean(each)) if each else 0.0 for name, each in values.items()}
    parts = [means[name] for name in ("one_click", "box", "msa") if name in means]
    return means | {"score": float(np.mean(parts))}
