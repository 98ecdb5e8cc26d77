"""Masks of everything in one image, without a user (paper, appendix B)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sam.errors import ConfigError
from napari_sam.geometry import Box, Mask, crop_boxes, layer_point_grids
from napari_sam.predict.adaptive import iter_adaptive, looks_at
from napari_sam.predict.config import AutoMaskConfig, Precision
from napari_sam.predict.decoding import iter_answers
from napari_sam.predict.embedding import ImageEmbedding, check_image, embed_for_regions, embed_image, require_finite
from napari_sam.predict.encoding import Encode
from napari_sam.predict.filtering import (
    is_cut_by_crop,
    mask_and_stability,
    piece_of_point,
    without_covered,
    without_duplicates,
    without_small_regions,
)
from napari_sam.predict.instances import InstanceMap
from napari_sam.predict.prompts import Prompts
from napari_sam.predict.proposals import proposal_points
from napari_sam.predict.upsampling import LogitUpsampler

if TYPE_CHECKING:
    from napari_sam.model.loading import SamModel


def generate_masks(
    model: SamModel,
    image: np.ndarray,
    config: AutoMaskConfig | None = None,
    *,
    precision: Precision = "auto",
    encode: Encode | None = None,
) -> list[Mask]:
    """Masks of all objects of `image`: prompted everywhere, filtered, each once (Kirillov et al. 2023, appendix B).

    Memory is bounded by one batch of prompts at low resolution and one mask at the image's, besides the run lengths.
    The image's longer side is scaled to the model's frame; where the masks are the regions of an instance head, an
    image up to twice as long is seen as it is.

    Parameters
    ----------
    model : SamModel
    image : ndarray of shape (H, W) or (H, W, 3), uint8
    config : AutoMaskConfig, optional
        Left out, it is what the model recommends (`model.automatic_defaults`), else the published values.
    precision : "auto" or "fp32"
        "auto" computes in 16 bits where that is faster.
    encode : function, optional
        An image encoder that threads share, :class:`napari_sam.predict.EncoderBatches`.

    Returns
    -------
    list of Mask
        In pixels of `image`, best first. They may overlap: parts and wholes are objects of their own.

    Raises
    ------
    ImageError
        If `image` is not a gray or RGB uint8 image.
    ConfigError
        If proposals are asked of a model that makes none, or a crop layer would have no points.
    """
    config = AutoMaskConfig.from_settings(model.automatic_defaults) if config is None else config
    check_image(image)
    check_prompt_source(model, config)
    grids = layer_point_grids(config.points_per_side, config.crop_n_layers, config.crop_n_points_downscale_factor)
    crops, layers = crop_boxes(image.shape[:2], config.crop_n_layers, config.crop_overlap_ratio)
    masks = [
        mask
        for crop, layer in zip(crops, layers, strict=True)
        for mask in _masks_of_crop(model, image, crop, grids[layer], config, precision, encode)
    ]
    if len(crops) > 1:
        masks = without_duplicates(
            masks,
            [1 / m.crop_box.area for m in masks],
            box_iou_thresh=config.crop_nms_thresh,
            mask_iou_thresh=config.mask_nms_thresh,
        )
    if config.min_mask_region_area > 0:
        masks = without_small_regions(
            masks,
            config.min_mask_region_area,
            box_iou_thresh=max(config.box_nms_thresh, config.crop_nms_thresh),
            mask_iou_thresh=config.mask_nms_thresh,
        )
    if config.cover_thresh is not None:
        masks = without_covered(sorted(masks, key=lambda m: -m.predicted_iou), config.cover_thresh)
    return masks


def _masks_of_crop(
    model: SamModel,
    image: np.ndarray,
    crop: Box,
    grid: NDArray[np.float64],
    config: AutoMaskConfig,
    precision: Precision,
    encode: Encode | None,
) -> list[Mask]:
    """Masks found in one crop, each object once, in pixels of `image`."""
    size = (image.shape[0], image.shape[1])
    if takes_regions(model, config):
        embedding = embed_for_regions(model, image[crop.slices], precision=precision, encode=encode)
        kept = _iter_regions(model, embedding, cast(InstanceMap, embedding.instances), config)
    else:
        embedding = embed_image(model, image[crop.slices], precision=precision, encode=encode)
        points_in_crop, prompt = _points(embedding, grid, config)

        def ask(points_xy: NDArray[np.float64]) -> Iterator[Mask]:
            return _iter_prompted(model, embedding, points_xy, prompt, config, precision)

        if config.prompts == "adaptive":
            looks = looks_at(embedding.embedding, embedding.frame, points_in_crop)
            kept = iter_adaptive(ask, points_in_crop, looks, pred_iou_thresh=config.pred_iou_thresh)
        else:
            kept = ask(points_in_crop)
    masks = [mask.shifted(crop.x0, crop.y0, size) for mask in kept]
    masks = [mask for mask in masks if not is_cut_by_crop(mask.box, crop, size)]
    return without_duplicates(
        masks,
        [m.predicted_iou for m in masks],
        box_iou_thresh=config.box_nms_thresh,
        mask_iou_thresh=config.mask_nms_thresh,
    )


def _iter_prompted(
    model: SamModel,
    embedding: ImageEmbedding,
    points_xy: NDArray[np.float64],
    prompt: str,
    config: AutoMaskConfig,
    precision: Precision,
) -> Iterator[Mask]:
    """Masks of `points_xy` that pass the filters, in the frame of the embedded crop."""
    finish = _Finisher(model, embedding, config)
    # Not checked: points of a grid lie between the corners 0 and W, as published, so on tiny images beyond W - 0.5.
    prompts = Prompts(points_xy=points_xy[:, None], point_labels=np.ones((len(points_xy), 1), dtype=np.int64))
    for answers in iter_answers(
        model, embedding, prompts, multimask=True, batch_size=config.points_per_batch, precision=precision
    ):
        iou = answers.predicted_iou
        require_finite(iou, model, "the predicted IoU")
        chosen = _confident(iou, config)  # (p, M)
        # The predicted IoU is looked at first: most masks are never made, or never leave the device.
        sets = torch.nonzero(chosen)[:, 0] + answers.part.start
        kept = zip(sets.tolist(), iou[chosen].tolist(), answers.logits_of(chosen).cpu().numpy(), strict=True)
        for p, predicted_iou, mask_logits in kept:
            x, y = points_xy[p].tolist()
            yield from finish(mask_logits, predicted_iou, (x, y), prompt)


def _iter_regions(
    model: SamModel, embedding: ImageEmbedding, instances: InstanceMap, config: AutoMaskConfig
) -> Iterator[Mask]:
    """The regions of the instance head that pass the filters, in the frame of the embedded crop."""
    finish = _Finisher(model, embedding, config)
    for label in np.flatnonzero(instances.ratings > config.pred_iou_thresh).tolist():
        x, y = instances.seed_xy(label, embedding.frame)
        yield from finish(instances.logits_of((label,)), float(instances.ratings[label]), (x, y), "instance")


class _Finisher:
    """From the logits of one mask to the mask at the image's size, if it passes the filters."""

    def __init__(self, model: SamModel, embedding: ImageEmbedding, config: AutoMaskConfig) -> None:
        self._upsampler = LogitUpsampler(embedding.low_res_size, embedding.frame)
        self._threshold = model.sam.config.mask_threshold
        self._max_area = config.max_mask_fraction * np.prod(embedding.frame.image_size)
        self._config = config

    def __call__(
        self, logits: NDArray[np.float32], predicted_iou: float, point_xy: tuple[float, float], prompt: str
    ) -> Iterator[Mask]:
        window, pixels, stability = mask_and_stability(
            logits, self._upsampler, threshold=self._threshold, offset=self._config.stability_score_offset
        )
        if self._config.one_piece:
            pixels = piece_of_point(pixels, window, point_xy)
        area = np.count_nonzero(pixels)
        if stability >= self._config.stability_score_thresh and 0 < area <= self._max_area:
            yield Mask.from_window(
                pixels,
                window,
                self._upsampler.image_size,
                predicted_iou=predicted_iou,
                stability_score=stability,
                point_xy=point_xy,
                prompt=prompt,
            )


