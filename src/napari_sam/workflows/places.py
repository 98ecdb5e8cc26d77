"""Where a job reads and writes: paths of this machine or URLs, and the folder that records the run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from napari_sam.errors import ConfigError, OutputError
from napari_sam.images.urls import RemotePath, local_path, place_of
from napari_sam.workflows.settings import SegmentConfig

Place = Path | RemotePath

_HASH_DIGITS = 8


def place_text(given: str | os.PathLike[str]) -> str:
    """A path or URL as messages show it: a URL has both its slashes, also one that went through a Path."""
    return str(place_of(given))


def run_folder_of(output: Place, given: str | os.PathLike[str] | None, *, scheduler: str | None = None) -> Path:
    """The folder for the record of a run: the one that was given, else beside the labels.

    Beside labels at a URL there is no folder: by default it is one in the current folder then, whose name depends on
    the whole URL, so that the same call finds it again.

    Raises
    ------
    ConfigError
        If a URL was given, or nothing although the workers of a cluster have to see the folder.
    """
    if given is not None:
        return local_path(given)
    if isinstance(output, Path):
        return output.with_name(output.name + ".run")
    if scheduler is not None:
        raise ConfigError(
            f"the labels go to {output}, so the record of the run needs a folder of its own that all workers see: name "
            "one with --run-folder (run_folder)."
        )
    digest = hashlib.sha256(str(output).encode()).hexdigest()[:_HASH_DIGITS]
    return Path(f"{output.name}-{digest}.run")


def is_run_of(run_folder: Path, output: Place) -> bool:
    """Whether a folder records a run that writes to `output`: what it wrote there may then be replaced."""
    if isinstance(output, Path) and run_folder == run_folder_of(output, None):
        return run_folder.is_dir()
    try:
        manifest = json.loads((run_folder / "manifest.json").read_text("utf-8"))
        return bool(manifest["stages"]["output"]["settings"]["name"] == output_name(run_folder, output))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def output_name(run_folder: Path, output: Place) -> str:
    """How the record of a run names its labels: whole where it does not lie beside them."""
    is_beside = isinstance(output, Path) and run_folder == run_folder_of(output, None)
    return output.name if is_beside else str(output.resolve() if isinstance(output, Path) else output)


def check_inputs(inputs: Sequence[Place], output: Place, config: SegmentConfig) -> None:
    """Refuse to write into what is read, and images that the workers would not see."""
    by_processes = config.uses_local_cluster or config.scheduler is not None
    for place in inputs:
        if not isinstance(place, RemotePath):
            continue
        if isinstance(output, RemotePath) and (output.holds(place) or place.holds(output)):
            raise OutputError(f"{place} is read by this job and would be changed; give the result another name.")
        if place.is_of_this_process and by_processes:
            raise ConfigError(
                f"{place} is in the memory of this process, where its workers cannot see it; leave out workers and "
                "scheduler, or use threads (executor = 'threads')."
            )
