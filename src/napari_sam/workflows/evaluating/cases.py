"""Best, median and worst cases as pictures: what is true beside what was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.measure import block_reduce
from skimage.segmentation import find_boundaries

from napari_sam.evaluation import ObjectScores, find_overlaps, first_click
from napari_sam.export.overlay import overlay_step
from napari_sam.geometry import Box
from napari_sam.model import SamModel
from napari_sam.training.data import Sample, read_pair
from napari_sam.workflows.evaluating.scores import ImageScores

CASES_EACH = 3
MAX_PANEL_PX = 640
"""Larger images are reduced to this, smaller ones enlarged towards it by a whole number."""
GAP_PX = 8
MATCHED, UNMATCHED, CLICK = (0, 190, 255), (255, 110, 0), (255, 0, 200)
"""Blue, orange and pink: told apart by colour-blind readers as well, and on gray and stained images."""

Rgb = NDArray[np.uint8]
Segment = Callable[[Rgb], NDArray[np.uint32]]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One picture of the report."""

    kind: str
    """best, median or worst."""
    text: str
    picture: Rgb


def pick_cases(scores: Sequence[float], each: int = CASES_EACH) -> dict[str, list[int]]:
    """Which of the scores are the best, the middle and the worst ones; none stands in two of the lists.

    Examples
    --------
    >>> pick_cases([0.9, 0.1, 0.5, 0.7], each=1)
    {'best': [0], 'median': [2], 'worst': [1]}
    """
    order = sorted((i for i, score in enumerate(scores) if not np.isnan(score)), key=lambda i: scores[i])
    count = max(1, min(each, len(order) // 3))
    best, worst = order[::-1][:count], order[:count]
    worst = [i for i in worst if i not in best]
    left = [i for i in order if i not in best and i not in worst]
    start = max(0, (len(left) - count) // 2)
    return {"best": best, "median": left[start : start + count], "worst": worst}


def automatic_cases(images: Sequence[ImageScores], segment: Segment) -> list[Case]:
    """Images by their mSA: true objects on the left, found ones on the right."""
    # Of an image without objects there is nothing to see.
    shown = [image for image in images if image.matchings is not None and image.matchings[0.5].true_count]
    picked = pick_cases([image.msa for image in shown])
    return [
        Case(
            kind,
            f"{shown[i].name}: mSA {shown[i].msa:.2f}",
            _automatic_picture(read_pair(shown[i].judged.pair), segment),
        )
        for kind, numbers in picked.items()
        for i in numbers
    ]


def _automatic_picture(sample: Sample, segment: Segment) -> Rgb:
    found = segment(sample.image)
    overlaps = find_overlaps(sample.labels, found)
    good = overlaps.iou >= 0.5
    true_ids, found_ids = (np.unique(labels[labels > 0]) for labels in (sample.labels, found))
    return beside(
        outlined(sample.image, sample.labels, true_ids[overlaps.true_index[good]]),
        outlined(sample.image, found, found_ids[overlaps.found_index[good]]),
    )


def click_cases(images: Sequence[ImageScores], model: SamModel) -> list[Case]:
    """Objects by the IoU of their first click: the true outline on the left, the one that came on the right."""
    clicked = [(image, scores) for image in images for scores in image.objects if scores.clicks]
    picked = pick_cases([scores.clicks[0] for _, scores in clicked])
    return [
        Case(
            kind,
            f"{image.name}, object {scores.label}: IoU {scores.clicks[0]:.2f}",
            _click_picture(image, scores, model),
        )
        for kind, numbers in picked.items()
        for image, scores in (clicked[i] for i in numbers)
    ]


def _click_picture(image: ImageScores, scores: ObjectScores, model: SamModel) -> Rgb:
    sample = read_pair(image.judged.pair)
    point, mask = first_click(model, sample.image, sample.labels, scores.label, scores.place)
    margin = max(16, *scores.place.size)
    view = scores.place.grown(margin).clipped(Box.of_size((sample.labels.shape[0], sample.labels.shape[1])))
    pixels = sample.image[view.slices]
    truth = (sample.labels[view.slices] == scores.label).astype(np.uint8)
    found = mask[view.slices].astype(np.uint8)
    right = outlined(pixels, found, np.array([1] if scores.clicks[0] >= 0.5 else []))
    left = outlined(pixels, truth, np.array([1]))
    scale = left.shape[0] / pixels.shape[0]
    x, y = ((point - (view.x0, view.y0) + 0.5) * scale).astype(int)
    return beside(left, _with_cross(right, int(x), int(y)))


def outlined(image: Rgb, labels: NDArray[np.integer], matched: NDArray[np.integer]) -> Rgb:
    """The image with the outlines of its objects, blue for the labels in `matched`, else orange.

    A large image is reduced, a small one enlarged; a line is one pixel wide in the end, or more where enlarged.
    """
    size = (image.shape[0], image.shape[1])
    step = overlay_step(size, MAX_PANEL_PX)
    zoom = max(1, MAX_PANEL_PX // max(size))
    picture, shown = (np.repeat(np.repeat(a, zoom, axis=0), zoom, axis=1) for a in (image, labels))
    lines = find_boundaries(shown, connectivity=1, mode="inner")
    classes = lines * np.where(np.isin(shown, matched), 1, 2)  # 0 no line
    # An unmatched object's line is the one to be seen where two fall into one pixel.
    drawn = block_reduce(classes, (step, step), np.max)
    picture = np.asarray(block_reduce(picture, (step, step, 1), np.mean), dtype=np.uint8)
    picture[drawn == 1], picture[drawn == 2] = MATCHED, UNMATCHED
    return picture


def beside(left: Rgb, right: Rgb) -> Rgb:
    """Two pictures of equal height with a white gap."""
    gap = np.full((left.shape[0], GAP_PX, 3), 255, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def _with_cross(picture: Rgb, x: int, y: int, arm: int = 5) -> Rgb:
    crossed = picture.copy()
    rows, columns = slice(max(0, y - arm), y + arm + 1), slice(max(0, x - arm), x + arm + 1)
    crossed[rows, x] = crossed[y, columns] = CLICK
    return crossed
