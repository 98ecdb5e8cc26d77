"""What a model is judged on: the pairs of a folder and its data sets, with the group each is counted under."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_sam.errors import ConfigError, TrainingError
from napari_sam.training.checking import find_bad_pairs
from napari_sam.training.data import LEVELS_UP, MANIFEST, Pair, find_pairs

DATASET_COLUMN = "dataset"
"""Can be grouped by without a manifest: the name of the data set's folder."""
NOT_LISTED = "(not in the manifest)"


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """A pair, what it is called in the results and what it is counted under."""

    pair: Pair
    name: str
    """The image's path below the folder that is judged."""
    group: str


def judged_pairs(
    folder: Path, *, group_by: str | None = None, max_images: int | None = None, skip_bad: bool = False
) -> tuple[list[JudgedPair], dict[str, str]]:
    """The pairs to judge, and the reasons why others are left out, by name.

    Parameters
    ----------
    folder : Path
        With pairs, or with subfolders that hold data sets.
    group_by : str, optional
        Column of the manifest in `folder` or the nearest above it.
    max_images : int, optional
        Only so many, spread evenly.
    skip_bad : bool
        Leave out pairs that cannot be used.

    Raises
    ------
    TrainingError
        If the folder holds no pairs, or pairs cannot be used (all are named) and are not to be left out.
    ConfigError
        If there is no such column.
    """
    folder = Path(folder)
    pairs = _pairs_below(folder)
    groups = _groups(folder, pairs, group_by)
    if max_images is not None and max_images < len(pairs):
        pairs = [pairs[i] for i in np.linspace(0, len(pairs) - 1, max_images).astype(int)]
    # An image without objects is a fair test: nothing is to be found in it.
    bad = {item.pair: item.reason for item in find_bad_pairs(pairs, allow_empty=True)}
    if bad and not skip_bad:
        listed = "\n".join(f"  {reason}" for reason in bad.values())
        raise TrainingError(
            f"{len(bad)} of {len(pairs)} pairs cannot be judged:\n{listed}\nMend them, or leave them out with skip_bad "
            "(--skip-bad)."
        )
    if len(bad) == len(pairs):
        raise TrainingError(f"none of the {len(pairs)} pairs can be judged, the first: {next(iter(bad.values()))}")
    kept = [JudgedPair(pair, _name(folder, pair), groups[pair.image]) for pair in pairs if pair not in bad]
    return kept, {_name(folder, pair): reason for pair, reason in bad.items()}


def _pairs_below(folder: Path) -> list[Pair]:
    """The pairs of `folder`, or of the data sets in its subfolders, whatever layout each of these has."""
    if not folder.is_dir() or _has_layout(folder):
        return find_pairs(folder, allow_missing=True)
    sets = [place for place in sorted(folder.iterdir()) if place.is_dir() and _has_layout(place)]
    within = [pair for place in sets for pair in find_pairs(place, allow_missing=True)]
    try:
        beside = find_pairs(folder, allow_missing=True)
    except TrainingError:
        if not within:
            raise
        beside = []
    known = {pair.image for pair in within}
    return sorted([*within, *(p for p in beside if p.image not in known)], key=lambda pair: pair.image)


def _has_layout(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() or ((folder / "images").is_dir() and (folder / "labels").is_dir())


def _name(folder: Path, pair: Pair) -> str:
    is_below = pair.image.is_relative_to(folder)
    return (pair.image.relative_to(folder) if is_below else pair.image).with_name(pair.name).as_posix()


def _groups(folder: Path, pairs: Sequence[Pair], column: str | None) -> dict[Path, str]:
    """The group of each image, by path."""
    places = (folder.resolve(), *folder.resolve().parents[:LEVELS_UP])
    manifest = next((place / MANIFEST for place in places if (place / MANIFEST).is_file()), None)
    if column is None or (manifest is None and column == DATASET_COLUMN):
        return {pair.image: pair.group for pair in pairs}
    if manifest is None:
        raise ConfigError(
            f"group_by = {column!r} needs a manifest.csv in {folder} or above it; there is none. Without one, "
            f"{DATASET_COLUMN!r} groups by folder."
        )
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and column not in rows[0]:
        raise ConfigError(f"{manifest} has no column {column!r}; it has {', '.join(rows[0])}.")
    value_of = {(manifest.parent / row["file"]).resolve(): row[column] or "(empty)" for row in rows}
    return {pair.image: value_of.get(pair.image.resolve(), NOT_LISTED) for pair in pairs}
