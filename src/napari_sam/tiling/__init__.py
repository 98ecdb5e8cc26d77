"""Huge images: plan tiles, run them, merge what they saw, keep a ledger of it. The model is handed in as a function."""

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
