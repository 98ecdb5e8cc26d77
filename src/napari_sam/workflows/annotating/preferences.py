"""What a user chose once and for all (shortcuts, the session to go on with): one small JSON file in the user's data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pooch

from napari_sam.errors import OutputError

DATA_VARIABLE = "NAPARI_SAM_DATA"
"""Moves the folder, for machines whose home is read-only or shared."""


def user_data_dir() -> Path:
    """The folder for what the user made and cannot be fetched again: `NAPARI_SAM_DATA`, or a place of the system."""
    moved = os.environ.get(DATA_VARIABLE)
    if moved:
        return Path(moved).expanduser()
    # Beside the cache, not in it: who empties the cache keeps the work.
    return Path(pooch.os_cache("napari-sam-tiles")).with_name("napari-sam-tiles-data")


def preferences_path() -> Path:
    return user_data_dir() / "preferences.json"


def read_preference(name: str, default: Any = None) -> Any:
    """A stored choice; the default where there is none, or where the file was damaged."""
    return _read().get(name, default)


def write_preference(name: str, value: Any) -> None:
    """Store a choice (a JSON value); the others stay.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    path = preferences_path()
    text = json.dumps(_read() | {name: value}, indent=1, sort_keys=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"the preferences cannot be written to {path}: {error}. Make the folder writable, or name another one in "
            f"the environment variable {DATA_VARIABLE}."
        ) from error


def _read() -> dict[str, Any]:
    try:
        found = json.loads(preferences_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # never written, or damaged: choices are made again, nothing else is lost
        return {}
    return found if isinstance(found, dict) else {}
