"""From a name or a path to a network that is ready to use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from napari_sam.errors import CheckpointError, ConfigError
from napari_sam.model import registry
from napari_sam.model.checkpoints import build_from_checkpoint, read_checkpoint
from napari_sam.model.config import SamConfig
from napari_sam.model.downloads import download_checkpoint
from napari_sam.model.registry import CheckpointEntry
from napari_sam.model.sam import Sam
from napari_sam.model.storage import file_hashes, find_checkpoint, how_to_get, verify_checkpoint

_CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")


@dataclass(frozen=True, slots=True, eq=False)
class SamModel:
    """A network with its weights, and what must be known about them."""

    sam: Sam
    """In evaluation mode, on `device`, float32."""
    name: str
    """The registry's name, or the file's without its ending."""
    fingerprint: str
    """SHA-256 of the checkpoint file in hexadecimal: two models with the same one give the same masks."""
    device: torch.device
    config: SamConfig
    automatic_defaults: Mapping[str, object]
    """Recommended settings for automatic masks, from the checkpoint's header; empty for published checkpoints."""


def load_model(
    name_or_path: str | os.PathLike[str], device: str | torch.device = "auto", *, download: bool = False
) -> SamModel:
    """A network ready to embed images and decode prompts.

    Parameters
    ----------
    name_or_path : str or path
        A name in the registry (`napari-sam models list`) or a checkpoint file: one of ours (`.safetensors`), or one in
        SAM's own layout, whose network is recognised by its weights.
    device : str or torch.device
        "auto" takes CUDA, else MPS, else the CPU. A device asked for by name is used or refused, never replaced.
    download : bool
        Whether a named checkpoint that is not on this machine may be fetched.

    Returns
    -------
    SamModel

    Raises
    ------
    CheckpointError
        If there is no such model or file, it is not on this machine, or it is damaged, unsafe or of another network.
    ConfigError
        If this machine has no such device.

    Examples
    --------
    >>> load_model("vit_bb")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    napari_sam.errors.CheckpointError: there is no model called 'vit_bb'. Did you mean vit_b...
    """
    chosen = choose_device(device)
    if _is_path(name_or_path):
        path = Path(name_or_path).expanduser()
        checkpoint = read_checkpoint(path)
        name, fingerprint = path.stem, file_hashes(path, ["sha256"])["sha256"]
    else:
        entry = registry.find_entry(str(name_or_path))
        path, fingerprint = _verified_file(entry, download=download)
        name, checkpoint = entry.name, read_checkpoint(path)
    sam = build_from_checkpoint(path, checkpoint).to(chosen)
    return SamModel(sam, name, fingerprint, chosen, checkpoint.config, checkpoint.automatic_defaults)


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The torch device of that name, or the best there is for "auto" (CUDA, MPS, CPU in this order).

    Raises
    ------
    ConfigError
        If this machine has no such device.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if device == "auto":
        return torch.device("cuda" if gpus else "mps" if has_mps else "cpu")
    try:
        asked = torch.device(device)
    except RuntimeError:
        asked = None
    if asked is not None:
        present = {"cpu": 1, "cuda": gpus, "mps": int(has_mps)}.get(asked.type, 0)
        if (asked.index or 0) < present:
            return asked
    here = ["cpu", *(["mps"] if has_mps else []), *(f"cuda:{i}" for i in range(gpus))]
    hint = (
        " This torch is built without CUDA or finds no driver."
        if asked is not None and asked.type == "cuda" and not gpus
        else ""
    )
    raise ConfigError(
        f"device {str(device)!r} is not on this machine, which has {', '.join(here)}.{hint} "
        "Ask for one of these or for 'auto'."
    )


def _is_path(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether a file is meant. A registry's name is a name even where a file is called the same."""
    if not isinstance(name_or_path, str):
        return True
    if name_or_path in registry.REGISTRY:
        return False
    path = Path(name_or_path).expanduser()
    return path.suffix in _CHECKPOINT_SUFFIXES or path.name != name_or_path or path.exists()


def _verified_file(entry: CheckpointEntry, *, download: bool) -> tuple[Path, str]:
    """The entry's file on this machine and its SHA-256."""
    stored = find_checkpoint(entry)
    if stored is None and download:
        download_checkpoint(entry.name)
        stored = find_checkpoint(entry)
    if stored is None:
        raise CheckpointError(how_to_get(entry))
    return stored.path, verify_checkpoint(entry, stored)
