"""Label images drawn or changed by hand, into the files this package writes: their objects are found block by block."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.errors import ImageError, OutputError
from napari_sam.export import write_coco, write_geojson, write_sa1b, write_table
from napari_sam.geometry import Box, Mask
from napari_sam.images.arrays import LazyArray, read_region
from napari_sam.images.contents import length_um
from napari_sam.images.urls import local_path
from napari_sam.tiling import ObjectTable
from napari_sam.tiling.labels import check_labels_path, write_labels
from napari_sam.tiling.multiscale import iter_blocks

LabelFormat = Literal["ome-zarr", "sa1b", "coco", "geojson"]
ENDINGS: Mapping[LabelFormat, tuple[str, ...]] = {
    "ome-zarr": (".ome.zarr", ".zarr"),
    "sa1b": (".sa1b.json", ".json"),
    "coco": (".coco.json", ".json"),
    "geojson": (".geojson", ".json"),
}
"""Endings of each format's files, the usual one first."""
TABLE_ENDING = ".objects.csv"

_BLOCK_PX = 2048
_BLOCKS_KEPT = 8
_SCORES = ("predicted_iou", "stability_score")


@dataclass(frozen=True, slots=True)
class Boxed:
    """What is known of one label after a look at some blocks."""

    box: Box
    area: int
    sum_y: float
    sum_x: float

    def joined(self, other: Boxed) -> Boxed:
        """Both parts as one object."""
        return Boxed(
            self.box.joined(other.box), self.area + other.area, self.sum_y + other.sum_y, self.sum_x + other.sum_x
        )


@dataclass(frozen=True, slots=True)
class _OnlyPlane:
    """The one plane of a stack of one, as lazy as the stack."""

    stack: LazyArray
    leading: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.stack.shape[self.leading :])

    @property
    def dtype(self) -> Any:
        return self.stack.dtype

    def __getitem__(self, key: tuple[slice, slice]) -> Any:
        return self.stack[(0,) * self.leading + key]


class LabelledObjects:
    """The objects of a label image, as the writers want them (`PaintableObjects`); pixels are read when asked for.

    Parameters
    ----------
    labels : array of shape (H, W), int
        Numpy or lazy; 0 is background. Read once now, block by block, and again by a writer.
    scores : mapping of name to {label: value}
        Columns of an object table that are known already: "predicted_iou", "verified", ...

    Raises
    ------
    ImageError
        If a label is negative, or pixels cannot be read.
    """

    def __init__(self, labels: LazyArray, scores: Mapping[str, Mapping[int, Any]] | None = None) -> None:
        self.image_size = (int(labels.shape[0]), int(labels.shape[1]))
        self._labels = labels
        # Neighbouring objects lie in the same block: each is read about once.
        self._block = lru_cache(maxsize=_BLOCKS_KEPT)(self._read_block)
        found = _find_objects(self)
        self.table = _table(found, scores or {})

    def read(self, box: Box) -> NDArray[Any]:
        """Label values of a box."""
        return read_region(self._labels, box.slices, "the labels layer")

    def masks_in(self, box: Box) -> Sequence[tuple[int, Mask]]:
        """Label and mask of the objects in `box`, cut to it: what is painted there."""
        pixels, table = self.read(box), self.table
        meets = (table.x0 < box.x1) & (table.x1 > box.x0) & (table.y0 < box.y1) & (table.y1 > box.y0)
        found = []
        for row in np.flatnonzero(meets).tolist():
            part, label = table.box(row).clipped(box), int(table.label[row])
            own = pixels[part.shifted(-box.x0, -box.y0).slices] == label
            if own.any():
                found.append((label, Mask.from_window(own, part, self.image_size)))
        return found

    def iter_masks(self) -> Iterator[tuple[int, Mask]]:
        """Label and whole mask of every object, in the order of the table."""
        table = self.table
        for row, label in enumerate(table.label.tolist()):
            box = table.box(row)
            own = self._pixels(box) == label
            iou, stability = float(table.predicted_iou[row]), float(table.stability_score[row])
            mask = Mask.from_window(own, box, self.image_size, predicted_iou=iou, stability_score=stability)
            yield label, mask

    def _pixels(self, box: Box) -> NDArray[Any]:
        row, column = box.y0 // _BLOCK_PX, box.x0 // _BLOCK_PX
        block = self._block_box(row, column)
        if not block.contains_box(box):
            return self.read(box)
        return self._block(row, column)[box.shifted(-block.x0, -block.y0).slices]

    def _read_block(self, row: int, column: int) -> NDArray[Any]:
        return self.read(self._block_box(row, column))

    def _block_box(self, row: int, column: int) -> Box:
        y, x = row * _BLOCK_PX, column * _BLOCK_PX
        return Box(x, y, x + _BLOCK_PX, y + _BLOCK_PX).clipped(Box.of_size(self.image_size))


