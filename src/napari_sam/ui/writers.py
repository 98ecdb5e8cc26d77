"""Writers of Labels layers: our OME-Zarr labels with their object table, SA-1B, COCO, GeoJSON."""

from __future__ import annotations

from typing import Any

from napari_sam.errors import ImageError, OutputError
from napari_sam.workflows.label_files import LabelFormat, save_labels


def write_ome_zarr(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """A Labels layer as OME-Zarr 0.5 with a pyramid, and its objects as a table beside it."""
    return _write(path, data, meta, "ome-zarr")


def write_sa1b_json(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """A Labels layer as one JSON file in the format of the SA-1B data set."""
    return _write(path, data, meta, "sa1b")


def write_coco_json(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """A Labels layer as COCO instances."""
    return _write(path, data, meta, "coco")


def write_outlines(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """A Labels layer as GeoJSON outlines, in pixels as QuPath counts them."""
    return _write(path, data, meta, "geojson")


def _write(path: str, data: Any, meta: dict[str, Any], kind: LabelFormat) -> list[str]:
    finest = data[0] if meta.get("multiscale") else data
    scale = tuple(meta.get("scale", ()))[-2:] or (1.0, 1.0)
    units = tuple(str(unit) for unit in meta.get("units") or ())[-2:] or ("pixel", "pixel")
    try:
        written = save_labels(
            finest,
            path,
            kind,
            pixel_size=(float(scale[0]), float(scale[1])),
            units=(units[0], units[1]),
            features=meta.get("features"),
            image_name=meta.get("metadata", {}).get("image_name", ""),
        )
    except ImageError as error:
        # napari takes a ValueError, which this is too, for "no writer was found" and swallows the message.
        raise OutputError(str(error)) from error
    return [str(file) for file in written]
