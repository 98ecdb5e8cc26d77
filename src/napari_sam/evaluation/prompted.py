"""How well single objects are segmented from clicks and boxes (paper, section 7.1 and appendix D.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.evaluation.clicking import Answer, ClickScores, click_objects, mask_iou, random_point
from napari_sam.geometry import Box, most_interior_point
from napari_sam.model import SamModel
from napari_sam.predict import ImageEmbedding, Prediction, embed_image, predict_masks

OBJECTS_AT_ONCE = 16
PIXELS_AT_ONCE = 2**25
"""Of all windows of the objects that are asked about at once: large objects need large windows."""


@dataclass(frozen=True, slots=True)
class ObjectScores:
    """IoU of one true object after each prompt; empty or NaN is what was not asked."""

    label: int
    area_px: int
    place: Box
    """In the image."""
    clicks: tuple[float, ...]
    """After 1, 2, ... clicks, the first in the middle: see :class:`napari_sam.evaluation.clicking.ClickScores`."""
    oracle: float
    """Of the three masks of the first click, the one that fits best."""
    random_clicks: tuple[tuple[float, ...], ...]
    """For each draw of a first click anywhere inside: after 1, 2, ... clicks."""
    box: float
    """From the object's exact box."""
    noised_box: float
    """From the box with each side moved by noise of 10 % of its length, at most 20 px."""


@dataclass(frozen=True, slots=True, eq=False)
class _Target:
    """One object in the window it is answered from."""

    label: int
    place: Box
    """In the image."""
    truth: NDArray[np.bool_]
    """(h, w) of the window."""
    box_xyxy: NDArray[np.float64]
    """In the window."""
    rng: np.random.Generator


