"""Checks of this machine that answer most questions of "why does it not work"."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import torch

from napari_sam import __version__
from napari_sam.errors import NapariSamError
from napari_sam.model.loading import choose_device, load_model
from napari_sam.model.storage import checkpoint_cache_dir

LEAST_MEMORY = 3e9
LEAST_DISK = 1e9


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    text: str


def check_machine() -> list[Finding]:
    """Versions, device, built-in model, memory, disk, napari."""
    checks: list[tuple[str, Callable[[], tuple[bool, str]]]] = [
        ("version", _versions),
        ("device", lambda: (True, str(choose_device()))),
        ("built-in model", _built_in_model),
        ("memory", _memory),
        ("disk for models", _disk),
        ("napari", _napari),
    ]
    return [Finding(what, *_safely(check)) for what, check in checks]


def _safely(check: Callable[[], tuple[bool, str]]) -> tuple[bool, str]:
    try:
        return check()
    except (NapariSamError, OSError) as error:
        return False, str(error)


def _versions() -> tuple[bool, str]:
    return True, f"napari-sam-tiles {__version__}, Python {platform.python_version()}, torch {torch.__version__}"


def _built_in_model() -> tuple[bool, str]:
    model = load_model("nano", device="cpu")
    return True, f"nano loads, sha256 {model.fingerprint[:12]}..."


def _memory() -> tuple[bool, str]:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return True, "this system does not tell"
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return total >= LEAST_MEMORY, f"{total / 1e9:.1f} GB; tiles with nano need about 2 GB, vit_h needs 8 GB"


def _disk() -> tuple[bool, str]:
    folder = checkpoint_cache_dir()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    return free >= LEAST_DISK and os.access(there, os.W_OK), f"{free / 1e9:.1f} GB free in {folder}"


def _napari() -> tuple[bool, str]:
    if importlib.util.find_spec("napari") is None:
        return True, "not installed, the command line works without; pip install 'napari-sam-tiles[napari]' brings it"
    return True, "installed"
