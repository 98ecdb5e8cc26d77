"""Pairs of images and instance labels, found in a folder.

Three layouts are understood: `NAME.image.EXT` beside `NAME.labels.EXT` (also in subfolders), folders `images/` and
`labels/` with equal names, or a `manifest.csv` with a column `file`. EXT is PNG, TIFF, zarr or OME-Zarr, for images
JPEG as well. A manifest in the folder, or in one of the two above it, also says what the pairs belong to, in its
columns `dataset` and `group`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from napari_sam.errors import TrainingError
from napari_sam.training.reading import Sample, SampleCache, read_files

__all__ = ["Pair", "Sample", "SampleCache", "find_pairs", "read_pair"]

LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".ome.tif", ".ome.tiff", ".ome.zarr", ".zarr")
IMAGE_SUFFIXES = (*LABEL_SUFFIXES, ".jpg", ".jpeg")
MANIFEST = "manifest.csv"
LEVELS_UP = 2
"""A manifest may lie so many folders above the pairs, beside `train/` and `val/` for instance."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One image and its instance labels, by path."""

    image: Path
    labels: Path
    group: str
    """What the pair is counted under: its folder's name, or the manifest's `dataset`."""
    subgroup: str = ""
    """Part of the group, of one kind: what stands before "/" in the manifest's `group`."""

    @property
    def name(self) -> str:
        """The image's file name without `.image` and suffix."""
        return _stem(self.image).removesuffix(".image")


def read_pair(pair: Pair) -> Sample:
    """Read and normalise one pair whole; TrainingError as of :func:`napari_sam.training.reading.open_files`."""
    return read_files(pair.image, pair.labels, pair.name)


def find_pairs(folder: str | os.PathLike[str], *, split: str | None = None, allow_missing: bool = False) -> list[Pair]:
    """All pairs in `folder`, sorted by path, or in the manifest's order.

    Parameters
    ----------
    folder : path
    split : str, optional
        Only the rows of the folder's manifest with this value in the column `split`, where it has such a column.
    allow_missing : bool
        Give pairs without labels as well: they are to be reported together with other bad ones.

    Raises
    ------
    TrainingError
        If the folder is missing, holds no pairs, or an image has no labels (all of those are named).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise TrainingError(f"{folder} is not a folder; expected one with NAME.image.png + NAME.labels.png pairs.")
    if (folder / MANIFEST).is_file():
        pairs = _pairs_of_manifest(folder, split)
    else:
        pairs = _with_groups_from_above(folder, _pairs_of_files(folder))
    if not pairs:
        raise TrainingError(
            f"{folder} holds no image-label pairs; expected NAME.image.png + NAME.labels.png, folders images/ and "
            "labels/ with equal names, or a manifest.csv."
        )
    missing = [str(pair.image) for pair in pairs if not pair.labels.exists()]
    if missing and not allow_missing:
        raise TrainingError(
            f"{len(missing)} images in {folder} have no labels ({', '.join(missing)}); add them beside the images as "
            "NAME.labels.png, or take those images away."
        )
    return pairs


def _pairs_of_files(folder: Path) -> list[Pair]:
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        return [
            Pair(image, _with_suffix(folder / "labels" / _stem(image)), folder.name)
            for image in sorted((folder / "images").iterdir())
            if image.name.lower().endswith(IMAGE_SUFFIXES)
        ]
    return [Pair(image, _labels_beside(image), image.parent.name) for image in sorted(_iter_images(folder))]


def _iter_images(folder: Path) -> Iterator[Path]:
    """Every NAME.image.EXT in and below `folder`; what lies inside a zarr folder is not looked at."""
    for place, folders, files in os.walk(folder):
        zarrs = [name for name in folders if name.endswith(".zarr")]
        folders[:] = [name for name in folders if name not in zarrs]
        yield from (Path(place, n) for n in (*files, *zarrs) if _stem(Path(n)).endswith(".image"))


def _pairs_of_manifest(folder: Path, split: str | None) -> list[Pair]:
    rows = _rows(folder / MANIFEST)
    wanted = [row for row in rows if split is None or row.get("split", split) == split]
    images = [(folder / row["file"], row) for row in wanted]
    return [Pair(image, _labels_beside(image), row.get("dataset") or folder.name, _kind(row)) for image, row in images]


def _with_groups_from_above(folder: Path, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs, with groups from a manifest in a folder above that lists them."""
    for above in folder.resolve().parents[:LEVELS_UP]:
        if (above / MANIFEST).is_file():
            rows = {above / row["file"]: row for row in _rows(above / MANIFEST)}
            known = [(pair, rows.get(pair.image.resolve())) for pair in pairs]
            return [
                replace(pair, group=row.get("dataset") or pair.group, subgroup=_kind(row)) if row else pair
                for pair, row in known
            ]
    return list(pairs)


def _rows(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and "file" not in rows[0]:
        raise TrainingError(f"{manifest} has no column 'file', only {', '.join(rows[0])}.")
    return rows


def _kind(row: Mapping[str, str]) -> str:
    return (row.get("group") or "").split("/")[0]


def _stem(path: Path) -> str:
    """The name without its ending, `.ome` included: `a.image` of `a.image.ome.zarr`; "" for other endings."""
    name = path.name
    ending = max((s for s in IMAGE_SUFFIXES if name.lower().endswith(s)), key=len, default="")
    return name[: -len(ending)] if ending else ""


def _labels_beside(image: Path) -> Path:
    return _with_suffix(image.with_name(f"{_stem(image).removesuffix('.image')}.labels"))


def _with_suffix(start: Path) -> Path:
    """`start` with the first of the label suffixes under which there is something."""
    named = [start.with_name(start.name + suffix) for suffix in LABEL_SUFFIXES]
    return next((path for path in named if path.exists()), named[0])