def save_labels(
    labels: LazyArray,
    path: str | os.PathLike[str],
    kind: LabelFormat,
    *,
    pixel_size: tuple[float, float] = (1.0, 1.0),
    units: tuple[str, str] = ("pixel", "pixel"),
    features: Mapping[str, Any] | None = None,
    image_name: str = "",
) -> list[Path]:
    """Write a label image; what stood at `path` stays until the new file is complete.

    Parameters
    ----------
    labels : array of shape (..., H, W), int
        Numpy or lazy; axes before the last two must have length 1.
    path : path
        The format's ending is added to a name that has none of it.
    kind : "ome-zarr", "sa1b", "coco" or "geojson"
        An OME-Zarr gets its object table beside it, as NAME.objects.csv.
    pixel_size, units : (y, x)
        Size of a pixel and its unit ("micrometer", "nanometer", ...); with another unit, such as "pixel", sizes stay in
        pixels.
    features : mapping of name to column, optional
        As of a napari Labels layer: one row a label, which "index" names, else the row number. Columns of the object
        table among them (scores, `verified`, ...) are kept.
    image_name : str
        What COCO and SA-1B files call the image; by default the file's own name.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    ImageError
        If there are several planes, pixels that are no labels, or pixels that cannot be read.
    OutputError
        If the name is taken by something that is not ours, or the disk refuses.
    """
    target = with_ending(path, kind)
    plane = single_plane(labels)
    size_um = _size_um(pixel_size, units)
    if kind == "ome-zarr":
        table = table_beside(target)
        _check_table(table)
        check_labels_path(target, overwrite=True)
        objects = LabelledObjects(plane, scores_of(features))
        write_labels(objects, target, pixel_size_um=size_um, overwrite=True)
        write_table(objects.table, table, pixel_size_um=size_um)
        return [target, table]
    objects = LabelledObjects(plane, scores_of(features))
    name = image_name or target.name.removesuffix(ENDINGS[kind][0])
    if kind == "geojson":
        return [write_geojson(objects, target, pixel_size_um=size_um)]
    write = write_coco if kind == "coco" else write_sa1b
    return [write(objects, target, file_name=name)]


def with_ending(path: str | os.PathLike[str], kind: LabelFormat) -> Path:
    """`path` with the usual ending of the format, unless it has one of its endings already."""
    target = local_path(path)
    endings = ENDINGS[kind]
    return target if target.name.lower().endswith(endings) else target.with_name(target.name + endings[0])


def table_beside(labels: Path) -> Path:
    """Where the object table of a label image is written: `cells.objects.csv` beside `cells.ome.zarr`."""
    name = labels.name
    for ending in ENDINGS["ome-zarr"]:
        name = name.removesuffix(ending)
    return labels.with_name(name + TABLE_ENDING)


def scores_of(features: Mapping[str, Any] | None) -> dict[str, dict[int, Any]]:
    """The columns of a layer's features that an object table has, each as {label: value}."""
    if features is None or not len(features):
        return {}
    columns = {name: np.asarray(features[name]) for name in features}
    index = columns.get("index", np.arange(len(next(iter(columns.values())))))
    kept = {"predicted_iou", "stability_score", "tile", "touches_seam", "prompt", "verified"} & set(columns)
    return {name: dict(zip(index.tolist(), columns[name].tolist(), strict=True)) for name in kept}


