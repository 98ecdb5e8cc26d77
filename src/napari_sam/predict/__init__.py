"""One image in memory: embed it once, answer prompts, find everything. Names load when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.lazy import names_of

if TYPE_CHECKING:
    from napari_sam.predict.automatic import generate_masks
    from napari_sam.predict.boxed import box_masks, masks_from_boxes
    from napari_sam.predict.config import (
        AutoMaskConfig,
        EdgeConfig,
        MaskChoice,
        ObjectProposalConfig,
        Precision,
        PromptSource,
    )
    from napari_sam.predict.decoding import Prediction, predict_masks
    from napari_sam.predict.devices import OutOfMemoryWarning
    from napari_sam.predict.edges import detect_edges
    from napari_sam.predict.embedding import ImageEmbedding, embed_image
    from napari_sam.predict.encoding import EncoderBatches
    from napari_sam.predict.objectness import proposal_score, propose_objects, ranked_proposals
    from napari_sam.predict.presets import PRESETS, Preset, preset_config
    from napari_sam.predict.prompts import Prompts, check_prompts
    from napari_sam.predict.proposals import proposal_points
    from napari_sam.predict.upsampling import LogitUpsampler
    from napari_sam.predict.whole_objects import reprompt

__all__ = [
    "PRESETS",
    "AutoMaskConfig",
    "EdgeConfig",
    "EncoderBatches",
    "ImageEmbedding",
    "LogitUpsampler",
    "MaskChoice",
    "ObjectProposalConfig",
    "OutOfMemoryWarning",
    "Precision",
    "Prediction",
    "Preset",
    "PromptSource",
    "Prompts",
    "box_masks",
    "check_prompts",
    "detect_edges",
    "embed_image",
    "generate_masks",
    "masks_from_boxes",
    "predict_masks",
    "preset_config",
    "proposal_points",
    "proposal_score",
    "propose_objects",
    "ranked_proposals",
    "reprompt",
]

__getattr__ = names_of(
    __name__,
    {
        "AutoMaskConfig": "config",
        "EdgeConfig": "config",
        "EncoderBatches": "encoding",
        "ImageEmbedding": "embedding",
        "LogitUpsampler": "upsampling",
        "MaskChoice": "config",
        "ObjectProposalConfig": "config",
        "OutOfMemoryWarning": "devices",
        "PRESETS": "presets",
        "Precision": "config",
        "Prediction": "decoding",
        "Preset": "presets",
        "PromptSource": "config",
        "Prompts": "prompts",
        "box_masks": "boxed",
        "check_prompts": "prompts",
        "detect_edges": "edges",
        "embed_image": "embedding",
        "generate_masks": "automatic",
        "masks_from_boxes": "boxed",
        "predict_masks": "decoding",
        "preset_config": "presets",
        "proposal_points": "proposals",
        "proposal_score": "objectness",
        "propose_objects": "objectness",
        "ranked_proposals": "objectness",
        "reprompt": "whole_objects",
    },
)
