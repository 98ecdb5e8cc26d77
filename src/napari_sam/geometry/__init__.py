"""Boxes, run-length masks, point grids, frames and tiles: plain geometry on numpy."""

from napari_sam.geometry.boxes import Box, as_boxes, box_iou, nms, overlapping_pairs, pair_iou
from napari_sam.geometry.frames import ModelFrame
from napari_sam.geometry.interior import interior_points, most_interior_point
from napari_sam.geometry.masks import Edge, Mask, RegionMode, piece_at, remove_small_regions, tight_box
from napari_sam.geometry.overlap import (
    intersection_area,
    intersection_areas,
    mask_iou,
    mask_iou_matrix,
    mask_iou_window,
    mask_ious,
    mask_nms,
)
from napari_sam.geometry.points import crop_boxes, layer_point_grids, point_grid
from napari_sam.geometry.rle import Rle, counts_from_text, counts_to_text
from napari_sam.geometry.tiles import Tile

__all__ = [
    "Box",
    "Edge",
    "Mask",
    "ModelFrame",
    "RegionMode",
    "Rle",
    "Tile",
    "as_boxes",
    "box_iou",
    "counts_from_text",
    "counts_to_text",
    "crop_boxes",
    "interior_points",
    "intersection_area",
    "intersection_areas",
    "layer_point_grids",
    "mask_iou",
    "mask_iou_matrix",
    "mask_iou_window",
    "mask_ious",
    "mask_nms",
    "most_interior_point",
    "nms",
    "overlapping_pairs",
    "pair_iou",
    "piece_at",
    "point_grid",
    "remove_small_regions",
    "tight_box",
]
