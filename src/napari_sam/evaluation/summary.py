"""From scores of images and objects to the figures that are reported, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from napari_sam.evaluation.intervals import bootstrap_interval
from napari_sam.evaluation.matching import IOU_THRESHOLDS, Matching, mean_segmentation_accuracy
from napari_sam.evaluation.prompted import ObjectScores

REPORTED_CLICKS = (1, 2, 3, 5, 9)
MAX_CLICKS = 20
"""What an object counts that never reaches the IoU asked for, as is usual for the number of clicks."""
CLICK_GOALS = (0.85, 0.90)
"""IoU to which clicks are counted."""

Json = dict[str, Any]
ScoresByImage = Sequence[Sequence[ObjectScores]]
"""The objects of each image."""


def summarise_points(images: ScoresByImage) -> Json:
    """Mean IoU over all objects after 1, 2, 3, 5 and 9 clicks, from the middle and from random places.

    The first click also with the best of its three masks.
    """
    objects = [scores for image in images for scores in image]
    if not objects:
        return {}
    available = min(len(scores.clicks) for scores in objects)
    result: Json = {}
    for n in (n for n in REPORTED_CLICKS if n <= available):
        result[str(n)] = _mean("miou", "ci95", images, partial(_after_clicks, n=n))
        if objects[0].random_clicks:
            result[str(n)] |= _mean("miou_random", "ci95_random", images, partial(_after_random_clicks, n=n))
    if result:
        result["1"] |= _mean("miou_oracle", "ci95_oracle", images, lambda s: s.oracle)
    return result


def _after_clicks(scores: ObjectScores, n: int) -> float:
    return scores.clicks[n - 1]


def _after_random_clicks(scores: ObjectScores, n: int) -> float:
    """The mean of the draws."""
    return float(np.mean([draw[n - 1] for draw in scores.random_clicks]))


def summarise_boxes(images: ScoresByImage) -> Json:
    """Mean IoU over all objects from exact and from noised boxes."""
    if not any(images):
        return {}
    return _mean("miou", "ci95", images, lambda s: s.box) | _mean(
        "miou_noised", "ci95_noised", images, lambda s: s.noised_box
    )


def summarise_clicks(images: ScoresByImage) -> Json:
    """Mean number of clicks to an IoU of 0.85 and 0.90; an object that never gets there counts `MAX_CLICKS`.

    `failed85` and `failed90` are the parts of the objects that never get there.
    """
    objects = [scores for image in images for scores in image]
    if not objects:
        return {}
    result: Json = {}
    for goal in CLICK_GOALS:
        name = f"{round(100 * goal)}"
        result |= _mean(f"noc{name}", f"ci95_{name}", images, partial(clicks_to, goal=goal))
        result[f"failed{name}"] = float(np.mean([max(s.clicks[:MAX_CLICKS]) < goal for s in objects]))
    return result


def clicks_to(scores: ObjectScores, goal: float) -> int:
    """How many clicks until the IoU was `goal` for the first time, or `MAX_CLICKS`."""
    reached = (n for n, iou in enumerate(scores.clicks, start=1) if iou >= goal)
    return min(next(reached, MAX_CLICKS), MAX_CLICKS)


def _mean(name: str, interval: str, images: ScoresByImage, value: Callable[[ObjectScores], float]) -> Json:
    values = [value(scores) for image in images for scores in image]
    clusters = [number for number, image in enumerate(images) for _ in image]
    return {name: float(np.mean(values)), interval: bootstrap_interval(values, clusters)}


def summarise_automatic(images: Sequence[Mapping[float, Matching]], *, seconds: float, megapixels: float) -> Json:
    """Scores of automatic masks: means over the images with intervals, and `pooled` over all objects."""
    if not images:
        return {}
    pooled = {t: sum((m[t] for m in images), Matching(0, 0, 0, 0.0)) for t in IOU_THRESHOLDS}
    msa = [mean_segmentation_accuracy(m) for m in images]
    result: Json = {
        "ap": {f"{t:.2f}": float(np.mean([m[t].average_precision for m in images])) for t in IOU_THRESHOLDS},
        "ap_ci95": {f"{t:.2f}": bootstrap_interval([m[t].average_precision for m in images]) for t in IOU_THRESHOLDS},
        "msa": float(np.mean(msa)),
        "msa_ci95": bootstrap_interval(msa),
    }
    for name, value in AT_HALF.items():
        values = [value(m[0.5]) for m in images]
        result |= {name: float(np.mean(values)), f"{name}_ci95": bootstrap_interval(values)}
    return result | {
        "pooled": {
            "ap": {f"{t:.2f}": m.average_precision for t, m in pooled.items()},
            "msa": mean_segmentation_accuracy(pooled),
            **{name: value(pooled[0.5]) for name, value in AT_HALF.items()},
        },
        "seconds_per_megapixel": seconds / megapixels,
    }


def count_error(m: Matching) -> float:
    """|found - true| as a part of the true number; of an image without objects the number found."""
    return abs(m.false_positives - m.false_negatives) / max(m.true_count, 1)


AT_HALF: dict[str, Callable[[Matching], float]] = {
    "f1": lambda m: m.f1,
    "pq": lambda m: m.panoptic_quality,
    "precision": lambda m: m.precision,
    "recall": lambda m: m.recall,
    "count_error": count_error,
}
"""What is taken of the matching at an IoU of 0.5."""
