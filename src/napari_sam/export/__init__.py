"""Results in the formats other programs read: tables, SA-1B, COCO, GeoJSON, TIFF, a picture."""

from napari_sam.export.coco import write_coco
from napari_sam.export.geojson import write_geojson
from napari_sam.export.overlay import check_overlay_path, label_colours, write_overlay
from napari_sam.export.polygons import Polygon, trace_polygons
from napari_sam.export.sa1b import Sa1bFile, read_sa1b, write_sa1b
from napari_sam.export.table import check_table_path, measure_intensities, read_table, table_columns, write_table
from napari_sam.export.tiff import MAX_TIFF_PIXELS, TIFF_SUFFIXES, check_tiff_path, write_label_tiff

__all__ = [
    "MAX_TIFF_PIXELS",
    "TIFF_SUFFIXES",
    "Polygon",
    "Sa1bFile",
    "check_overlay_path",
    "check_table_path",
    "check_tiff_path",
    "label_colours",
    "measure_intensities",
    "read_sa1b",
    "read_table",
    "table_columns",
    "trace_polygons",
    "write_coco",
    "write_geojson",
    "write_label_tiff",
    "write_overlay",
    "write_sa1b",
    "write_table",
]
