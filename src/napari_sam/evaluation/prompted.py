"""How well single objects are segmented from clicks and boxes (paper, section 7.1 and appendix D.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.geometry import Box, most_interior_point
from napari_sam.model import SamModel
from napari_sam.predict import ImageEmbedding, embed_image, predict_masks

OBJECTS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class ObjectScores:
    """IoU of one true object after each prompt."""

    label: int
    area_px: int
    clicks: tuple[float, ...]
    """After 1, 2, ... clicks: the first answered with the most confident of three masks, then with the single one."""
    oracle: float
    """Of the three masks of the first click, the one that fits best."""
    box: float
    """From the object's exact box."""
    noised_box: float
    """From the box with each side moved by noise of 10 % of its length, at most 20 px."""


def iter_object_scores(
    model: SamModel,
    image: NDArray[np.uint8],
    labels: NDArray[np.integer],
    *,
    clicks: int = 9,
    boxes: bool = True,
    min_area_px: int = 10,
    seed: int = 0,
) -> Iterator[ObjectScores]:
    """Scores of every object of an image, prompted one by one as a person would.

    The first click is the mask's most interior point; each further one lies at the most interior point of the largest
    region that is still wrong.

    Parameters
    ----------
    image : (H, W, 3) uint8
    labels : (H, W) int
        0 is background; objects under `min_area_px` are left out.
    clicks : int
        Clicks an object, at least 1.
    """
    places = ndimage.find_objects(labels)
    objects = [
        (label, Box(columns.start, rows.start, columns.stop, rows.stop))
        for label, (rows, columns) in ((i, place) for i, place in enumerate(places, start=1) if place is not None)
    ]
    by_window: dict[Box, list[tuple[int, Box]]] = {}
    for label, box in objects:
        window = window_for(box, labels.shape, model.config.image_size)
        by_window.setdefault(window, []).append((label, box))
    rng = np.random.default_rng(seed)
    for window, members in sorted(by_window.items(), key=lambda item: item[0].as_xyxy().tolist()):
        embedding = embed_image(model, image[window.slices])
        part = labels[window.slices]
        truths = [(label, box.shifted(-window.x0, -window.y0), part == label) for label, box in members]
        kept = [item for item in truths if np.count_nonzero(item[2]) >= min_area_px]
        for start in range(0, len(kept), OBJECTS_AT_ONCE):
            yield from _score(model, embedding, kept[start : start + OBJECTS_AT_ONCE], clicks, boxes, rng)


def window_for(box: Box, image_size: tuple[int, int], model_size: int) -> Box:
    """The window from which an object is answered: on a half-window lattice, as fine as holds the object whole."""
    height, width = image_size
    side = model_size
    while side < max(height, width):
        x0, y0 = (
            min(max(round(((a + b) / 2 - side / 2) / (side / 2)) * (side // 2), 0), max(n - side, 0))
            for a, b, n in ((box.x0, box.x1, width), (box.y0, box.y1, height))
        )
        window = Box(x0, y0, min(x0 + side, width), min(y0 + side, height))
        if window.clipped(box) == box:
            return window
        side *= 2
    return Box(0, 0, width, height)


def _score(
    model: SamModel,
    embedding: ImageEmbedding,
    objects: Sequence[tuple[int, Box, NDArray[np.bool_]]],
    clicks: int,
    boxes: bool,
    rng: np.random.Generator,
) -> Iterable[ObjectScores]:
    truths = np.stack([truth for _, _, truth in objects])  # (P, h, w)
    per_click, oracle = _click(model, embedding, truths, clicks)
    exact = noised = np.full(len(objects), np.nan)
    if boxes:
        xyxy = np.stack([box.as_xyxy() for _, box, _ in objects]).astype(float)
        exact = _from_boxes(model, embedding, truths, xyxy)
        noised = _from_boxes(model, embedding, truths, _noised(xyxy, truths.shape[1:], rng))
    for i, (label, _, truth) in enumerate(objects):
        scores = tuple(float(iou[i]) for iou in per_click)
        area = int(np.count_nonzero(truth))
        yield ObjectScores(label, area, scores, float(oracle[i]), float(exact[i]), float(noised[i]))


def _click(
    model: SamModel, embedding: ImageEmbedding, truths: NDArray[np.bool_], clicks: int
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """IoU (P,) after each click, and the best IoU among the first click's masks."""
    points = np.stack([most_interior_point(truth) for truth in truths])[:, None]  # (P, 1, 2)
    point_labels = np.ones(points.shape[:2], dtype=int)
    answer = predict_masks(model, embedding, points_xy=points, point_labels=point_labels)
    rows = np.arange(len(truths))
    best = np.argmax(answer.predicted_iou, axis=1)
    masks, logits = answer.masks[rows, best], answer.low_res_logits[rows, best]
    oracle = np.max([mask_iou(answer.masks[:, m], truths) for m in range(answer.masks.shape[1])], axis=0)
    scores = [mask_iou(masks, truths)]
    for _ in range(clicks - 1):
        new, signs = zip(*map(next_click, masks, truths), strict=True)
        points = np.concatenate([points, np.stack(new)[:, None]], axis=1)
        point_labels = np.concatenate([point_labels, np.array(signs)[:, None]], axis=1)
        answer = predict_masks(
            model, embedding, points_xy=points, point_labels=point_labels, mask_logits=logits, multimask=False
        )
        masks, logits = answer.masks[:, 0], answer.low_res_logits[:, 0]
        scores.append(mask_iou(masks, truths))
    return scores, oracle


def _from_boxes(
    model: SamModel, embedding: ImageEmbedding, truths: NDArray[np.bool_], boxes_xyxy: NDArray[np.float64]
) -> NDArray[np.float64]:
    answer = predict_masks(model, embedding, boxes_xyxy=boxes_xyxy, multimask=False)
    return mask_iou(answer.masks[:, 0], truths)


def _noised(boxes: NDArray[np.float64], size: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moved = boxes + rng.normal(0, np.minimum(0.1 * sides, 20))
    low = np.clip(moved[:, :2], 0, [size[1] - 1, size[0] - 1])
    return np.concatenate([low, np.clip(moved[:, 2:], low + 1, [size[1], size[0]])], axis=1)


def mask_iou(masks: NDArray[np.bool_], truths: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU of each of P masks (P, h, w) with its truth."""
    shared = np.count_nonzero(masks & truths, axis=(1, 2))
    return np.asarray(shared / np.maximum(np.count_nonzero(masks | truths, axis=(1, 2)), 1))


def next_click(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int]:
    """Where a person would click next: the middle of the largest wrong region, and 1 if the object is missed there.

    On a perfect mask, the middle of the object once more.
    """
    wrong = mask ^ truth
    if not wrong.any():
        return most_interior_point(truth), 1
    # Missed and invented regions that touch are two errors, with two clicks.
    regions = [ndimage.label(part) for part in (wrong & truth, wrong & mask)]
    sizes = [np.bincount(found.ravel(), minlength=2)[1:].max(initial=0) for found, _ in regions]
    sign = int(sizes[0] >= sizes[1])
    found = regions[0 if sign else 1][0]
    largest = found == np.bincount(found.ravel())[1:].argmax() + 1
    return most_interior_point(largest), sign
