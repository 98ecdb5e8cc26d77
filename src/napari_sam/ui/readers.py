"""Readers: images of any size, opened lazily, with their pyramid, pixel size, channels and labels.

Only names are claimed that napari would read whole into memory or without their sizes; an ordinary .tif, .png or .jpg
is left to whoever else reads it, and is opened lazily by *File > IO Utilities > Open a huge image*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_warning

from napari_sam.errors import ImageError
from napari_sam.images.remote import METADATA_FILES
from napari_sam.ui.layers import LayerTuple
from napari_sam.workflows.file_layers import FileLayer, read_file_layers

Paths = str | Path | Sequence[str | Path]
ReadFunction = Callable[[Paths], list[LayerTuple]]


def file_reader(path: Paths) -> ReadFunction | None:
    """npe2's reader of files: what reads `path`, or None for several files that are to become one stack."""
    return read_layers if isinstance(path, str | Path) else None


def folder_reader(path: Paths) -> ReadFunction | None:
    """npe2's reader of folders: what reads `path`, or None if it is no zarr image."""
    is_zarr = isinstance(path, str | Path) and any((Path(path) / name).is_file() for name in METADATA_FILES)
    return read_layers if is_zarr else None


def read_layers(path: Paths) -> list[LayerTuple]:
    """The layers of a file or folder, all lazy: its image, split into channels, and label images.

    Raises
    ------
    ImageError
        If it cannot be read; says why, what can be, and what to do.
    """
    if not isinstance(path, str | Path):
        raise ImageError("several files cannot be opened as one image here; open them one by one.")
    layers = []
    for image in read_file_layers(path):
        if image.problem is not None:
            show_warning(image.problem)
        layers.append(as_layer(image))
    return layers


def as_layer(image: FileLayer) -> LayerTuple:
    """A layer of a file as napari takes it: data, options, layer type."""
    spatial = [axis for axis in image.axes if axis not in "CS"]
    options: dict[str, Any] = {
        "name": image.name,
        "scale": [image.step_um(axis) or 1.0 for axis in spatial],
        "units": ["um" if image.step_um(axis) is not None else "pixel" for axis in spatial],
        "axis_labels": [axis.lower() for axis in spatial],
    }
    data: Any = list(image.levels) if len(image.levels) > 1 else image.levels[0]
    options["multiscale"] = len(image.levels) > 1
    if image.is_labels:
        # Labels have no channel axis: channels of a label image become a slider.
        return data, _with_features(options, image), "labels"
    options["rgb"] = image.is_rgb
    if "C" in image.axes:
        options["channel_axis"] = image.axes.index("C")
        options["name"] = [f"{image.name} {name}" for name in image.channel_names]
    if image.levels[0].dtype == "uint8" and not image.is_rgb:
        options["contrast_limits"] = (0, 255)
    return data, options, "image"


def _with_features(options: dict[str, Any], image: FileLayer) -> dict[str, Any]:
    if "C" in image.axes:
        at = image.axes.index("C")
        for name, value in (("scale", 1.0), ("units", "pixel"), ("axis_labels", "c")):
            options[name].insert(at, value)
    return options if image.features is None else {**options, "features": image.features}