def iter_object_scores(
    model: SamModel,
    image: NDArray[np.uint8],
    labels: NDArray[np.integer],
    *,
    clicks: int = 9,
    max_clicks: int = 0,
    goal: float = 0.9,
    random_draws: int = 0,
    boxes: bool = True,
    min_area_px: int = 10,
    seed: int | Sequence[int] = 0,
) -> Iterator[ObjectScores]:
    """Scores of every object of an image, prompted one by one as a person would.

    Parameters
    ----------
    image : (H, W, 3) uint8
    labels : (H, W) int
        0 is background; objects under `min_area_px` are left out.
    clicks : int
        What every object gets, the first in its middle; 0 for none.
    max_clicks : int
        What objects get that are below `goal` (IoU) until then.
    random_draws : int
        How often the clicks begin anew, at a random place inside the object.
    boxes : bool
        Ask with the exact box and a noised one as well.
    seed : int or sequence of int
        Of random clicks and noise; an object's own do not depend on which others are asked about.
    """
    score = partial(
        _score, model, clicks=clicks, max_clicks=max_clicks, goal=goal, random_draws=random_draws, boxes=boxes
    )
    seeds = [seed] if isinstance(seed, int) else list(seed)
    for window, members in objects_by_window(labels, model.config.image_size).items():
        large = [(i, at) for i, at in members if np.count_nonzero(labels[at.slices] == i) >= min_area_px]
        targets = [_target(labels, window, label, place, [*seeds, label]) for label, place in large]
        if targets:
            embedding = embed_image(model, image[window.slices])
            at_once = max(1, min(OBJECTS_AT_ONCE, PIXELS_AT_ONCE // targets[0].truth.size))
            for start in range(0, len(targets), at_once):
                yield from score(embedding, targets[start : start + at_once])


def _target(labels: NDArray[np.integer], window: Box, label: int, place: Box, seed: Sequence[int]) -> _Target:
    box_xyxy = place.shifted(-window.x0, -window.y0).as_xyxy().astype(float)
    return _Target(label, place, labels[window.slices] == label, box_xyxy, np.random.default_rng(seed))


def objects_by_window(labels: NDArray[np.integer], model_size: int) -> dict[Box, list[tuple[int, Box]]]:
    """Label and place of each object, under the window from which it is answered; windows in a fixed order."""
    # Numbered anew first: places are looked up for every number up to the highest.
    ids, compact = np.unique(labels, return_inverse=True)
    first = int(np.searchsorted(ids, 1))
    places = ndimage.find_objects(np.maximum(compact.reshape(labels.shape) - first + 1, 0))
    by_window: dict[Box, list[tuple[int, Box]]] = {}
    for label, (rows, columns) in zip(ids[first:].tolist(), places, strict=True):
        place = Box(columns.start, rows.start, columns.stop, rows.stop)
        size = (labels.shape[0], labels.shape[1])
        by_window.setdefault(window_for(place, size, model_size), []).append((label, place))
    return dict(sorted(by_window.items(), key=lambda item: item[0].as_xyxy().tolist()))


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
    targets: Sequence[_Target],
    *,
    clicks: int,
    max_clicks: int,
    goal: float,
    random_draws: int,
    boxes: bool,
) -> Iterator[ObjectScores]:
    truths = np.stack([target.truth for target in targets])  # (P, h, w)
    centred = [ClickScores((), np.nan)] * len(targets)
    drawn: list[list[ClickScores]] = []
    if clicks:
        click = partial(click_objects, _answer(model, embedding), truths=truths, clicks=clicks)
        centred = click(np.stack([most_interior_point(truth) for truth in truths]), max_clicks=max_clicks, goal=goal)
        drawn = [click(_random_starts(targets)) for _ in range(random_draws)]
    exact = noised = np.full(len(targets), np.nan)
    if boxes:
        size = (truths.shape[1], truths.shape[2])
        given = [target.box_xyxy for target in targets]
        moved = [noised_box(target.box_xyxy, size, target.rng) for target in targets]
        exact, noised = (_from_boxes(model, embedding, truths, np.stack(of)) for of in (given, moved))
    for i, target in enumerate(targets):
        yield ObjectScores(
            label=target.label,
            area_px=int(np.count_nonzero(target.truth)),
            place=target.place,
            clicks=centred[i].iou,
            oracle=centred[i].oracle,
            random_clicks=tuple(draw[i].iou for draw in drawn),
            box=float(exact[i]),
            noised_box=float(noised[i]),
        )


def _answer(model: SamModel, embedding: ImageEmbedding) -> Answer:
    """`predict_masks` of one image.

    On the CPU a prompt with a mask is answered nearly twice as fast alone as in a batch (17 and 30 ms, nano on one
    core): a single one has the fast decoder of :mod:`napari_sam.model.fast_decoder`.
    """

    def one_by_one(mask_logits: NDArray[np.float32] | None = None, **prompts: Any) -> Prediction:
        if mask_logits is None:
            return predict_masks(model, embedding, **prompts)
        points, signs = prompts["points_xy"], prompts["point_labels"]
        parts = [
            predict_masks(model, embedding, xy, label, mask_logits=logits, multimask=prompts["multimask"])
            for xy, label, logits in zip(points, signs, mask_logits, strict=True)
        ]
        iou, low_res = (np.concatenate([getattr(p, n) for p in parts]) for n in ("predicted_iou", "low_res_logits"))
        return replace(parts[0], predicted_iou=iou, low_res_logits=low_res)

    return one_by_one if model.device.type == "cpu" else partial(predict_masks, model, embedding)


def _random_starts(targets: Sequence[_Target]) -> NDArray[np.float64]:
    return np.stack([random_point(target.truth, target.rng) for target in targets])


def _from_boxes(
    model: SamModel, embedding: ImageEmbedding, truths: NDArray[np.bool_], boxes_xyxy: NDArray[np.float64]
) -> NDArray[np.float64]:
    answer = predict_masks(model, embedding, boxes_xyxy=boxes_xyxy, multimask=False)
    return mask_iou(answer.masks[:, 0], truths)


def noised_box(box_xyxy: NDArray[np.float64], size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """A box (4,) whose sides are moved as in the paper's training: by 10 % of the box's side, at most 20 px.

    It stays inside the image of `size` (H, W) and at least a pixel wide.
    """
    sides = np.tile(box_xyxy[2:] - box_xyxy[:2], 2)
    moved = box_xyxy + rng.normal(0, np.minimum(0.1 * sides, 20))
    low = np.clip(moved[:2], 0, [size[1] - 1, size[0] - 1])
    return np.concatenate([low, np.clip(moved[2:], low + 1, [size[1], size[0]])])


def first_click(
    model: SamModel, image: NDArray[np.uint8], labels: NDArray[np.integer], label: int, place: Box
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The first click on an object and the mask that was judged, to look at: (x, y) and (H, W) bool of the image."""
    window = window_for(place, (labels.shape[0], labels.shape[1]), model.config.image_size)
    point = most_interior_point(labels[window.slices] == label)
    answer = predict_masks(model, embed_image(model, image[window.slices]), points_xy=point[None])
    mask = np.zeros(labels.shape, dtype=bool)
    mask[window.slices] = answer.masks[0, np.argmax(answer.predicted_iou[0])]
    return point + np.array([window.x0, window.y0]), mask
