"""Pairs of images and instance labels: found in a folder, read one at a time.

Three layouts are understood: `NAME.image.EXT` beside `NAME.labels.EXT` (also in subfolders), folders `images/` and
`labels/` with equal names, or a `manifest.csv` with a column `file`.
"""

from __future__ import annotations

import csv
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from napari_sam.errors import TrainingError
from napari_sam.images import normalise_image

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
LABEL_SUFFIXES = (".png", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Pair:
    """One image and its instance labels, by path."""

    image: Path
    labels: Path
    group: str
    """What the pair is counted under: its folder's name, or the manifest's `dataset`."""

    @property
    def name(self) -> str:
        """The image's file name without `.image` and suffix."""
        return self.image.name.removesuffix(self.image.suffix).removesuffix(".image")


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and its labels in memory."""

    image: np.ndarray
    """(H, W, 3) uint8, normalised once for the whole image."""
    labels: np.ndarray
    """(H, W) int32, 0 = background, each object a value of its own."""
    name: str


def find_pairs(folder: str | os.PathLike[str]) -> list[Pair]:
    """All pairs in `folder`, sorted by path.

    Raises
    ------
    TrainingError
        If the folder is missing, holds no pairs, or an image has no labels (all of those are named).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise TrainingError(f"{folder} is not a folder; expected one with NAME.image.png + NAME.labels.png pairs.")
    if (folder / "manifest.csv").is_file():
        pairs = _pairs_of_manifest(folder)
    elif (folder / "images").is_dir() and (folder / "labels").is_dir():
        pairs = [
            Pair(image, _labels_of(folder / "labels" / image.name), folder.name)
            for image in sorted((folder / "images").iterdir())
            if image.suffix.lower() in IMAGE_SUFFIXES
        ]
    else:
        pairs = [
            Pair(image, _labels_beside(image), image.parent.name)
            for image in sorted(folder.rglob("*.image.*"))
            if image.suffix.lower() in IMAGE_SUFFIXES
        ]
    if not pairs:
        raise TrainingError(
            f"{folder} holds no image-label pairs; expected NAME.image.png + NAME.labels.png, folders images/ and "
            "labels/ with equal names, or a manifest.csv."
        )
    missing = [pair.labels for pair in pairs if not pair.labels.is_file()]
    if missing:
        raise TrainingError(
            f"{len(missing)} images in {folder} have no labels, the first: {missing[0]} does not exist; add them, or "
            "take those images away."
        )
    return pairs


def _pairs_of_manifest(folder: Path) -> list[Pair]:
    with (folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and "file" not in rows[0]:
        raise TrainingError(f"{folder / 'manifest.csv'} has no column 'file', only {', '.join(rows[0])}.")
    images = [(folder / row["file"], row.get("dataset", folder.name)) for row in rows]
    return [Pair(image, _labels_beside(image), group) for image, group in images]


def _labels_beside(image: Path) -> Path:
    stem = image.name.removesuffix(image.suffix).removesuffix(".image")
    return _labels_of(image.with_name(f"{stem}.labels.png"))


def _labels_of(path: Path) -> Path:
    """`path`, or the file of that name with another of the label suffixes."""
    return next((p for p in (path.with_suffix(s) for s in LABEL_SUFFIXES) if p.is_file()), path)


def read_pair(pair: Pair) -> Sample:
    """Read and normalise one pair.

    Raises
    ------
    TrainingError
        If labels and image differ in size or the labels are no integers.
    """
    image = normalise_image(_read_pixels(pair.image))
    labels = _read_pixels(pair.labels)
    if labels.shape != image.shape[:2]:
        raise TrainingError(f"{pair.labels} has shape {labels.shape}, its image {image.shape[:2]}; they must be equal.")
    if labels.dtype.kind not in "uib":
        raise TrainingError(f"{pair.labels} holds {labels.dtype}; labels must be integers, 0 = background.")
    return Sample(image, labels.astype(np.int32), pair.name)


def _read_pixels(path: Path) -> np.ndarray:
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            return np.asarray(tifffile.imread(path))
        return np.asarray(imagecodecs.imread(path))
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{path} cannot be read: {error}") from error


class SampleCache:
    """Reads pairs when asked and keeps the latest up to `max_bytes`: the data set never lies in memory whole."""

    def __init__(self, pairs: Sequence[Pair], *, max_bytes: int = 512 * 2**20) -> None:
        self._pairs = list(pairs)
        self._max_bytes = max_bytes
        self._kept: OrderedDict[int, Sample] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        sample = read_pair(self._pairs[index])
        self._kept[index] = sample
        self._bytes += sample.image.nbytes + sample.labels.nbytes
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._bytes -= old.image.nbytes + old.labels.nbytes
        return sample
