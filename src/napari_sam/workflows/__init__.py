"""The whole jobs: where the parts meet. Each is one function; they load when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.lazy import names_of

if TYPE_CHECKING:
    from napari_sam.workflows.evaluating.config import EvaluateConfig
    from napari_sam.workflows.evaluating.evaluation import evaluate
    from napari_sam.workflows.experiments.boxes import segment_boxes
    from napari_sam.workflows.planning import SegmentPlan, plan_segment
    from napari_sam.workflows.segmentation import SegmentResult, segment
    from napari_sam.workflows.settings import SegmentConfig, SegmentPaths
    from napari_sam.workflows.training import train

__all__ = [
    "EvaluateConfig",
    "SegmentConfig",
    "SegmentPaths",
    "SegmentPlan",
    "SegmentResult",
    "evaluate",
    "plan_segment",
    "segment",
    "segment_boxes",
    "train",
]

__getattr__ = names_of(
    __name__,
    {
        "EvaluateConfig": "evaluating.config",
        "SegmentConfig": "settings",
        "SegmentPaths": "settings",
        "SegmentPlan": "planning",
        "SegmentResult": "segmentation",
        "evaluate": "evaluating.evaluation",
        "plan_segment": "planning",
        "segment": "segmentation",
        "segment_boxes": "experiments.boxes",
        "train": "training",
    },
)
