"""Masks in the file format of the SA-1B data set (Kirillov et al. 2023, section 5): one JSON file an image."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError
from napari_sam.export.runlengths import iter_coco_rles
from napari_sam.export.streaming import finite_or_none, write_json_list
from napari_sam.geometry import Box, Mask, Rle, counts_from_text
from napari_sam.geometry.runs import Strips, frame_counts
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.labels import PaintableObjects


@dataclass(frozen=True, slots=True)
class Sa1bFile:
    """What one SA-1B file holds."""

    image_id: int
    file_name: str
    image_size: tuple[int, int]
    """(H, W) of the image the masks lie in."""
    masks: list[tuple[int, Mask]]
    """Id and mask of each annotation, in the order of the file."""
    source_name: str = ""
    """What the image was called before it came into a data set, where the file says so."""


def write_sa1b(
    objects: PaintableObjects,
    path: str | os.PathLike[str],
    *,
    file_name: str,
    image_id: int = 0,
    source_name: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write all masks, overlapping ones too, with COCO run lengths; some hundred masks in memory at a time.

    Boxes are XYWH as in SA-1B, the id of an annotation is the object's label, `point_coords` is empty for an object
    that no point asked for. A score that is not a number becomes null.

    Parameters
    ----------
    objects : PaintableObjects
    path : path
        An existing file is replaced when the new one is complete.
    file_name : str
        Name of the image the masks belong to.
    image_id : int
        Its number in a data set.
    source_name : str, optional
        What the image was called before it got the name it has in a data set.
    progress : callable, optional
        Called with (objects done, objects in all).

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    height, width = objects.image_size
    image: dict[str, Any] = {"image_id": image_id, "width": width, "height": height, "file_name": file_name}
    if source_name is not None:
        image["source_name"] = source_name
    annotations = (_annotation(*item) for item in iter_coco_rles(objects.iter_masks(), objects.image_size))
    total = len(objects.table.label)
    return write_json_list(path, {"image": image}, "annotations", annotations, total=total, progress=progress)


def read_sa1b(path: str | os.PathLike[str]) -> Sa1bFile:
    """Read a file in SA-1B's format, ours or a published one.

    Raises
    ------
    ImageError
        If it is missing, is not JSON of this format, or a mask in it is damaged.
    """
    try:
        return parse_sa1b(Path(path).read_bytes(), str(path))
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}.") from error


def parse_sa1b(text: bytes, name: str) -> Sa1bFile:
    """The content of a file in SA-1B's format; `name` is for messages. Raises ImageError as :func:`read_sa1b`."""
    try:
        content = json.loads(text)
        image = content["image"]
        size = (int(image["height"]), int(image["width"]))
        masks = list(_read_annotations(content["annotations"], size))
        source = str(image.get("source_name", ""))
        return Sa1bFile(int(image["image_id"]), str(image["file_name"]), size, masks, source)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ImageError(
            f"{name} is not a complete SA-1B file ({type(error).__name__}: {error}); "
            "it needs 'image' with image_id, width, height, file_name and 'annotations' with COCO run lengths."
        ) from error


def _annotation(label: int, mask: Mask, rle: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": label,
        "segmentation": rle,
        "bbox": box_to_xywh(mask.box),
        "area": mask.area,
        "predicted_iou": finite_or_none(mask.predicted_iou),
        "stability_score": finite_or_none(mask.stability_score),
        "crop_box": box_to_xywh(mask.crop_box),
        "point_coords": [] if mask.point_xy is None else [[float(c) for c in mask.point_xy]],
    }


def box_to_xywh(box: Box) -> list[int]:
    """[x, y, width, height], the form of COCO and SA-1B."""
    return [box.x0, box.y0, box.width, box.height]


def _read_annotations(annotations: list[dict[str, Any]], frame_size: tuple[int, int]) -> Iterator[tuple[int, Mask]]:
    for annotation in annotations:
        points = annotation.get("point_coords") or []
        mask = mask_from_coco(
            annotation["segmentation"],
            frame_size,
            predicted_iou=_score(annotation, "predicted_iou"),
            stability_score=_score(annotation, "stability_score"),
            point_xy=(float(points[0][0]), float(points[0][1])) if points else None,
            crop_box=_box_from_xywh(annotation.get("crop_box", [0, 0, frame_size[1], frame_size[0]])),
            prompt="point" if points else "mask",
        )
        yield int(annotation["id"]), mask


def _score(annotation: dict[str, Any], name: str) -> float:
    value = annotation.get(name)
    return float("nan") if value is None else float(value)


def _box_from_xywh(xywh: list[float]) -> Box:
    x, y, width, height = (round(value) for value in xywh)
    return Box(x, y, x + width, y + height)


def mask_from_coco(segmentation: dict[str, Any], frame_size: tuple[int, int], **fields: Any) -> Mask:
    """The mask of COCO run lengths of a whole frame; the frame, which may be huge, is never drawn.

    Raises
    ------
    ImageError
        If the run lengths are damaged or of another frame than `frame_size` (H, W).
    """
    height, width = frame_size
    counts = segmentation["counts"]
    runs = counts_from_text(counts) if isinstance(counts, str | bytes) else np.asarray(counts, dtype=np.int64)
    if list(segmentation["size"]) != [height, width] or runs.sum() != height * width or (runs < 0).any():
        raise ImageError(
            f"a mask's run lengths must cover the image of {height} x {width}, got the size {segmentation['size']} "
            f"and {runs.sum()} pixels; write the file again from the masks."
        )
    starts, stops = _inside(runs)
    if not len(starts):
        return Mask(Rle(0, 0, np.zeros(0, dtype=np.uint32)), Box(0, 0, 0, 0), frame_size, **fields)
    # The whole columns from its first to its last one: as cheap as the mask, however large the frame.
    columns = Box(int(starts[0]) // height, 0, (int(stops[-1]) - 1) // height + 1, height)
    ends = np.stack([starts, stops], axis=1).ravel() - columns.x0 * height
    counts_in_columns = np.diff(np.concatenate([[0], ends, [columns.area]]))
    strips = Strips.of([Rle(height, columns.width, counts_in_columns.astype(np.uint32))], [columns])
    box = Box(columns.x0, int(strips.row0.min()), columns.x1, int(strips.row1.max()))
    return Mask(Rle(box.height, box.width, frame_counts(strips, box).astype(np.uint32)), box, frame_size, **fields)


def _inside(runs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and stop of each run of ones that is not empty."""
    stops = np.cumsum(runs)[1::2]
    lengths = runs[1::2]
    return (stops - lengths)[lengths > 0], stops[lengths > 0]
