"""A finished label image, with its table, in the formats of the tools that are used next."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from napari_sam.errors import ImageError, OutputError
from napari_sam.export import (
    check_overlay_path,
    check_roi_path,
    check_spatialdata_path,
    check_table_path,
    check_tiff_path,
    measure_shapes,
    read_sa1b,
    read_table,
    write_coco,
    write_geojson,
    write_label_tiff,
    write_overlay,
    write_roi_zip,
    write_sa1b,
    write_spatialdata,
    write_table,
)
from napari_sam.images import GeoReference, ImageSource, Plane, open_image
from napari_sam.images.urls import local_path
from napari_sam.tiling import MergedObjects
from napari_sam.tiling.labels import PaintableObjects, check_labels_path, write_labels
from napari_sam.workflows.file_layers import find_table, table_features
from napari_sam.workflows.formats import ExportFormat
from napari_sam.workflows.label_files import LabelledObjects, scores_of, single_plane
from napari_sam.workflows.measurements import measure_all_channels

FORMAT_OF_ENDING: Mapping[str, ExportFormat] = {
    ".geojson": "geojson",
    ".coco.json": "coco",
    ".sa1b.json": "sa1b",
    ".zip": "imagej",
    ".spatialdata.zarr": "spatialdata",
    ".csv": "table",
    ".parquet": "table",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".ome.zarr": "ome-zarr",
    ".png": "overlay",
}
"""What is written under a name that ends so, where no format is named."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadObjects:
    """Objects read from a file, and what the file says of their image."""

    objects: PaintableObjects
    image_name: str
    pixel_size_um: tuple[float, float] | None = None
    geo: GeoReference | None = None


def export_objects(
    labels: str | os.PathLike[str],
    outputs: Sequence[str | os.PathLike[str]],
    *,
    export_format: ExportFormat | None = None,
    table: str | os.PathLike[str] | None = None,
    image: str | os.PathLike[str] | None = None,
    intensities: bool = False,
    shapes: bool = False,
    category: str = "object",
    pixel_size_um: float | None = None,
    t: int = 0,
    z: int = 0,
) -> list[Path]:
    """Write finished objects in other formats; every output is checked before the first is written.

    Parameters
    ----------
    labels : path
        A label image of one plane (OME-Zarr, TIFF, PNG), or masks in SA-1B's format (NAME.json), which may overlap.
    outputs : sequence of path
        The end of each name says the format: .geojson (QuPath, GIS), .roi.zip (ImageJ), .coco.json, .sa1b.json,
        .spatialdata.zarr, .csv, .parquet, .tif, .ome.zarr, .png (overlay, needs `image`).
    export_format : str, optional
        The format, where names end otherwise.
    table : path, optional
        The object table of the labels, whose scores are kept; by default the one beside them, if there is one.
    image : path, optional
        The image the objects lie in: for an overlay and for intensities, and for its pixel size and place on the map.
    intensities, shapes : bool
        Further columns of a table: of every channel of `image`, and sizes and forms; see
        :func:`napari_sam.export.measure_intensities` and :func:`napari_sam.export.measure_shapes`.
    category : str
        What the objects are, for COCO.
    pixel_size_um : float, optional
        Side of a pixel in micrometres, where the files are wrong or do not say.
    t, z : int
        Which plane of `image`, where it has several.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    OutputError
        If a name tells no format, an image is needed, or a file cannot be written.
    ImageError
        If labels, table or image cannot be read or do not fit each other.
    """
    targets = [(local_path(output), export_format or format_of(output)) for output in outputs]
    if not targets:
        raise OutputError("nothing to write; name at least one output, such as cells.geojson.")
    kinds = {kind for _, kind in targets}
    if image is None and (intensities or "overlay" in kinds):
        raise OutputError("an overlay and intensities need the image the objects lie in; name it too (image).")
    if (intensities or shapes) and "table" not in kinds:
        raise OutputError("intensities and shapes are columns of a table; add an output that ends in .csv or .parquet.")
    found = read_objects(labels, table=table)
    plane = None if image is None else _plane_of(image, found.objects.image_size, t=t, z=z)
    found = _completed(found, plane, pixel_size_um)
    _check_targets(targets, found, inputs=[Path(given) for given in (labels, table, image) if given is not None])
    measured = measure_shapes(found.objects, pixel_size_um=found.pixel_size_um) if shapes else {}
    if intensities and plane is not None:
        measured |= measure_all_channels(found.objects, plane)
    for target, kind in targets:
        _WRITERS[kind](target, found, _Extras(plane, measured, category))
    return [target for target, _ in targets]


def format_of(path: str | os.PathLike[str]) -> ExportFormat:
    """The format that the end of a name tells; OutputError if it tells none."""
    name = Path(path).name.lower()
    for ending, kind in FORMAT_OF_ENDING.items():
        if name.endswith(ending):
            return kind
    raise OutputError(
        f"the end of {Path(path).name} does not say in which format to write; known are "
        f"{', '.join(FORMAT_OF_ENDING)}, or name one: {', '.join(get_args(ExportFormat))}."
    )


