"""A file as the layers of a viewer: levels read where they are looked at, axes in a fixed order, sizes and names."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr
from numpy.typing import NDArray

from napari_sam.errors import ImageError, NapariSamError
from napari_sam.export import read_table
from napari_sam.images import ImageSource, open_image
from napari_sam.images.arrays import LazyArray, read_region
from napari_sam.images.ome_zarr import is_zarr

SHOWN_AXES = "TZCYXS"
"""The order in which axes are shown: sliders first, colours last."""
TABLE_ENDINGS = (".objects.csv", ".objects.parquet", ".csv", ".parquet")
"""Where the table of `NAME.ome.zarr` is looked for: beside it, as `NAME` and one of these."""

IN_MEMORY_PX = 2048 * 2048
"""Results of up to so many pixels can be painted on; larger ones are read where they are looked at."""
_MOST_OBJECTS_OF_16_BITS = 2**15
"""As many again can be drawn by hand."""
_CHUNK_PX = 1024
_LARGEST_VIEW_PX = 2**26
"""A level of more pixels is not to be the coarsest: a viewer reads the coarsest one whole."""


@dataclass(frozen=True, slots=True, eq=False)
class FileLayer:
    """One image or label image of a file."""

    name: str
    levels: tuple[da.Array, ...]
    """Finest first, lazy; axes as in `axes`."""
    axes: str
    """Letters in the order of `SHOWN_AXES`."""
    channel_names: tuple[str, ...]
    """One a channel where `axes` has C, else empty."""
    pixel_size_um: tuple[float, float] | None
    """(y, x)."""
    depth_um: float | None
    """Distance of planes along Z."""
    is_labels: bool
    features: dict[str, NDArray[Any]] | None = None
    """Columns of the object table beside a label image; `index` is the label."""
    problem: str | None = None
    """Why a table that lies beside the labels is not shown."""

    @property
    def is_rgb(self) -> bool:
        """Whether the last axis are the samples of a colour pixel."""
        return self.axes.endswith("S")

    def step_um(self, axis: str) -> float | None:
        """Length of one step along an axis in micrometres, where it is known."""
        if axis in "YX":
            return None if self.pixel_size_um is None else self.pixel_size_um["YX".index(axis)]
        return self.depth_um if axis == "Z" else None


class CheckedLevel:
    """A level whose failures name the image and the reason, for dask to read from."""

    def __init__(self, level: LazyArray, name: str, dtype: np.dtype[Any]) -> None:
        self._level, self._name = level, name
        self.shape, self.dtype, self.ndim = tuple(int(n) for n in level.shape), dtype, len(level.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return read_region(self._level, key, self._name)


def read_file_layers(path: str | os.PathLike[str]) -> tuple[FileLayer, ...]:
    """What a viewer shows of a file: its image and, for an OME-Zarr image, the label images stored inside it.

    Only metadata are read. An image without a coarse level gets levels of every second, fourth, ... pixel of it, so
    that a viewer never holds all of it.

    Parameters
    ----------
    path : path
        Whatever `napari_sam.open_image` opens.

    Raises
    ------
    ImageError
        If it cannot be opened.
    """
    file = Path(path).expanduser()
    source = open_image(file)
    folder = file if file.is_dir() else None
    if folder is not None and "image-label" in _metadata(folder):
        return (_label_image(source, folder),)
    image = _layer(source, plain_stem(file), is_labels=False)
    inside = [] if folder is None else [folder / "labels" / name for name in _labels_inside(folder)]
    return (image, *(_layer(open_image(place), place.name, is_labels=True) for place in inside))


def read_viewable(output: Path) -> list[NDArray[Any] | da.Array]:
    """The levels of a written label image, finest first: one array in memory if it is small, else lazy ones.

    An array of few objects has 16 bits, which napari draws without looking each pixel up.

    Raises
    ------
    ImageError
        If the file cannot be read.
    """
    levels = open_image(output).levels
    if np.prod(levels[0].shape) <= IN_MEMORY_PX:
        labels = np.array(levels[0][:])
        return [labels.astype(np.uint16) if labels.max(initial=0) <= _MOST_OBJECTS_OF_16_BITS else labels]
    chunks = (*(1 for _ in levels[0].shape[:-2]), _CHUNK_PX, _CHUNK_PX)
    return [da.from_array(level, chunks=chunks, name=False) for level in levels]


def table_features(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The columns of an object table as a viewer's features: `index` is the label, a first row stands for background.

    Parameters
    ----------
    columns : dict of name to array of shape (N,)
        With a column "label".
    """
    features: dict[str, NDArray[Any]] = {"index": np.concatenate([[0], columns["label"]]).astype(np.int64)}
    for name, values in columns.items():
        if name != "label":
            empty = np.full(1, np.nan) if values.dtype.kind == "f" else np.zeros(1, values.dtype)
            features[name] = np.concatenate([empty, values])
    return features


