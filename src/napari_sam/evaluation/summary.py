"""From scores of images and objects to the figures that are reported, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_sam.evaluation.matching import IOU_THRESHOLDS, Matching, mean_segmentation_accuracy
from napari_sam.evaluation.prompted import ObjectScores

REPORTED_CLICKS = (1, 2, 3, 5, 9)
MAX_CLICKS = 20
"""What an object counts that never reaches the IoU asked for, as is usual for the number of clicks."""

Json = dict[str, object]


def summarise_points(scores: Sequence[ObjectScores]) -> Json:
    """Mean IoU after 1, 2, 3, 5 and 9 clicks; the first one also with the best of its three masks, and an interval."""
    if not scores:
        return {}
    available = len(scores[0].clicks)
    result: Json = {
        str(n): {
            "miou": float(np.mean(values := [s.clicks[n - 1] for s in scores])),
            "ci95": bootstrap_interval(values),
        }
        for n in REPORTED_CLICKS
        if n <= available
    }
    first = result["1"]
    if isinstance(first, dict):
        first["miou_oracle"] = float(np.mean([s.oracle for s in scores]))
    return result


def summarise_boxes(scores: Sequence[ObjectScores]) -> Json:
    """Mean IoU from exact and from noised boxes."""
    if not scores:
        return {}
    exact = [s.box for s in scores]
    return {
        "miou": float(np.mean(exact)),
        "ci95": bootstrap_interval(exact),
        "miou_noised": float(np.mean([s.noised_box for s in scores])),
    }


def summarise_clicks(scores: Sequence[ObjectScores]) -> Json:
    """Mean number of clicks to an IoU of 0.85 and 0.90; an object that never gets there counts `MAX_CLICKS`."""
    if not scores:
        return {}
    return {f"noc{round(100 * goal)}": float(np.mean([_clicks_to(s, goal) for s in scores])) for goal in (0.85, 0.90)}


def _clicks_to(scores: ObjectScores, goal: float) -> int:
    return next((n for n, iou in enumerate(scores.clicks, start=1) if iou >= goal), MAX_CLICKS)


def summarise_automatic(images: Sequence[dict[float, Matching]], *, seconds: float, megapixels: float) -> Json:
    """Scores of automatic masks: means over the images, and `pooled` over all objects."""
    if not images:
        return {}
    msa = [mean_segmentation_accuracy(m) for m in images]
    pooled = {t: sum((m[t] for m in images), Matching(0, 0, 0, 0.0)) for t in IOU_THRESHOLDS}
    at_half = [m[0.5] for m in images]
    return {
        "ap": {f"{t:.2f}": float(np.mean([m[t].average_precision for m in images])) for t in IOU_THRESHOLDS},
        "msa": float(np.mean(msa)),
        "msa_ci95": bootstrap_interval(msa),
        "f1": float(np.mean([m.f1 for m in at_half])),
        "pq": float(np.mean([m.panoptic_quality for m in at_half])),
        "precision": float(np.mean([m.precision for m in at_half])),
        "recall": float(np.mean([m.recall for m in at_half])),
        "count_error": float(np.mean([_count_error(m) for m in at_half])),
        "pooled": {
            "ap": {f"{t:.2f}": m.average_precision for t, m in pooled.items()},
            "msa": mean_segmentation_accuracy(pooled),
            "f1": pooled[0.5].f1,
            "pq": pooled[0.5].panoptic_quality,
        },
        "seconds_per_megapixel": seconds / megapixels,
    }


def _count_error(m: Matching) -> float:
    """|found - true| as a part of the true number."""
    return abs(m.false_positives - m.false_negatives) / max(m.true_positives + m.false_negatives, 1)


def bootstrap_interval(values: Sequence[float], *, rounds: int = 1000, seed: int = 0) -> list[float]:
    """The middle 95 % of the means of `rounds` samples drawn from `values` with replacement."""
    data = np.asarray(values, dtype=float)
    rng = np.random.default_rng(seed)
    means = [data[rng.integers(len(data), size=len(data))].mean() for _ in range(rounds)]
    return [float(x) for x in np.percentile(means, [2.5, 97.5])]
