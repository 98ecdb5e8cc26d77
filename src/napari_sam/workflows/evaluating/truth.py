"""Images with known objects, one after the other: pairs of images and labels, or images with a COCO file."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.errors import ImageError, TrainingError
from napari_sam.geometry import Box, Mask, Rle
from napari_sam.images import Plane
from napari_sam.images.roi import PolygonRoi
from napari_sam.training.data import read_pair
from napari_sam.workflows.evaluating.data import JudgedPair, judged_pairs
from napari_sam.workflows.experiments.image_choice import open_plane
from napari_sam.workflows.settings import SegmentConfig

ONLY_CATEGORY = "object"


@dataclass(frozen=True, slots=True, eq=False)
class TrueImage:
    """An image and the objects that are known of it."""

    name: str
    image_id: Any
    """Of the COCO file; the name for pairs."""
    plane: Plane
    masks: tuple[Mask, ...]
    """In the frame of the image."""
    boxes_xyxy: NDArray[np.float64]
    """(G, 4) as stated, which may differ from the tight boxes of the masks."""
    areas: NDArray[np.float64]
    """(G,) as stated."""
    is_crowd: NDArray[np.bool_]
    """(G,) regions of many objects that nobody outlined."""
    categories: tuple[str, ...]


TrueReader = Callable[[], TrueImage]
"""Reads one image and its objects; errors as of the function that made it."""


def pair_readers(folder: Path, *, max_images: int | None = None) -> list[TrueReader]:
    """For each pair of a folder, in the layouts that `napari-sam evaluate` takes; TrainingError as there."""
    return [partial(_read_pair, judged) for judged in judged_pairs(folder, max_images=max_images)[0]]


def _read_pair(judged: JudgedPair) -> TrueImage:
    sample = read_pair(judged.pair)
    masks = masks_of_labels(sample.labels)
    return TrueImage(
        name=judged.name,
        image_id=judged.name,
        plane=open_plane(np.asarray(sample.image), SegmentConfig()),
        masks=tuple(masks),
        boxes_xyxy=np.array([mask.box_xyxy for mask in masks], dtype=np.float64).reshape(-1, 4),
        areas=np.array([mask.area for mask in masks], dtype=np.float64),
        is_crowd=np.zeros(len(masks), dtype=bool),
        categories=(ONLY_CATEGORY,) * len(masks),
    )


def masks_of_labels(labels: NDArray[np.integer]) -> list[Mask]:
    """One mask for each value of a label image (H, W) but 0, in ascending order."""
    values, compact = np.unique(labels, return_inverse=True)
    compact = compact.reshape(labels.shape) + int(values[0] != 0)  # 0 must be the background
    masks = []
    for number, place in enumerate(ndimage.find_objects(compact), start=1):
        window = Box(place[1].start, place[0].start, place[1].stop, place[0].stop)
        masks.append(Mask.from_window(compact[place] == number, window, (labels.shape[0], labels.shape[1])))
    return masks


def coco_readers(
    folder: Path, annotations: str | os.PathLike[str], *, max_images: int | None = None
) -> list[TrueReader]:
    """For each image of a COCO file, whose files lie in `folder`.

    Raises
    ------
    TrainingError
        If the file is no COCO instances file; on reading, if an image is missing or its size is not the stated one.
    """
    content = read_coco(Path(annotations))
    names = {c["id"]: str(c["name"]) for c in content["categories"]}
    of_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        of_image[annotation["image_id"]].append(annotation)
    images = content["images"]
    if max_images is not None and max_images < len(images):
        images = [images[i] for i in np.linspace(0, len(images) - 1, max_images).astype(int)]
    return [partial(_true_image, folder / i["file_name"], i, of_image[i["id"]], names) for i in images]


def read_coco(path: Path) -> dict[str, Any]:
    """A COCO instances file; TrainingError unless it has images, annotations and categories."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read as JSON ({error}); give a COCO instances file.") from error
    wanted = {"images", "annotations", "categories"}
    if not isinstance(content, dict) or not wanted <= content.keys():
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise TrainingError(f"{path} is no COCO instances file: it needs {', '.join(sorted(wanted))}, got {found}.")
    return content


def _true_image(
    path: Path, image: Mapping[str, Any], annotations: list[Mapping[str, Any]], names: Mapping[Any, str]
) -> TrueImage:
    if not path.exists():
        raise TrainingError(f"{path} is not there, but the COCO file names it; give the folder of its images.")
    plane = open_plane(path, SegmentConfig())
    stated = (int(image["height"]), int(image["width"]))
    if plane.shape != stated:
        raise TrainingError(f"{path} has {plane.shape} pixels (H, W), but the COCO file says {stated}.")
    try:
        masks = tuple(coco_mask(a["segmentation"], stated) for a in annotations)
        boxes = np.array([_xyxy(a["bbox"]) for a in annotations], dtype=np.float64).reshape(-1, 4)
    except (ImageError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"an annotation of {path} cannot be used ({error}); export the COCO file again.") from error
    return TrueImage(
        str(image["file_name"]),
        image["id"],
        plane,
        masks,
        boxes,
        np.array([float(a.get("area", m.area)) for a, m in zip(annotations, masks, strict=True)]),
        np.array([bool(a.get("iscrowd", 0)) for a in annotations], dtype=bool),
        tuple(names.get(a["category_id"], str(a["category_id"])) for a in annotations),
    )


def coco_mask(segmentation: Any, image_size: tuple[int, int]) -> Mask:
    """The mask of one COCO annotation: run lengths, or polygons, of which pixels belong whose centre lies inside one.

    pycocotools draws polygons a little differently, so that a pixel at the border may differ.
    """
    if isinstance(segmentation, Mapping):
        return Mask.from_array(Rle.from_coco(segmentation).decode())
    rings = [np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in segmentation]
    whole = Box.of_size(image_size)
    return Mask.from_array(PolygonRoi(tuple((ring,) for ring in rings)).mask(whole))


def _xyxy(xywh: Any) -> list[float]:
    x, y, width, height = map(float, xywh)
    return [x, y, x + width, y + height]
