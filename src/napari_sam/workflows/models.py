"""The model catalogue, as the rim sees it: what there is, what is here, fetching, checking, adding one's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import requests

from napari_sam.errors import CheckpointError, DownloadError, RunInterrupted
from napari_sam.model.catalogue import (
    ModelStatus,
    Verification,
    format_models,
    list_models,
    list_own_models,
    verify_models,
)
from napari_sam.model.downloads import download_checkpoint
from napari_sam.model.own_models import add_own_model, forget_own_model, own_models
from napari_sam.model.registry import find_entry, size_text
from napari_sam.model.storage import checkpoint_cache_dir
from napari_sam.workflows.stages import StageProgress

__all__ = [
    "ModelStatus",
    "Verification",
    "add_own_model",
    "checkpoint_cache_dir",
    "download_checkpoint",
    "download_model",
    "forget_own_model",
    "format_models",
    "is_offline",
    "list_models",
    "list_own_models",
    "size_text",
    "usable_models",
    "verify_model",
    "verify_models",
]


def usable_models() -> tuple[str, ...]:
    """What `load_model` can load now without a network: registry names whose files are here, then one's own paths.

    Raises
    ------
    CheckpointError
        If the list of one's own models is damaged.
    """
    named = [row.name for row in list_models() if row.path is not None]
    return (*named, *(own.path for own in own_models() if Path(own.path).is_file()))


def download_model(name: str, progress: StageProgress, should_stop: Callable[[], bool]) -> Path:
    """Fetch and verify a registered checkpoint, telling how far it is in kilobytes.

    Parameters
    ----------
    name : str
        A name in the registry.
    progress : function (stage, done, total)
    should_stop : function
        Asked at each piece that arrives. What has arrived is kept: the next download goes on from there.

    Raises
    ------
    RunInterrupted
        Once `should_stop` says True.
    CheckpointError, DownloadError
        As :func:`download_checkpoint`.
    """

    def report(here: int, in_all: int | None) -> None:
        if should_stop():
            raise RunInterrupted(
                f"the download of {name} was stopped after {size_text(here)}; they are kept, and the next download "
                "goes on from there."
            )
        # Kilobytes: a checkpoint has more bytes than Qt's integers can count. Publishers may leave the size unsaid.
        progress("kB", here // 1000, (in_all or find_entry(name).size_bytes or 0) // 1000)

    return download_checkpoint(name, report=report)


def verify_model(row: ModelStatus) -> Verification:
    """Check the file of one row of the catalogue: a published one by its hash, any other by loading it."""
    if row.where != "own file":
        return verify_models([row.name])[0]
    try:
        own = add_own_model(row.path or "")
    except CheckpointError as error:
        return Verification(row.name, False, str(error))
    return Verification(row.name, True, f"{own.path}: loads ({own.about})")


def is_offline(error: BaseException | None) -> bool:
    """Whether a failed download met no server at all: no network, a firewall, a wrong proxy."""
    while error is not None:
        if isinstance(error, requests.ConnectionError | requests.Timeout):
            return True
        error = error.__cause__ if isinstance(error, DownloadError | requests.RequestException) else None
    return False
