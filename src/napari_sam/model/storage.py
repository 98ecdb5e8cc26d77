"""Where checkpoint files lie on this machine, and whether they are what was published. No torch here.

Looked at in this order: the package itself (built-ins), the bundle directory, the cache. Two environment variables say
where: `NAPARI_SAM_BUNDLE`, a read-only folder with files under the registry's names (for machines without a network),
and `NAPARI_SAM_CACHE`, which moves everything this package caches.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pooch
import xxhash

from napari_sam.errors import CheckpointError
from napari_sam.model.registry import CheckpointEntry, size_text

CACHE_VARIABLE = "NAPARI_SAM_CACHE"
BUNDLE_VARIABLE = "NAPARI_SAM_BUNDLE"

BUILT_IN_DIR = Path(__file__).parent / "weights"

Place = Literal["built-in", "bundle", "cache"]

_READ_BYTES = 1 << 20

_MAKERS: Mapping[str, Callable[[], Any]] = {
    "sha256": hashlib.sha256,
    # Systems that forbid MD5 for security refuse it unless told that it guards against accidents only.
    "md5": partial(hashlib.md5, usedforsecurity=False),
    "xxh128": xxhash.xxh128,
}


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint file on this machine, not yet verified."""

    path: Path
    place: Place


def cache_dir() -> Path:
    """The folder for everything this package caches: `NAPARI_SAM_CACHE`, or the system's usual place."""
    moved = os.environ.get(CACHE_VARIABLE)
    return Path(moved).expanduser() if moved else Path(pooch.os_cache("napari-sam-tiles"))


def checkpoint_cache_dir() -> Path:
    """The folder that downloaded checkpoints are kept in."""
    return cache_dir() / "checkpoints"


def bundle_dir() -> Path | None:
    """The offline bundle that `NAPARI_SAM_BUNDLE` names, None when it is not set.

    Raises
    ------
    CheckpointError
        If it is set and is not a folder.
    """
    value = os.environ.get(BUNDLE_VARIABLE)
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise CheckpointError(
            f"{BUNDLE_VARIABLE} is set to {value!r}, which is not a folder; set it to the folder that holds the "
            "checkpoint files, or unset it."
        )
    return folder


def find_checkpoint(entry: CheckpointEntry) -> StoredCheckpoint | None:
    """The file of `entry` that would be used on this machine, None if there is none."""
    if entry.built_in:
        candidates: list[tuple[Path, Place]] = [(BUILT_IN_DIR, "built-in")]
    else:
        bundle = bundle_dir()
        candidates = [(bundle, "bundle")] if bundle is not None else []
        candidates.append((checkpoint_cache_dir(), "cache"))
    for folder, place in candidates:
        if (folder / entry.file_name).is_file():
            return StoredCheckpoint(folder / entry.file_name, place)
    return None


def how_to_get(entry: CheckpointEntry) -> str:
    """What to tell somebody who asks for a checkpoint that is not here."""
    if entry.built_in:
        return f"the built-in model {entry.name} is missing from this installation; install napari-sam-tiles again."
    size = "" if entry.size_bytes is None else f" ({size_text(entry.size_bytes)})"
    return (
        f"{entry.name} is not on this machine; run `napari-sam models download {entry.name}`{size} or set "
        f"{BUNDLE_VARIABLE} to a folder that holds {entry.file_name}."
    )


def file_hashes(path: Path, kinds: Iterable[str]) -> dict[str, str]:
    """Hashes of a file in lower-case hexadecimal, one for each of `kinds`, read once and in pieces."""
    hashes = {kind: _MAKERS[kind]() for kind in kinds}
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            for running in hashes.values():
                running.update(piece)
    return {kind: running.hexdigest() for kind, running in hashes.items()}


def hash_mismatch(entry: CheckpointEntry, path: Path) -> str | None:
    """What is wrong with the bytes of `path` as the file of `entry`, as a phrase; None if they are as published."""
    if entry.hash_kind is None:
        return None
    return _mismatch(entry, path, file_hashes(path, [entry.hash_kind])[entry.hash_kind])


def _mismatch(entry: CheckpointEntry, path: Path, digest: str) -> str | None:
    if digest == entry.digest:
        return None
    published = "" if entry.size_bytes is None else f", published are {entry.size_bytes:,}"
    return f"expected {entry.hash_kind} {entry.digest}, got {digest} ({path.stat().st_size:,} bytes{published})"


def verify_checkpoint(entry: CheckpointEntry, stored: StoredCheckpoint) -> str:
    """Check a file against the registry's hash; return its SHA-256, which is the model's fingerprint.

    A built-in has no pinned hash: it came with the package, and whatever installed that has checked it.

    Raises
    ------
    CheckpointError
        If the file cannot be read or is not the published one; says which hash was expected, which came and how to
        mend it.
    """
    kinds = {"sha256"} | ({entry.hash_kind} if entry.hash_kind else set())
    try:
        hashes = file_hashes(stored.path, kinds)
    except OSError as error:
        raise CheckpointError(f"cannot read {stored.path}: {error.strerror}; check its permissions.") from error
    problem = _mismatch(entry, stored.path, hashes[entry.hash_kind]) if entry.hash_kind else None
    if problem is not None:
        raise CheckpointError(f"{stored.path} is not {entry.name} as published: {problem}; {_mend(entry, stored)}")
    return hashes["sha256"]


def _mend(entry: CheckpointEntry, stored: StoredCheckpoint) -> str:
    if stored.place == "bundle":
        return f"replace it in the bundle by the file from {entry.urls[0]}, or unset {BUNDLE_VARIABLE}."
    return f"run `napari-sam models download {entry.name}` to replace it."
