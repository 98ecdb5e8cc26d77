"""Checkpoint files of the user's own, remembered by path: offered beside the published ones, never copied or moved."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from napari_sam.errors import CheckpointError
from napari_sam.model.storage import cache_dir

LIST_NAME = "own_models.json"


@dataclass(frozen=True, slots=True)
class OwnModel:
    """A checkpoint file that was added by hand."""

    path: str
    """Absolute; what `load_model` takes."""
    about: str
    """What network it is of, as found when it was added."""


def own_models() -> tuple[OwnModel, ...]:
    """The checkpoints that were added, in the order of adding; their files may have gone since.

    Raises
    ------
    CheckpointError
        If the list of them is damaged.
    """
    place = cache_dir() / LIST_NAME
    try:
        return tuple(OwnModel(str(row["path"]), str(row["about"])) for row in json.loads(place.read_text("utf-8")))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"the list of your own models, {place}, cannot be read ({type(error).__name__}: {error}); delete it and "
            "add them again. The models themselves are not in it."
        ) from error


def add_own_model(path: str | os.PathLike[str]) -> OwnModel:
    """Remember a checkpoint file, once it has proved to be one: it is read and its network built.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, unsafe or of a network we do not have, or the list cannot be written.
    """
    # Imported here: only this needs torch.
    from napari_sam.model.checkpoints import build_from_checkpoint, read_checkpoint

    file = Path(path).expanduser().resolve()
    checkpoint = read_checkpoint(file)
    sam = build_from_checkpoint(file, checkpoint)
    millions = sum(parameter.numel() for parameter in sam.parameters()) / 1e6
    encoder = type(checkpoint.config.encoder).__name__.removesuffix("Config")
    added = OwnModel(str(file), f"your own: {encoder} encoder, {millions:.1f} million parameters")
    _write([*(row for row in own_models() if row.path != added.path), added])
    return added


def forget_own_model(path: str | os.PathLike[str]) -> None:
    """Take a checkpoint off the list; its file stays where it is.

    Raises
    ------
    CheckpointError
        If the list is damaged or cannot be written.
    """
    _write([row for row in own_models() if row.path != os.fspath(path)])


def _write(rows: list[OwnModel]) -> None:
    place = cache_dir() / LIST_NAME
    partial = place.with_name(f"{LIST_NAME}.partial")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps([asdict(row) for row in rows], indent=1), "utf-8")
        partial.replace(place)
    except OSError as error:
        raise CheckpointError(
            f"cannot write the list of your own models to {place}: {error.strerror or error}; set NAPARI_SAM_CACHE to "
            "a folder that you may write to."
        ) from error
