"""Folders of images and labels to a data set in SA-1B's layout, and back (paper, section 5)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import OutputError, TrainingError
from napari_sam.export import PictureFormat, Sa1bWriter, iter_sa1b, write_label_tiff
from napari_sam.geometry import Box
from napari_sam.images import Plane, open_image
from napari_sam.images.urls import local_path
from napari_sam.model import SamModel, load_model
from napari_sam.predict import AutoMaskConfig, generate_masks, preset_config
from napari_sam.tiling import MergedObjects
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.labels import PaintableObjects
from napari_sam.tiling.writing import write_bytes
from napari_sam.training.data import IMAGE_SUFFIXES, find_pairs
from napari_sam.workflows.exporting import read_objects


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """What was written."""

    images: int
    masks: int


@dataclass(frozen=True, slots=True)
class _Source:
    """An image, and its labels if it has any."""

    image: Path
    labels: Path | None
    name: str


def write_dataset(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | SamModel | None = None,
    device: str = "auto",
    preset: str | None = None,
    automatic: AutoMaskConfig | None = None,
    images_per_shard: int = 1000,
    picture: PictureFormat = "png",
    progress: Progress | None = None,
) -> DatasetSummary:
    """Write a folder of images as a data set in SA-1B's layout, one image in memory at a time.

    Masks are the objects of each image's labels. Where an image has none, `model` finds its masks: all of them,
    overlapping ones too, as in the fully automatic stage of the paper's data engine (section 4).

    Parameters
    ----------
    folder : path
        Pairs of images and labels in any of the layouts that training reads; with a model, also plain images.
    output : path
        The folder to write shards into.
    model, device : optional
        See :func:`napari_sam.load_model`.
    preset : str, optional
        See :func:`napari_sam.segment`.
    automatic : AutoMaskConfig, optional
        Instead of a preset.
    images_per_shard : int
    picture : "png" or "jpg"
        How pictures are stored, in eight bits, as the model sees them.
    progress : callable, optional
        Called with (images done, images in all).

    Raises
    ------
    TrainingError
        If there are no images, or images without labels and no model.
    ImageError, CheckpointError, ConfigError, OutputError
        If something cannot be read, used or written.
    """
    try:
        sources = _sources(Path(folder), allow_missing=model is not None)
    except TrainingError as error:
        if model is not None or not Path(folder).is_dir():
            raise
        raise TrainingError(f"{error} A model (--model nano) finds the masks of images without labels.") from None
    loaded = model if isinstance(model, SamModel) or model is None else load_model(model, device=device)
    settings = automatic
    if settings is None and loaded is not None:
        settings = preset_config(preset, defaults=loaded.automatic_defaults, overrides=None)
    with Sa1bWriter(output, images_per_shard=images_per_shard, picture=picture) as writer:
        for done, source in enumerate(sources, start=1):
            plane = open_image(source.image).plane()
            pixels = plane.read(Box.of_size(plane.shape))
            writer.add(_as_stored(pixels, plane), _objects(source, pixels, loaded, settings), source.name)
            if progress is not None:
                progress(done, len(sources))
    return DatasetSummary(writer.images, writer.masks)


def read_dataset(
    dataset: str | os.PathLike[str], output: str | os.PathLike[str], *, progress: Progress | None = None
) -> DatasetSummary:
    """Write a data set in SA-1B's layout as pairs NAME.image.png + NAME.labels.tif, as training reads them.

    A label image shows one object a pixel: where masks overlap, the one with the higher predicted IoU lies on top.

    Parameters
    ----------
    dataset : path
        As :func:`napari_sam.export.iter_sa1b` reads it.
    output : path
        The folder to write into; made if missing.
    progress : callable, optional
        Called with (images done, 0): how many there are is not known before the end.

    Raises
    ------
    ImageError
        If the data set is damaged.
    OutputError
        If a pair is there already, or the disk refuses.
    """
    target, images, masks = local_path(output), 0, 0
    for images, item in enumerate(iter_sa1b(dataset), start=1):
        stem = target / Path(item.file.file_name).stem
        image = stem.with_name(f"{stem.name}.image.png")
        if image.exists():
            raise OutputError(f"{image} already exists; choose an empty folder.")
        objects = MergedObjects.from_masks([mask for _, mask in item.file.masks], item.file.image_size)
        write_label_tiff(objects, stem.with_name(f"{stem.name}.labels.tif"))
        write_bytes(image, bytes(imagecodecs.png_encode(item.read_picture())))
        masks += len(objects)
        if progress is not None:
            progress(images, 0)
    return DatasetSummary(images, masks)


def iter_label_folder(folder: Path) -> Iterator[tuple[str, PaintableObjects]]:
    """Name and objects of each pair of a folder, one at a time."""
    for source in _sources(folder, allow_missing=False):
        yield source.name, read_objects(source.labels or source.image).objects


def _sources(folder: Path, *, allow_missing: bool) -> list[_Source]:
    """The images of a folder in the order of their names."""
    try:
        pairs = find_pairs(folder, allow_missing=allow_missing)
    except TrainingError:
        if not allow_missing or not folder.is_dir():
            raise
        plain = sorted(p for p in folder.iterdir() if p.name.lower().endswith(IMAGE_SUFFIXES))
        if not plain:
            raise
        return [_Source(path, None, path.name) for path in plain]
    return [_Source(p.image, p.labels if p.labels.exists() else None, p.image.name) for p in pairs]


def _objects(
    source: _Source, pixels: NDArray[np.uint8], model: SamModel | None, settings: AutoMaskConfig | None
) -> PaintableObjects:
    if source.labels is not None or model is None:
        return read_objects(source.labels or source.image).objects
    return MergedObjects.from_masks(generate_masks(model, pixels, settings), (pixels.shape[0], pixels.shape[1]))


def _as_stored(pixels: NDArray[np.uint8], plane: Plane) -> NDArray[Any]:
    """One gray channel where all three are the same."""
    return pixels[..., 0] if len(plane.channels) == 1 else pixels
