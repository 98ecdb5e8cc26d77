"""How good a model is: automatic masks, clicks and boxes against known labels."""

from napari_sam.evaluation.matching import (
    IOU_THRESHOLDS,
    Matching,
    Overlaps,
    find_overlaps,
    match,
    match_all,
    mean_segmentation_accuracy,
)
from napari_sam.evaluation.prompted import ObjectScores, iter_object_scores
from napari_sam.evaluation.summary import (
    bootstrap_interval,
    summarise_automatic,
    summarise_boxes,
    summarise_clicks,
    summarise_points,
)

__all__ = [
    "IOU_THRESHOLDS",
    "Matching",
    "ObjectScores",
    "Overlaps",
    "bootstrap_interval",
    "find_overlaps",
    "iter_object_scores",
    "match",
    "match_all",
    "mean_segmentation_accuracy",
    "summarise_automatic",
    "summarise_boxes",
    "summarise_clicks",
    "summarise_points",
]
