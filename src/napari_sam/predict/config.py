"""Settings of automatic masks, edges and object proposals, under their published names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from napari_sam.errors import ConfigError

PromptSource = Literal["auto", "grid", "adaptive", "proposals", "instances"]
MaskChoice = Literal["all", "best"]
Precision = Literal["auto", "fp32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoMaskConfig:
    """How masks are asked for and which are kept (Kirillov et al. 2023, appendix B), with the published defaults."""

    prompts: PromptSource = "auto"
    """What asks for masks: points on a regular "grid"; "adaptive" asks every fourth of them first and finer ones only
    where the answer is not known yet; the "proposals" of the model's proposal head; "instances" takes the regions of
    its instance head without asking the decoder. "auto": the last of these that the model has, or the whole grid."""
    points_per_side: int = 32
    """Points along each side of the grid; the grid has this number squared."""
    points_per_batch: int = 64
    """Points answered at once; more is faster on a GPU and needs more memory."""
    pred_iou_thresh: float = 0.88
    """Keep masks whose predicted IoU is above this; 0 keeps all."""
    stability_score_thresh: float = 0.95
    """Keep masks whose stability score is at least this; 0 keeps all."""
    stability_score_offset: float = 1.0
    """How far the threshold moves both ways for the stability score, in logits."""
    box_nms_thresh: float = 0.7
    """Of two masks of one crop whose boxes have an IoU above this, the one with the higher predicted IoU stays; 1 keeps
    both."""
    mask_nms_thresh: float | None = None
    """The same for the IoU of the masks themselves; None leaves it out, as published."""
    cover_thresh: float | None = None
    """Drop a mask of which better ones together cover more than this part; None keeps parts of objects, as
    published."""
    mask_choice: MaskChoice = "all"
    """Which of a point's three masks go on to the filters: "all", as published, or the "best" by predicted IoU."""
    one_piece: bool = False
    """Keep of each mask only the connected piece that its point lies on, or the largest where the point lies beside
    the mask: for objects that are never in pieces, such as cells."""
    crop_n_layers: int = 0
    """Layers of zoomed crops besides the whole image; layer i has 2**i x 2**i crops."""
    crop_nms_thresh: float = 0.7
    """Of two masks of different crops whose boxes have an IoU above this, the one from the smaller crop stays."""
    crop_overlap_ratio: float = 512 / 1500
    """Overlap of the crops of the first layer, as part of the image's shorter side; halved with each further layer."""
    crop_n_points_downscale_factor: int = 1
    """Points along a side in layer i are points_per_side divided by this to the power of i."""
    min_mask_region_area: int = 0
    """Fill holes and remove islands smaller than this, in pixels of the image; 0 changes nothing."""
    max_mask_fraction: float = 0.95
    """Drop masks that cover more than this part of their crop (0.95 in the paper; the published code keeps all: 1)."""
    proposal_thresh: float = 0.3
    """A proposal's probability must be at least this."""
    proposal_min_distance_px: float = 8.0
    """Distance between two proposals, in pixels of the model's frame; the weaker one of a closer pair is left out."""
    max_proposals: int = 2048
    """At most this many proposals of one crop, the most probable first."""

    def __post_init__(self) -> None:
        for name, allowed in (("prompts", get_args(PromptSource)), ("mask_choice", get_args(MaskChoice))):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}.")
        _check_at_least(
            self, 1, "points_per_side", "points_per_batch", "crop_n_points_downscale_factor", "max_proposals"
        )
        _check_at_least(self, 0, "pred_iou_thresh", "crop_n_layers", "min_mask_region_area", "proposal_min_distance_px")
        _check_fraction(self, "stability_score_thresh", "box_nms_thresh", "crop_nms_thresh", "proposal_thresh")
        _check_fraction(self, *(n for n in ("mask_nms_thresh", "cover_thresh") if getattr(self, n) is not None))
        if not isinstance(self.one_piece, bool):
            raise ConfigError(f"one_piece must be True or False, got {self.one_piece!r}.")
        if not self.stability_score_offset > 0:
            raise ConfigError(f"stability_score_offset must be above 0 (logits), got {self.stability_score_offset}.")
        if not 0 < self.max_mask_fraction <= 1:
            raise ConfigError(f"max_mask_fraction must lie in (0, 1], got {self.max_mask_fraction}.")
        if not 0 <= self.crop_overlap_ratio < 1:
            raise ConfigError(f"crop_overlap_ratio must lie in [0, 1), got {self.crop_overlap_ratio}.")

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> AutoMaskConfig:
        """The published values with `settings` in their place; ConfigError names a setting that does not exist."""
        known = [f.name for f in fields(cls)]
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {near[0]}?" if near else f" There are: {', '.join(known)}."
                raise ConfigError(f"automatic masks have no setting named {name!r}.{hint}")
        return cls(**settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """How edges are made of masks, with the published values."""

    points_per_side: int = 16
    """Points along each side of the grid; the grid has this number squared, and each point gives three masks."""
    points_per_batch: int = 64
    """Points answered at once; more is faster on a GPU and needs more memory."""
    pred_iou_thresh: float = 0.0
    """Use masks whose predicted IoU is above this; 0 uses all, as published."""
    box_nms_thresh: float = 0.7
    """Of two masks whose boxes have an IoU above this, the one with the higher predicted IoU stays; 1 keeps both."""
    thin: bool = True
    """Whether edges are made one pixel thin by non-maximum suppression across them, as published."""

    def __post_init__(self) -> None:
        _check_at_least(self, 1, "points_per_side", "points_per_batch")
        if not self.pred_iou_thresh >= 0:
            raise ConfigError(f"pred_iou_thresh must be at least 0, got {self.pred_iou_thresh}; 0 uses all masks.")
        _check_fraction(self, "box_nms_thresh", hint="; 0.7 is usual")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectProposalConfig:
    """How many objects are proposed and from where, with the published values."""

    points_per_side: int = 64
    """Points along each side of the grid; the grid has this number squared, and each point gives three masks."""
    points_per_batch: int = 64
    """Points answered at once; more is faster on a GPU and needs more memory."""
    box_nms_thresh: float = 0.9
    """Of two masks whose boxes have an IoU above this, the one with the higher predicted IoU stays; 1 keeps both."""
    proposals: int = 1000
    """At most this many are given, the best first."""

    def __post_init__(self) -> None:
        _check_at_least(self, 1, "points_per_side", "points_per_batch", "proposals")
        _check_fraction(self, "box_nms_thresh", hint="; 0.9 is usual")

    def automatic(self) -> AutoMaskConfig:
        """These settings as automatic masks know them: a grid, no filter but for duplicates."""
        return AutoMaskConfig(
            prompts="grid",
            points_per_side=self.points_per_side,
            points_per_batch=self.points_per_batch,
            pred_iou_thresh=0.0,
            stability_score_thresh=0.0,
            max_mask_fraction=1.0,
            box_nms_thresh=self.box_nms_thresh,
        )


def check_precision(precision: str) -> None:
    """Raise ConfigError unless `precision` is a word that is known."""
    if precision not in get_args(Precision):
        raise ConfigError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}.")


def _check_at_least(config: object, lowest: int, *names: str) -> None:
    for name in names:
        # "not >=" and not "<": NaN is refused as well.
        if not getattr(config, name) >= lowest:
            raise ConfigError(f"{name} must be at least {lowest}, got {getattr(config, name)}.")


def _check_fraction(config: object, *names: str, hint: str = "") -> None:
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ConfigError(f"{name} must lie in [0, 1], got {getattr(config, name)}{hint}.")