def read_objects(labels: str | os.PathLike[str], *, table: str | os.PathLike[str] | None = None) -> ReadObjects:
    """The objects of a label image or of an SA-1B file; parameters and errors as of :func:`export_objects`."""
    path = Path(labels)
    if path.suffix.lower() == ".json":
        return _read_sa1b(path)
    source = open_image(path)
    rows = find_table(path) if table is None else Path(table)
    features = None if rows is None else table_features(read_table(rows))
    objects = LabelledObjects(single_plane(_plain_axes(source)), scores_of(features))
    return ReadObjects(objects, path.name, source.pixel_size_um, source.geo)


def _read_sa1b(path: Path) -> ReadObjects:
    file = read_sa1b(path)
    masks = [mask for _, mask in file.masks]
    objects = MergedObjects.from_masks(masks, file.image_size)
    labelled = replace(objects.table, label=np.array([label for label, _ in file.masks], dtype=np.uint64))
    return ReadObjects(MergedObjects(labelled, file.image_size, masks.__getitem__), file.file_name)


def _plain_axes(source: ImageSource) -> Any:
    """The finest level; a picture's colours are no labels."""
    if "S" in source.axes and source.size("S") > 1:
        raise ImageError(
            f"{source.name} is a colour picture with {source.size('S')} samples a pixel, not a label image; labels are "
            "one whole number a pixel."
        )
    level = source.levels[0]
    return level[..., 0] if source.axes.endswith("S") else level


def _plane_of(image: str | os.PathLike[str], size: tuple[int, int], *, t: int, z: int) -> Plane:
    source = open_image(image)
    channels = None if len(source.channel_names) <= 3 or source.has_colour_samples else 0
    plane = source.plane(t, z, channels)
    if plane.shape != size:
        raise ImageError(
            f"{image} has {plane.shape} pixels (H, W) and the labels have {size}; give the image these labels are of."
        )
    return plane


def _completed(found: ReadObjects, plane: Plane | None, pixel_size_um: float | None) -> ReadObjects:
    """With what the image and the caller know besides."""
    size, geo, name = found.pixel_size_um, found.geo, found.image_name
    if plane is not None:
        size, geo, name = size or plane.source.pixel_size_um, geo or plane.source.geo, Path(plane.source.name).name
    if pixel_size_um is not None:
        size = (pixel_size_um, pixel_size_um)
    return ReadObjects(found.objects, name, size, geo)


@dataclass(frozen=True, slots=True, eq=False)
class _Extras:
    """What only some writers need."""

    plane: Plane | None
    measured: Mapping[str, Any]
    category: str


def _check_targets(targets: Sequence[tuple[Path, ExportFormat]], found: ReadObjects, *, inputs: Sequence[Path]) -> None:
    """Refuse what could not be written, or would cost an input."""
    places = [target.resolve() for target, _ in targets]
    if len(set(places)) < len(places):
        raise OutputError("two outputs have the same name; give each its own.")
    for target, kind in targets:
        for given in inputs:
            if target.resolve() == given.resolve() or given.resolve() in target.resolve().parents:
                raise OutputError(f"{target} is read by this job and would be overwritten; choose another name.")
        match kind:
            case "imagej":
                check_roi_path(target)
            case "spatialdata":
                check_spatialdata_path(target)
            case "table":
                check_table_path(target)
            case "tiff":
                check_tiff_path(target, found.objects.image_size)
            case "ome-zarr":
                check_labels_path(target)
            case "overlay":
                check_overlay_path(target)


def _write_overlay(target: Path, found: ReadObjects, extras: _Extras) -> None:
    if extras.plane is not None:
        write_overlay(found.objects, target, extras.plane.read)


def _write_table(target: Path, found: ReadObjects, extras: _Extras) -> None:
    write_table(found.objects.table, target, pixel_size_um=found.pixel_size_um, intensities=extras.measured)


_WRITERS: Mapping[ExportFormat, Callable[[Path, ReadObjects, _Extras], object]] = {
    "geojson": lambda path, of, _: write_geojson(of.objects, path, geo=of.geo, pixel_size_um=of.pixel_size_um),
    "coco": lambda path, of, extras: write_coco(of.objects, path, file_name=of.image_name, category=extras.category),
    "sa1b": lambda path, of, _: write_sa1b(of.objects, path, file_name=of.image_name),
    "imagej": lambda path, of, _: write_roi_zip(of.objects, path),
    "spatialdata": lambda path, of, _: write_spatialdata(of.objects, path, pixel_size_um=of.pixel_size_um),
    "table": _write_table,
    "tiff": lambda path, of, _: write_label_tiff(of.objects, path, pixel_size_um=of.pixel_size_um, geo=of.geo),
    "ome-zarr": lambda path, of, _: write_labels(of.objects, path, pixel_size_um=of.pixel_size_um),
    "overlay": _write_overlay,
}
