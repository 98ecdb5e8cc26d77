"""Segment Anything for huge microscopy and aerial images.

The names below are the public interface. Each is loaded when first used, so `import napari_sam` itself loads neither
torch nor napari.

Examples
--------
>>> import napari_sam
>>> "segment" in dir(napari_sam)
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sam.errors import NapariSamError
    from napari_sam.geometry import Mask
    from napari_sam.images import open_image
    from napari_sam.model import SamModel, load_model
    from napari_sam.predict import (
        AutoMaskConfig,
        EdgeConfig,
        ImageEmbedding,
        ObjectProposalConfig,
        Prediction,
        detect_edges,
        embed_image,
        generate_masks,
        masks_from_boxes,
        predict_masks,
        propose_objects,
    )
    from napari_sam.tiling import TilingConfig
    from napari_sam.workflows import SegmentResult, evaluate, segment, segment_boxes, train

__version__ = "0.1.0"

__all__ = [
    "AutoMaskConfig",
    "EdgeConfig",
    "ImageEmbedding",
    "Mask",
    "NapariSamError",
    "ObjectProposalConfig",
    "Prediction",
    "SamModel",
    "SegmentResult",
    "TilingConfig",
    "__version__",
    "detect_edges",
    "embed_image",
    "evaluate",
    "generate_masks",
    "load_model",
    "masks_from_boxes",
    "open_image",
    "predict_masks",
    "propose_objects",
    "segment",
    "segment_boxes",
    "train",
]

_PART_OF = {
    "NapariSamError": "errors",
    "Mask": "geometry",
    "open_image": "images",
    "SamModel": "model",
    "load_model": "model",
    "AutoMaskConfig": "predict",
    "EdgeConfig": "predict",
    "ObjectProposalConfig": "predict",
    "detect_edges": "predict",
    "masks_from_boxes": "predict",
    "propose_objects": "predict",
    "ImageEmbedding": "predict",
    "Prediction": "predict",
    "embed_image": "predict",
    "generate_masks": "predict",
    "predict_masks": "predict",
    "TilingConfig": "tiling",
    "SegmentResult": "workflows",
    "evaluate": "workflows",
    "segment": "workflows",
    "segment_boxes": "workflows",
    "train": "workflows",
}


def __getattr__(name: str) -> Any:
    if name not in _PART_OF:
        raise AttributeError(f"module 'napari_sam' has no attribute {name!r}; public names: {', '.join(__all__)}")
    value = getattr(import_module(f"napari_sam.{_PART_OF[name]}"), name)
    globals()[name] = value  # so that the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
