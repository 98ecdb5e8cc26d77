"""Settings of automatic masks for kinds of images, as data."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from napari_sam.errors import ConfigError
from napari_sam.predict.config import AutoMaskConfig


@dataclass(frozen=True, slots=True)
class Preset:
    """Named settings for one kind of image."""

    name: str
    description: str
    """One line for menus and help."""
    settings: Mapping[str, Any]
    """Values of AutoMaskConfig that differ from what the model recommends."""


def _preset(name: str, description: str, **settings: Any) -> Preset:
    return Preset(name, description, MappingProxyType(settings))


# How sure a model must be is a matter of the model (its automatic_defaults), not of the image: presets of many small
# objects say only what such objects have in common. "aerial" and "everything" are for models trained as published.
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            _preset(
                "cells",
                "Cells that may touch: one mask a cell, none of cell parts or clumps.",
                mask_choice="best",
                one_piece=True,
                box_nms_thresh=0.9,
                mask_nms_thresh=0.5,
                cover_thresh=0.5,
                max_mask_fraction=0.5,
                min_mask_region_area=25,
            ),
            _preset(
                "nuclei",
                "Small round nuclei, dense and bright or stained.",
                mask_choice="best",
                one_piece=True,
                box_nms_thresh=0.7,
                mask_nms_thresh=0.4,
                cover_thresh=0.5,
                max_mask_fraction=0.25,
                min_mask_region_area=12,
            ),
            _preset(
                "aerial",
                "Fields, roofs, trees and cars from above, of very different size.",
                pred_iou_thresh=0.86,
                stability_score_thresh=0.92,
                crop_n_layers=1,
                crop_n_points_downscale_factor=2,
                min_mask_region_area=100,
            ),
            _preset(
                "everything",
                "Whole objects, parts and subparts of any image, with the paper's settings.",
                prompts="grid",
                pred_iou_thresh=0.88,
                stability_score_thresh=0.95,
                crop_n_layers=1,
                crop_n_points_downscale_factor=2,
                min_mask_region_area=100,
            ),
        )
    }
)


def preset_config(
    preset: str | None, *, defaults: Mapping[str, Any] | None = None, overrides: Mapping[str, Any] | None = None
) -> AutoMaskConfig:
    """Settings of automatic masks: published values, then `defaults`, then the preset, then `overrides`.

    Parameters
    ----------
    preset : str or None
        A name in PRESETS; None adds nothing.
    defaults : mapping, optional
        What the model recommends: `model.automatic_defaults`.
    overrides : mapping, optional
        What the user set.

    Raises
    ------
    ConfigError
        If there is no such preset or setting, or a value lies outside its range.

    Examples
    --------
    >>> preset_config("aerial", overrides={"crop_n_layers": 0}).stability_score_thresh
    0.92
    """
    if preset is not None and preset not in PRESETS:
        near = difflib.get_close_matches(preset, PRESETS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"no preset is named {preset!r}; there are {', '.join(PRESETS)}.{hint}")
    chosen = PRESETS[preset].settings if preset is not None else {}
    return AutoMaskConfig.from_settings({**(defaults or {}), **chosen, **(overrides or {})})
