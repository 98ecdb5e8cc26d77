"""Objects as a SpatialData store (scverse): a labels element and a shapes element with the columns of the table."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import OutputError
from napari_sam.export.polygons import iter_polygons
from napari_sam.export.table import table_columns
from napari_sam.geometry import Box
from napari_sam.tiling.labels import PaintableObjects, check_pixel_size, label_dtype, paint_labels
from napari_sam.tiling.writing import output_errors

_BLOCK_PX = 2048


def write_spatialdata(
    objects: PaintableObjects,
    path: str | os.PathLike[str],
    *,
    name: str = "objects",
    pixel_size_um: tuple[float, float] | None = None,
) -> Path:
    """Write the elements NAME_labels (the label image) and NAME_shapes (outlines with the table's columns).

    Both are in pixels, with the outer corner of the first pixel at (0, 0); the coordinate system "global" is in
    micrometres where the pixel size is known. The label image is painted block by block; outlines are held in memory.

    Parameters
    ----------
    objects : PaintableObjects
    path : path
        NAME.zarr; must not exist.
    name : str
        Beginning of the elements' names.
    pixel_size_um : (float, float), optional
        (y, x).

    Raises
    ------
    OutputError
        If something is there already, the package spatialdata is not installed, or the disk refuses.
    ConfigError
        If the pixel size is not positive.
    """
    target = Path(path)
    check_spatialdata_path(target)
    check_pixel_size(pixel_size_um)
    library = _libraries(target)
    size_y, size_x = pixel_size_um or (1.0, 1.0)
    to_global = {"global": library.Scale([size_x, size_y], axes=("x", "y"))}
    labels = library.Labels2DModel.parse(_lazy_labels(objects), dims=("y", "x"), transformations=to_global)
    elements: dict[str, Any] = {f"{name}_labels": labels}
    if len(objects.table):  # spatialdata refuses an empty table of shapes
        elements[f"{name}_shapes"] = library.ShapesModel.parse(
            _outlines(objects, pixel_size_um, library), transformations=to_global
        )
    partial = target.with_name(f"{target.name}.partial")
    try:
        with output_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            library.SpatialData.init_from_elements(elements).write(partial)
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def check_spatialdata_path(path: str | os.PathLike[str]) -> None:
    """Refuse what :func:`write_spatialdata` could not write (:class:`OutputError`); to be asked before a long run."""
    if Path(path).suffix.lower() != ".zarr":
        raise OutputError(f"SpatialData is a zarr folder, got {path}; let the name end in .spatialdata.zarr.")
    if Path(path).exists():
        raise OutputError(f"{path} already exists; choose another name, or move it away.")
    _libraries(path)


def _lazy_labels(objects: PaintableObjects) -> da.Array:
    dtype = label_dtype(objects.table.label)

    def paint(block_info: Any) -> NDArray[Any]:
        (y0, y1), (x0, x1) = block_info[None]["array-location"]
        return paint_labels(objects, Box(x0, y0, x1, y1), dtype)

    chunks = da.core.normalize_chunks((_BLOCK_PX, _BLOCK_PX), objects.image_size)
    array: da.Array = da.map_blocks(paint, chunks=chunks, dtype=dtype, meta=np.empty((0, 0), dtype))
    return array


def _outlines(objects: PaintableObjects, pixel_size_um: tuple[float, float] | None, library: Any) -> Any:
    """One row an object with pixels; the index is the label."""
    shapely, rows, shapes = library.shapely, [], []
    for row, _, _, polygons in iter_polygons(objects):
        if polygons:
            parts = [shapely.Polygon(p.exterior, list(p.holes)) for p in polygons]
            rows.append(row)
            shapes.append(parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts))
    columns = {name: values[rows] for name, values in table_columns(objects.table, pixel_size_um=pixel_size_um).items()}
    index = columns.pop("label").astype(np.int64)
    return library.GeoDataFrame({**columns, "geometry": shapes}, index=index)


def _libraries(wanted: str | os.PathLike[str]) -> Any:
    """What is needed of the optional package and of those it brings."""
    from types import SimpleNamespace

    try:
        import shapely
        from geopandas import GeoDataFrame
        from spatialdata import SpatialData
        from spatialdata.models import Labels2DModel, ShapesModel
        from spatialdata.transformations import Scale
    except ImportError as error:
        raise OutputError(
            f"{wanted}: SpatialData needs the package spatialdata, which is not installed; run "
            "`pip install 'napari-sam-tiles[spatialdata]'`."
        ) from error
    return SimpleNamespace(
        shapely=shapely,
        GeoDataFrame=GeoDataFrame,
        SpatialData=SpatialData,
        Labels2DModel=Labels2DModel,
        ShapesModel=ShapesModel,
        Scale=Scale,
    )
