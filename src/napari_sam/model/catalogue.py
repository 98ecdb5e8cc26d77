"""What `napari-sam models list | download | verify` show: the registry, and what of it is on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_sam.errors import CheckpointError
from napari_sam.model import registry
from napari_sam.model.own_models import OwnModel, own_models
from napari_sam.model.registry import CheckpointEntry, size_text
from napari_sam.model.storage import Place, StoredCheckpoint, find_checkpoint, how_to_get, verify_checkpoint


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One row of `napari-sam models list`."""

    name: str
    architecture: str
    size_bytes: int | None
    """Of the file on this machine, else as published; None where neither is known."""
    licence: str
    where: Place | Literal["own file", "not downloaded", "missing"]
    """"missing" is a built-in that this installation lacks, or a file of the user's own that is gone."""
    path: Path | None
    hash_kind: str | None
    """Which hash of the published file is known; None for a built-in, which is verified by loading it."""
    good_at: str


@dataclass(frozen=True, slots=True)
class Verification:
    """One row of `napari-sam models verify`."""

    name: str
    ok: bool
    message: str
    """The file and what it was verified by; or what is wrong and how to mend it."""


def list_models() -> tuple[ModelStatus, ...]:
    """Every registered model, in the registry's order, and where it is. Reads no checkpoint, loads no torch."""
    return tuple(_status(entry) for entry in registry.REGISTRY.values())


def list_own_models() -> tuple[ModelStatus, ...]:
    """The user's own checkpoints, as rows like those of :func:`list_models`; the name is the file's without its ending.

    Raises
    ------
    CheckpointError
        If the list of them is damaged.
    """
    return tuple(_own_status(own) for own in own_models())


def verify_models(names: Iterable[str] = ()) -> tuple[Verification, ...]:
    """Check checkpoint files on this machine: those of `names`, or all that are here.

    A published file is compared with its pinned hash; a built-in is loaded. A model that was named and is not here is a
    failure.

    Raises
    ------
    CheckpointError
        If a name is not in the registry.
    """
    asked = [registry.find_entry(name) for name in names]
    if asked:
        return tuple(_verify(entry) for entry in asked)
    return tuple(_verify(entry) for entry in registry.REGISTRY.values() if entry.built_in or find_checkpoint(entry))


def format_models(rows: Iterable[ModelStatus]) -> str:
    """The rows as a table for a terminal, one line a model."""
    cells = [("name", "size", "where", "hash", "licence", "good at")]
    for row in rows:
        size = "?" if row.size_bytes is None else size_text(row.size_bytes)
        cells.append(
            (row.name, size, row.where, row.hash_kind or "-", row.licence.split(" (")[0].split(";")[0], row.good_at)
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def _status(entry: CheckpointEntry) -> ModelStatus:
    stored = find_checkpoint(entry)
    return ModelStatus(
        name=entry.name,
        architecture=entry.architecture,
        size_bytes=entry.size_bytes if stored is None else stored.path.stat().st_size,
        licence=entry.licence,
        where=stored.place if stored is not None else "missing" if entry.built_in else "not downloaded",
        path=None if stored is None else stored.path,
        hash_kind=entry.hash_kind,
        good_at=entry.good_at,
    )


def _own_status(own: OwnModel) -> ModelStatus:
    path = Path(own.path)
    here = path.is_file()
    return ModelStatus(
        name=path.stem,
        architecture="own",
        size_bytes=path.stat().st_size if here else None,
        licence="your own",
        where="own file" if here else "missing",
        path=path,
        hash_kind=None,
        good_at=own.about,
    )


def _verify(entry: CheckpointEntry) -> Verification:
    stored = find_checkpoint(entry)
    if stored is None:
        return Verification(entry.name, False, how_to_get(entry))
    try:
        return Verification(entry.name, True, _check(entry, stored))
    except CheckpointError as error:
        return Verification(entry.name, False, str(error))


def _check(entry: CheckpointEntry, stored: StoredCheckpoint) -> str:
    fingerprint = verify_checkpoint(entry, stored)
    if entry.hash_kind is not None:
        return f"{stored.path}: {entry.hash_kind} as published"
    # Imported here: only this needs torch.
    from napari_sam.model.checkpoints import build_from_checkpoint, read_checkpoint

    build_from_checkpoint(stored.path, read_checkpoint(stored.path))
    return f"{stored.path}: loads; sha256 {fingerprint}"