def plain_stem(path: Path) -> str:
    """`slide` of `slide.ome.zarr`, `slide.ome.tif` and `slide.svs`."""
    return path.name.split(".ome.")[0] if ".ome." in path.name else path.stem


def find_table(labels: Path) -> Path | None:
    """The object table beside a label image; None if there is none."""
    beside = (labels.with_name(plain_stem(labels) + ending) for ending in TABLE_ENDINGS)
    return next((path for path in beside if path.is_file()), None)


def _label_image(source: ImageSource, folder: Path) -> FileLayer:
    """A label image of ours or of others, with the table beside it where there is one."""
    stem, table = plain_stem(folder), find_table(folder)
    if table is None:
        return _layer(source, stem, is_labels=True)
    try:
        return _layer(source, stem, is_labels=True, features=table_features(read_table(table)))
    except NapariSamError as error:
        return _layer(source, stem, is_labels=True, problem=f"{stem} is shown without its table: {error}")


def _layer(source: ImageSource, name: str, **told: Any) -> FileLayer:
    if told["is_labels"] and source.dtype.kind not in "uib":
        raise ImageError(
            f"{source.name} is declared to be a label image but has pixels of type {source.dtype}; labels are whole "
            "numbers: write it again from the labels, or open it as an image."
        )
    dropped = _useless_axis(source)
    axes = "".join(axis for axis in SHOWN_AXES if axis in source.axes and axis not in dropped)
    stored = [axis for axis in source.axes if axis not in dropped]
    order = [stored.index(axis) for axis in axes]
    levels = [_lazy_level(source, i, dropped) for i in _usable_levels(source)]
    if order != sorted(order):  # dask reads whole chunks through a transposition
        levels = [level.transpose(order) for level in levels]
    return FileLayer(
        name=name,
        levels=tuple(_with_coarser(levels, axes)),
        axes=axes,
        channel_names=source.channel_names if "C" in axes else (),
        pixel_size_um=source.pixel_size_um,
        depth_um=source.depth_um,
        **told,
    )


def _useless_axis(source: ImageSource) -> str:
    """The axis a viewer cannot use: samples that are no colours or stand beside channels; a single channel."""
    if "S" in source.axes and (source.size("S") not in (3, 4) or source.size("C") > 1):
        return "S"
    return "C" if "C" in source.axes and source.size("C") == 1 else ""


def _usable_levels(source: ImageSource) -> list[int]:
    """Levels that differ from the finest in rows and columns only, each smaller than the one before."""
    kept = [0]
    for level in range(1, len(source.levels)):
        same = all(source.size(axis, level) == source.size(axis) for axis in "TCZS")
        if same and all(source.size(axis, level) < source.size(axis, kept[-1]) for axis in "YX"):
            kept.append(level)
    return kept


def _lazy_level(source: ImageSource, number: int, dropped: str) -> da.Array:
    """One level as a dask array whose name is the same in every session, so that a resumed run knows its image."""
    level = source.levels[number]
    identity = json.dumps(source.identity, sort_keys=True, default=str)
    name = f"napari-sam-{hashlib.sha256(identity.encode()).hexdigest()[:24]}-{number}"
    chunks = tuple(
        int(n) if axis == "S" else min(_CHUNK_PX, int(n)) if axis in "YX" else 1
        for axis, n in zip(source.axes, level.shape, strict=True)
    )
    checked = CheckedLevel(level, source.name, source.dtype)
    meta = np.empty((0,) * len(source.axes), source.dtype)
    array: da.Array = da.from_array(checked, chunks=chunks, name=name, asarray=False, meta=meta)
    if dropped:
        # The only channel there is, or the gray of a pixel of gray and alpha.
        array = array[tuple(0 if axis in dropped else slice(None) for axis in source.axes)]
    return array.astype(np.uint8) if source.dtype.kind == "b" else array


def _with_coarser(levels: list[da.Array], axes: str) -> list[da.Array]:
    """The levels, and further ones of every second pixel while the last is too large to be read whole."""
    y, x = axes.index("Y"), axes.index("X")
    every_second = tuple(slice(None, None, 2) if i in (y, x) else slice(None) for i in range(len(axes)))
    found = list(levels)
    while found[-1].shape[y] * found[-1].shape[x] > _LARGEST_VIEW_PX:
        found.append(found[-1][every_second])
    return found


def _metadata(folder: Path) -> dict[str, Any]:
    """The OME metadata of a zarr group."""
    attributes: dict[str, Any] = dict(zarr.open(store=str(folder), mode="r").attrs)
    ome = attributes.get("ome", attributes)
    return ome if isinstance(ome, dict) else {}


def _labels_inside(folder: Path) -> list[str]:
    """Names of the label images that an OME-Zarr image holds in its group "labels"."""
    inside = folder / "labels"
    names = _metadata(inside).get("labels", []) if is_zarr(inside) else []
    return [str(name) for name in names if is_zarr(inside / str(name))]
