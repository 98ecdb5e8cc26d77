"""Pixels of image-label pairs: small ones whole and kept for a while, large ones a window at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError, TrainingError
from napari_sam.geometry import Box
from napari_sam.images import Plane, open_image

WINDOW_PX = 2048
"""Images with a longer side are read by windows of this side; no crop of a model's frame needs more."""
WINDOW_TRIES = 4
"""A window of a large image without any object is drawn anew so many times."""
OPENED_AT_ONCE = 16
"""Large images kept open; each holds its metadata and limits, not its pixels."""
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PICTURE_PX = 64 * 2**20
"""PNG and JPEG can only be decoded whole, so larger ones would not fit the memory of every machine."""

MAX_EXACT_LABEL = 2**24
"""Crops are cut as float32, which tells whole numbers apart up to here."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An image, or a window of one, and its labels in memory."""

    image: np.ndarray
    """(H, W, 3) uint8, normalised once for the whole image."""
    labels: np.ndarray
    """(H, W) int32, 0 = background, each object a value of its own."""
    name: str


class Files(Protocol):
    """What is read: two paths and a name."""

    @property
    def image(self) -> Path: ...
    @property
    def labels(self) -> Path: ...
    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class OpenedPair:
    """An image and its labels, checked to fit, of which any box can be read."""

    image: Plane
    labels: Plane
    name: str

    @property
    def is_large(self) -> bool:
        """Whether it is read by windows."""
        is_picture = self.image.source.name.lower().endswith(PICTURE_SUFFIXES)
        return not is_picture and max(self.image.shape) > WINDOW_PX

    def read(self, box: Box | None = None) -> Sample:
        """The pixels of `box`, or all; the limits of the image are those of the whole."""
        box = box or Box.of_size(self.image.shape)
        try:
            return Sample(self.image.read(box), self.read_labels(box), self.name)
        except ImageError as error:
            raise TrainingError(f"{self.name} cannot be read: {error}") from error

    def read_labels(self, box: Box) -> NDArray[np.int32]:
        """Labels (h, w); values that float32 does not hold exactly are numbered anew within the box."""
        labels = self.labels.read_raw(box)[..., 0]
        if labels.dtype.kind == "i" and labels.min(initial=0) < 0:
            raise TrainingError(
                f"{self.labels.source.name} holds negative labels; 0 is background, objects are 1 and above."
            )
        if labels.max(initial=0) > MAX_EXACT_LABEL:
            ids, places = np.unique(labels, return_inverse=True)
            labels = places.reshape(labels.shape) + int(ids[0] != 0)
        return labels.astype(np.int32)

    def read_window(self, rng: np.random.Generator) -> Sample:
        """A window of a large image, with objects if a few tries find any."""
        height, width = self.image.shape
        h, w = min(height, WINDOW_PX), min(width, WINDOW_PX)
        for _ in range(WINDOW_TRIES):
            y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            box = Box(x, y, x + w, y + h)
            if self.read_labels(box).any():
                break
        return self.read(box)


def open_files(image: Path, labels: Path, name: str) -> OpenedPair:
    """An image and its labels, opened without reading more than their format needs.

    Raises
    ------
    TrainingError
        If one of them cannot be opened, they differ in size, or the labels are no integers.
    """
    shown, known = _open_plane(image), _open_plane(labels)
    if known.dtype.kind not in "uib":
        raise TrainingError(f"{labels} holds {known.dtype}; labels must be integers, 0 = background.")
    if known.shape != shown.shape:
        raise TrainingError(f"{labels} has shape {known.shape}, its image {shown.shape}; they must be equal.")
    if len(known.channels) != 1:
        raise TrainingError(f"{labels} has {len(known.channels)} channels; labels must be one number a pixel.")
    if shown.source.name.lower().endswith(PICTURE_SUFFIXES) and shown.shape[0] * shown.shape[1] > MAX_PICTURE_PX:
        raise TrainingError(
            f"{image} has {shown.shape[0]} x {shown.shape[1]} pixels, and a PNG or JPEG file has no parts that can be "
            "read by themselves; save it as tiled TIFF or zarr, or cut it."
        )
    return OpenedPair(shown, known, name)


def read_files(image: Path, labels: Path, name: str) -> Sample:
    """An image and its labels, whole; errors as of :func:`open_files`."""
    return open_files(image, labels, name).read()


def _open_plane(path: Path) -> Plane:
    try:
        source = open_image(path)
        planes = source.size("T") * source.size("Z")
        if planes > 1:
            raise TrainingError(f"{path} is a stack of {planes} planes; save each plane as an image of its own.")
        return source.plane()
    except ImageError as error:
        raise TrainingError(f"{path} cannot be read: {error}") from error


class SampleCache:
    """Reads pairs when asked and keeps the latest up to `max_bytes`: the data set never lies in memory whole."""

    def __init__(self, pairs: Sequence[Files], *, max_bytes: int = 512 * 2**20) -> None:
        self._pairs = list(pairs)
        self._max_bytes = max_bytes
        self._kept: OrderedDict[int, Sample] = OrderedDict()
        self._opened: OrderedDict[int, OpenedPair] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._pairs)

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """Pair `index`, or a random window of it where it is large."""
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        opened = self._open(index)
        return opened.read_window(rng) if opened.is_large else self._keep(index, opened.read())

    def _open(self, index: int) -> OpenedPair:
        opened = self._opened.pop(index, None)
        if opened is None:
            pair = self._pairs[index]
            opened = open_files(pair.image, pair.labels, pair.name)
        if opened.is_large:  # its limits are found once; a small one is kept as pixels instead
            self._opened[index] = opened
            if len(self._opened) > OPENED_AT_ONCE:
                self._opened.popitem(last=False)
        return opened

    def _keep(self, index: int, sample: Sample) -> Sample:
        self._kept[index] = sample
        self._bytes += sample.image.nbytes + sample.labels.nbytes
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._bytes -= old.image.nbytes + old.labels.nbytes
        return sample