def _confident(iou: torch.Tensor, config: AutoMaskConfig) -> torch.Tensor:
    """(P, M) bool: the masks whose predicted IoU (P, M) lets them go on."""
    # 0 keeps all, as published, though a predicted IoU may well be negative.
    chosen = iou > config.pred_iou_thresh if config.pred_iou_thresh > 0 else torch.ones_like(iou, dtype=torch.bool)
    if config.mask_choice == "best":
        best = torch.zeros_like(chosen).scatter_(1, iou.argmax(dim=1, keepdim=True), True)
        chosen = chosen & best
    return chosen


def _points(
    embedding: ImageEmbedding, grid: NDArray[np.float64], config: AutoMaskConfig
) -> tuple[NDArray[np.float64], str]:
    """Points (N, 2) to prompt a crop with, in its pixels, and the word for where they come from."""
    if config.prompts in ("grid", "adaptive") or embedding.proposals is None:
        height, width = embedding.frame.image_size
        return grid * (width, height), "grid"
    points = proposal_points(
        embedding.proposals,
        embedding.frame,
        threshold=config.proposal_thresh,
        min_distance_px=config.proposal_min_distance_px,
        max_points=config.max_proposals,
    )
    return points, "proposal"


def takes_regions(model: SamModel, config: AutoMaskConfig) -> bool:
    """Whether the automatic masks are the regions of the model's instance head, without any prompt."""
    has_heads = model.sam.instance_head is not None and model.sam.proposal_head is not None
    return config.prompts in ("auto", "instances") and has_heads


def check_prompt_source(model: SamModel, config: AutoMaskConfig) -> None:
    """Raise ConfigError if `config.prompts` names a head that the model does not have."""
    heads = {"proposals": model.sam.proposal_head, "instances": model.sam.instance_head}
    if config.prompts in heads and heads[config.prompts] is None:
        raise ConfigError(
            f"model {model.name!r} has no {config.prompts.removesuffix('s')} head, so prompts={config.prompts!r} "
            f"cannot be had; use prompts='grid', or 'auto' for the best that the model has."
        )
