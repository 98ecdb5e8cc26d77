"""Names of the file formats that jobs write, as a user gives them."""

from __future__ import annotations

from typing import Literal

LabelFormat = Literal["ome.zarr", "tif"]
AlsoFormat = Literal["csv", "parquet", "geojson", "sa1b", "overlay"]
ExportFormat = Literal["geojson", "coco", "sa1b", "imagej", "spatialdata", "table", "tiff", "ome-zarr", "overlay"]
