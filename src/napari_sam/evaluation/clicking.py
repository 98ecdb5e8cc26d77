"""Clicks as in the paper: the next one goes where the mask is most wrong (section 7.1, appendix D.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.geometry import most_interior_point
from napari_sam.predict import Prediction

Answer = Callable[..., Prediction]
"""`predict_masks` of one image: takes points_xy, point_labels, mask_logits and multimask."""


@dataclass(frozen=True, slots=True)
class ClickScores:
    """IoU of one object after each click."""

    iou: tuple[float, ...]
    """After 1, 2, ... clicks: the first answered with the most confident of three masks, then with the single one."""
    oracle: float
    """Of the three masks of the first click, the one that fits best."""


def click_objects(
    answer: Answer,
    starts_xy: NDArray[np.float64],
    truths: NDArray[np.bool_],
    *,
    clicks: int,
    max_clicks: int = 0,
    goal: float = 1.0,
) -> list[ClickScores]:
    """Click each of P objects, and again where its mask is most wrong.

    The first click is ambiguous: of three masks the most confident counts. Each further one is asked together with
    all former clicks and the former mask's low-resolution logits, and answered with the single mask.

    Parameters
    ----------
    answer : function
        See :data:`Answer`.
    starts_xy : (P, 2)
        The first clicks.
    truths : (P, h, w) bool
    clicks : int
        What every object gets, at least 1.
    max_clicks : int
        What objects get whose best mask so far is below `goal`; up to `clicks` it changes nothing.
    goal : float
        IoU.
    """
    points = np.asarray(starts_xy, dtype=float)[:, None]  # (P, 1, 2)
    signs = np.ones(points.shape[:2], dtype=int)
    first = answer(points_xy=points, point_labels=signs, multimask=True)
    rows = np.arange(len(truths))
    best = np.argmax(first.predicted_iou, axis=1)
    masks, logits = first.masks[rows, best], first.low_res_logits[rows, best]
    oracle = np.max([mask_iou(first.masks[:, m], truths) for m in range(first.masks.shape[1])], axis=0)
    scores = [[float(iou)] for iou in mask_iou(masks, truths)]
    for done in range(1, max(clicks, max_clicks)):
        if done >= clicks:
            going = np.array([max(scores[row]) < goal for row in rows], dtype=bool)
            rows, points, signs, masks, logits = (x[going] for x in (rows, points, signs, masks, logits))
        if not len(rows):
            break
        places, new_signs = zip(*map(next_click, masks, truths[rows]), strict=True)
        points = np.concatenate([points, np.stack(places)[:, None]], axis=1)
        signs = np.concatenate([signs, np.array(new_signs)[:, None]], axis=1)
        refined = answer(points_xy=points, point_labels=signs, mask_logits=logits, multimask=False)
        masks, logits = refined.masks[:, 0], refined.low_res_logits[:, 0]
        for row, iou in zip(rows, mask_iou(masks, truths[rows]), strict=True):
            scores[row].append(float(iou))
    return [ClickScores(tuple(iou), float(o)) for iou, o in zip(scores, oracle, strict=True)]


def mask_iou(masks: NDArray[np.bool_], truths: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU of each of P masks (P, h, w) with its truth."""
    shared = np.count_nonzero(masks & truths, axis=(1, 2))
    return np.asarray(shared / np.maximum(np.count_nonzero(masks | truths, axis=(1, 2)), 1))


def next_click(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int]:
    """Where a person would click next: the middle of the largest wrong region, and 1 if the object is missed there.

    On a perfect mask, the middle of the object once more.
    """
    wrong = mask ^ truth
    rows, columns = np.flatnonzero(wrong.any(axis=1)), np.flatnonzero(wrong.any(axis=0))
    if not len(rows):
        return most_interior_point(truth), 1
    # Only the box of what is wrong is looked at: windows are large and objects small.
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    missed, invented = wrong[box] & truth[box], wrong[box] & mask[box]
    # Missed and invented regions that touch are two errors, with two clicks.
    (missed_px, missed_region), (invented_px, invented_region) = map(_largest_region, (missed, invented))
    region = missed_region if missed_px >= invented_px else invented_region
    x, y = most_interior_point(region)
    return np.array([x + columns[0], y + rows[0]]), int(missed_px >= invented_px)


def _largest_region(mask: NDArray[np.bool_]) -> tuple[int, NDArray[np.bool_]]:
    """Area and mask of the largest connected region (4 neighbours)."""
    regions, _ = ndimage.label(mask)
    sizes = np.bincount(regions.ravel(), minlength=2)[1:]
    return int(sizes.max()), regions == sizes.argmax() + 1


def random_point(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float64]:
    """(x, y) of a pixel of `mask`, each as likely as any other: the first click of the paper's figure 9d."""
    places = np.flatnonzero(mask)
    y, x = np.unravel_index(places[rng.integers(len(places))], mask.shape)
    return np.array([x, y], dtype=np.float64)
