"""What the form shows before a model is loaded: the settings that a run with this model and preset would have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from napari_sam.model.checkpoints import AUTOMATIC_KEY
from napari_sam.model.registry import REGISTRY, find_entry
from napari_sam.model.storage import find_checkpoint
from napari_sam.predict import AutoMaskConfig, preset_config


def recommended_settings(model: str, preset: str | None = None) -> AutoMaskConfig:
    """The settings `segment` uses for a model and a preset; reads a file's header, never its weights.

    A model that is not on this machine, or recommends nothing, has the published values.

    Parameters
    ----------
    model : str
        A registered name, or the path of a file of one's own.
    preset : str, optional

    Raises
    ------
    CheckpointError
        If no model has that name.
    ConfigError
        If no preset has that name.
    """
    return preset_config(preset, defaults=_automatic_defaults(model))


def _automatic_defaults(model: str) -> dict[str, Any]:
    path = _file_of(model)
    if path is None or path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="numpy") as file:
            settings: dict[str, Any] = json.loads((file.metadata() or {}).get(AUTOMATIC_KEY, "{}"))
    except (OSError, ValueError, SafetensorError):  # the run itself will say what is wrong with it
        return {}
    return settings


def _file_of(model: str) -> Path | None:
    if model not in REGISTRY and Path(model).is_file():
        return Path(model)
    stored = find_checkpoint(find_entry(model))
    return None if stored is None else stored.path
