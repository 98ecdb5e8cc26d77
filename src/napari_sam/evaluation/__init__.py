"""How good a model is: automatic masks, clicks and boxes against known labels. Names load when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.lazy import names_of

if TYPE_CHECKING:
    from napari_sam.evaluation.clicking import ClickScores, click_objects, mask_iou, next_click, random_point
    from napari_sam.evaluation.intervals import bootstrap_interval
    from napari_sam.evaluation.matching import (
        IOU_THRESHOLDS,
        Matching,
        Overlaps,
        find_overlaps,
        match,
        match_all,
        mean_segmentation_accuracy,
    )
    from napari_sam.evaluation.prompted import ObjectScores, first_click, iter_object_scores, window_for
    from napari_sam.evaluation.summary import (
        AT_HALF,
        CLICK_GOALS,
        MAX_CLICKS,
        REPORTED_CLICKS,
        clicks_to,
        summarise_automatic,
        summarise_boxes,
        summarise_clicks,
        summarise_points,
    )

__all__ = [
    "AT_HALF",
    "CLICK_GOALS",
    "IOU_THRESHOLDS",
    "MAX_CLICKS",
    "REPORTED_CLICKS",
    "ClickScores",
    "Matching",
    "ObjectScores",
    "Overlaps",
    "bootstrap_interval",
    "click_objects",
    "clicks_to",
    "find_overlaps",
    "first_click",
    "iter_object_scores",
    "mask_iou",
    "match",
    "match_all",
    "mean_segmentation_accuracy",
    "next_click",
    "random_point",
    "summarise_automatic",
    "summarise_boxes",
    "summarise_clicks",
    "summarise_points",
    "window_for",
]

__getattr__ = names_of(
    __name__,
    {
        "AT_HALF": "summary",
        "CLICK_GOALS": "summary",
        "ClickScores": "clicking",
        "IOU_THRESHOLDS": "matching",
        "MAX_CLICKS": "summary",
        "Matching": "matching",
        "ObjectScores": "prompted",
        "Overlaps": "matching",
        "REPORTED_CLICKS": "summary",
        "bootstrap_interval": "intervals",
        "click_objects": "clicking",
        "clicks_to": "summary",
        "find_overlaps": "matching",
        "first_click": "prompted",
        "iter_object_scores": "prompted",
        "mask_iou": "clicking",
        "match": "matching",
        "match_all": "matching",
        "mean_segmentation_accuracy": "matching",
        "next_click": "clicking",
        "random_point": "clicking",
        "summarise_automatic": "summary",
        "summarise_boxes": "summary",
        "summarise_clicks": "summary",
        "summarise_points": "summary",
        "window_for": "prompted",
    },
)
