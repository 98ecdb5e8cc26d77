"""Masks as COCO instances JSON, for training and scoring tools of other projects."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from napari_sam.export.runlengths import iter_coco_rles
from napari_sam.export.sa1b import box_to_xywh
from napari_sam.export.streaming import finite_or_none, write_json_list
from napari_sam.geometry import Mask
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.labels import PaintableObjects

_CATEGORY_ID = 1


def write_coco(
    objects: PaintableObjects,
    path: str | os.PathLike[str],
    *,
    file_name: str,
    image_id: int = 1,
    category: str = "object",
    progress: Progress | None = None,
) -> Path:
    """Write all masks of one image as COCO instances, overlapping ones too.

    Every object is of one `category`, its segmentation is compressed run lengths (polygons would lose holes) with
    `iscrowd` 0, and `score` is the predicted IoU. The id of an annotation is the object's label.

    Parameters
    ----------
    objects : PaintableObjects
    path : path
        An existing file is replaced when the new one is complete.
    file_name, image_id : str, int
        Of the image the masks belong to.
    category : str
        What the objects are, for instance "nucleus".
    progress : callable, optional
        Called with (objects done, objects in all).

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    height, width = objects.image_size
    before = {
        "info": {"description": f"Objects of {file_name}"},
        "licenses": [],
        "images": [{"id": image_id, "width": width, "height": height, "file_name": file_name}],
        "categories": [{"id": _CATEGORY_ID, "name": category, "supercategory": ""}],
    }
    rles = iter_coco_rles(objects.iter_masks(), objects.image_size)
    annotations = (_annotation(*item, image_id) for item in rles)
    return write_json_list(path, before, "annotations", annotations, total=len(objects.table.label), progress=progress)


def _annotation(label: int, mask: Mask, rle: dict[str, Any], image_id: int) -> dict[str, Any]:
    return {
        "id": label,
        "image_id": image_id,
        "category_id": _CATEGORY_ID,
        "segmentation": rle,
        "bbox": box_to_xywh(mask.box),
        "area": mask.area,
        "iscrowd": 0,
        "score": finite_or_none(mask.predicted_iou),
    }
