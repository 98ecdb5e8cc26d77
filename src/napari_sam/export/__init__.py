"""Results in the formats other programs read: tables, SA-1B, COCO, GeoJSON, ImageJ, SpatialData, TIFF, a picture."""

from napari_sam.export.coco import write_coco
from napari_sam.export.geojson import write_geojson
from napari_sam.export.imagej import check_roi_path, write_roi_zip
from napari_sam.export.overlay import check_overlay_path, label_colours, write_overlay
from napari_sam.export.polygons import Polygon, trace_polygons
from napari_sam.export.sa1b import Sa1bFile, read_sa1b, write_sa1b
from napari_sam.export.sa1b_folder import PictureFormat, Sa1bImage, Sa1bWriter, is_sa1b, iter_sa1b
from napari_sam.export.shapes import concavity, measure_shapes
from napari_sam.export.spatialdata import check_spatialdata_path, write_spatialdata
from napari_sam.export.table import check_table_path, measure_intensities, read_table, table_columns, write_table
from napari_sam.export.tiff import MAX_TIFF_PIXELS, TIFF_SUFFIXES, check_tiff_path, write_label_tiff

__all__ = [
    "MAX_TIFF_PIXELS",
    "TIFF_SUFFIXES",
    "PictureFormat",
    "Polygon",
    "Sa1bFile",
    "Sa1bImage",
    "Sa1bWriter",
    "check_overlay_path",
    "check_roi_path",
    "check_spatialdata_path",
    "check_table_path",
    "check_tiff_path",
    "concavity",
    "is_sa1b",
    "iter_sa1b",
    "label_colours",
    "measure_intensities",
    "measure_shapes",
    "read_sa1b",
    "read_table",
    "table_columns",
    "trace_polygons",
    "write_coco",
    "write_geojson",
    "write_label_tiff",
    "write_overlay",
    "write_roi_zip",
    "write_sa1b",
    "write_spatialdata",
    "write_table",
]