def _check_table(path: Path) -> None:
    """Refuse to replace a table that is none of ours."""
    if path.is_file() and not path.read_bytes()[:16].startswith(b"label,"):
        raise OutputError(f"{path} exists and is not an object table, so it is not replaced; choose another name.")


def single_plane(labels: LazyArray) -> LazyArray:
    shape = tuple(int(n) for n in labels.shape)
    if np.dtype(labels.dtype).kind not in "uib":
        raise ImageError(f"labels are whole numbers, got pixels of type {labels.dtype}; convert the layer to labels.")
    if len(shape) < 2 or any(n != 1 for n in shape[:-2]):
        raise ImageError(
            f"these formats hold the labels of one plane, got a layer of shape {shape}; save one plane of it "
            "(Layers > Data can cut it out), or the whole as TIFF with napari's own writer."
        )
    return _OnlyPlane(labels, len(shape) - 2) if len(shape) > 2 else labels


def _size_um(size: tuple[float, float], units: tuple[str, str]) -> tuple[float, float] | None:
    y, x = (length_um(abs(float(step)), unit) for step, unit in zip(size, units, strict=True))
    return None if y is None or x is None else (y, x)


def _find_objects(objects: LabelledObjects) -> dict[int, Boxed]:
    """Box, area and sums of coordinates of every label, read block by block."""
    found: dict[int, Boxed] = {}
    for block in iter_blocks(objects.image_size, _BLOCK_PX):
        pixels = objects.read(block)
        if pixels.dtype.kind == "i" and pixels.min(initial=0) < 0:
            raise ImageError(
                f"labels count from 1, with 0 for background, but there is the label {pixels.min()}; "
                "change negative labels first."
            )
        for label, part in _objects_in(pixels, block):
            found[label] = found[label].joined(part) if label in found else part
    return dict(sorted(found.items()))


def _objects_in(pixels: NDArray[Any], block: Box) -> Iterator[tuple[int, Boxed]]:
    values, inverse = np.unique(pixels, return_inverse=True)
    numbers = inverse.reshape(pixels.shape)
    rows, columns = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    areas = np.bincount(numbers.ravel())
    sums_y = np.bincount(numbers.ravel(), weights=np.broadcast_to(rows, pixels.shape).ravel())
    sums_x = np.bincount(numbers.ravel(), weights=np.broadcast_to(columns, pixels.shape).ravel())
    # find_objects leaves out 0: count from 1, whatever the smallest value is.
    for i, place in enumerate(ndimage.find_objects(numbers + 1)):
        if values[i] != 0:
            box = Box(place[1].start, place[0].start, place[1].stop, place[0].stop).shifted(block.x0, block.y0)
            area = int(areas[i])
            yield int(values[i]), Boxed(box, area, sums_y[i] + area * block.y0, sums_x[i] + area * block.x0)


def _table(found: Mapping[int, Boxed], scores: Mapping[str, Mapping[int, Any]]) -> ObjectTable:
    labels, parts = list(found), list(found.values())

    def column(name: str, default: Any) -> list[Any]:
        known = scores.get(name, {})
        return [known.get(label, default) for label in labels]

    areas = np.array([part.area for part in parts], dtype=np.int64)
    unknown = {name: column(name, np.nan) for name in _SCORES}
    return ObjectTable(
        label=np.array(labels, dtype=np.uint64),
        y0=np.array([part.box.y0 for part in parts], dtype=np.int64),
        x0=np.array([part.box.x0 for part in parts], dtype=np.int64),
        y1=np.array([part.box.y1 for part in parts], dtype=np.int64),
        x1=np.array([part.box.x1 for part in parts], dtype=np.int64),
        area_px=areas,
        centroid_y=np.array([part.sum_y for part in parts]) / areas,
        centroid_x=np.array([part.sum_x for part in parts]) / areas,
        predicted_iou=np.array(unknown["predicted_iou"], dtype=np.float64),
        stability_score=np.array(unknown["stability_score"], dtype=np.float64),
        tile=np.array(column("tile", 0), dtype=np.int64),
        touches_seam=np.array(column("touches_seam", False), dtype=np.bool_),
        prompt=np.array(column("prompt", "drawn"), dtype=np.str_),
        verified=np.array(column("verified", False), dtype=np.bool_),
    )
