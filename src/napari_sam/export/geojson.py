"""Outlines of objects as GeoJSON: in pixels for QuPath, in map coordinates for a georeferenced image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam.export.polygons import Polygon, iter_polygons
from napari_sam.export.streaming import write_json_list
from napari_sam.geometry import Mask
from napari_sam.images.geo import GeoReference
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.labels import PaintableObjects, check_pixel_size
from napari_sam.tiling.objects import ObjectTable

QuPathType = Literal["annotation", "detection"]


def write_geojson(
    objects: PaintableObjects,
    path: str | os.PathLike[str],
    *,
    geo: GeoReference | None = None,
    pixel_size_um: tuple[float, float] | None = None,
    object_type: QuPathType = "annotation",
    progress: Progress | None = None,
) -> Path:
    """Write a FeatureCollection: one Polygon or MultiPolygon an object, with holes, following the pixel edges exactly.

    Without `geo`, coordinates are pixels of the whole image as QuPath counts them: (0, 0) is the outer corner of the
    first pixel, so a pixel centre that is (3, 4) elsewhere in this package is (3.5, 4.5) here. Scores and sizes are
    QuPath measurements, the label is the name. Overlapping objects are all written; ones without pixels are left out.

    Parameters
    ----------
    objects : PaintableObjects
        `iter_masks` must follow the order of the table.
    path : path
        An existing file is replaced when the new one is complete.
    geo : GeoReference, optional
        Writes map coordinates instead, and names the coordinate system if its EPSG number is known.
    pixel_size_um : (float, float), optional
        (y, x) size of a pixel in micrometres; adds the measurement "Area µm^2".
    object_type : "annotation" or "detection"
        What QuPath makes of them; detections are the lighter kind for very many objects.
    progress : callable, optional
        Called with (objects done, objects in all).

    Raises
    ------
    OutputError
        If the disk refuses.
    ConfigError
        If the pixel size is not positive.
    """
    check_pixel_size(pixel_size_um)
    before: dict[str, Any] = {"type": "FeatureCollection"}
    if geo is not None and geo.epsg is not None:
        before["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{geo.epsg}"}}
    pixel_area_um2 = None if pixel_size_um is None else pixel_size_um[0] * pixel_size_um[1]
    features = (
        {
            "type": "Feature",
            "geometry": _geometry(polygons, geo),
            "properties": {
                "objectType": object_type,
                "name": str(label),
                "measurements": _measurements(objects.table, row, mask, pixel_area_um2),
            },
        }
        for row, label, mask, polygons in iter_polygons(objects)
        if polygons
    )
    return write_json_list(path, before, "features", features, total=len(objects.table.label), progress=progress)


def _geometry(polygons: list[Polygon], geo: GeoReference | None) -> dict[str, Any]:
    coordinates = [[_coordinates(ring, geo) for ring in polygon.rings] for polygon in polygons]
    if len(coordinates) == 1:
        return {"type": "Polygon", "coordinates": coordinates[0]}
    return {"type": "MultiPolygon", "coordinates": coordinates}


def _coordinates(ring: NDArray[np.int64], geo: GeoReference | None) -> list[list[float]]:
    if geo is None:
        corners: list[list[float]] = ring.tolist()
        return corners
    a, b, _, d, e, _ = geo.affine
    # A map usually counts y upwards, which mirrors the rings: turned round, exteriors stay counter-clockwise.
    turned = ring if a * e - b * d > 0 else ring[::-1]
    on_map: list[list[float]] = geo.to_map(turned - 0.5).tolist()
    return on_map


def _measurements(table: ObjectTable, row: int, mask: Mask, pixel_area_um2: float | None) -> dict[str, float]:
    values = {
        "Area px^2": mask.area,
        "Predicted IoU": float(table.predicted_iou[row]),
        "Stability score": float(table.stability_score[row]),
        "Touches seam": int(table.touches_seam[row]),
        "Verified": int(table.verified[row]),
    }
    if pixel_area_um2 is not None:
        values["Area µm^2"] = mask.area * pixel_area_um2
    return {name: value for name, value in values.items() if np.isfinite(value)}
