"""Huge images: plan tiles, run them, merge what they saw, keep a ledger of it. The model is handed in as a
function. Names load when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.lazy import names_of

if TYPE_CHECKING:
    from napari_sam.tiling.config import TilingConfig
    from napari_sam.tiling.functions import Progress, Read, Reprompt, Segment
    from napari_sam.tiling.ledger import Ledger, RunKey
    from napari_sam.tiling.merge import merge_tiles
    from napari_sam.tiling.objects import MergedObjects, MergeSummary, ObjectTable
    from napari_sam.tiling.plan import TilePlan, plan_tiles
    from napari_sam.tiling.run import RunSummary, run_tiles
    from napari_sam.tiling.seams import seam_cut_labels

__all__ = [
    "Ledger",
    "MergeSummary",
    "MergedObjects",
    "ObjectTable",
    "Progress",
    "Read",
    "Reprompt",
    "RunKey",
    "RunSummary",
    "Segment",
    "TilePlan",
    "TilingConfig",
    "merge_tiles",
    "plan_tiles",
    "run_tiles",
    "seam_cut_labels",
]

__getattr__ = names_of(
    __name__,
    {
        "Ledger": "ledger",
        "MergeSummary": "objects",
        "MergedObjects": "objects",
        "ObjectTable": "objects",
        "Progress": "functions",
        "Read": "functions",
        "Reprompt": "functions",
        "RunKey": "ledger",
        "RunSummary": "run",
        "Segment": "functions",
        "TilePlan": "plan",
        "TilingConfig": "config",
        "merge_tiles": "merge",
        "plan_tiles": "plan",
        "run_tiles": "run",
        "seam_cut_labels": "seams",
    },
)
