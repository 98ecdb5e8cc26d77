"""The whole jobs: where the parts meet. Each is one function; they load when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sam.workflows.evaluating.evaluation import EvaluateConfig, evaluate
    from napari_sam.workflows.experiments.boxes import segment_boxes
    from napari_sam.workflows.planning import SegmentConfig, SegmentPaths, SegmentPlan, plan_segment
    from napari_sam.workflows.segmentation import SegmentResult, segment
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

_MODULE_OF = {
    "EvaluateConfig": "evaluating.evaluation",
    "evaluate": "evaluating.evaluation",
    "SegmentResult": "segmentation",
    "segment": "segmentation",
    "segment_boxes": "experiments.boxes",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'napari_sam.workflows' has no attribute {name!r}")
    module = _MODULE_OF.get(name, "planning")
    value = getattr(import_module(f"napari_sam.workflows.{module}"), name)
    globals()[name] = value
    return value
