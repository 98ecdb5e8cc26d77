"""How a network is trained and what with: the one source of the options of `napari-sam train`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from napari_sam.errors import ConfigError

Part = Literal["encoder", "prompt_encoder", "decoder"]
Figure = Literal["score", "one_click", "box", "ap50", "msa"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """How training crops vary."""

    scale_jitter: float = 1.6
    """Crops are enlarged or reduced by up to this factor around the scale at which the model would see the image."""
    rotate: float = 0.35
    """Share of the crops that are rotated by any angle; the others by multiples of 90 degrees."""
    invert: float = 0.12
    """Share of the crops with inverted brightness."""
    colour: float = 0.3
    """Share of the crops that are tinted or made gray."""
    degrade: float = 0.4
    """Share of the crops that are blurred or get noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How a network is trained. Time is counted over all resumed runs."""

    minutes: float = 60.0
    """Training time; learning rate and phases follow its share that has passed. Validation comes on top."""
    steps: int | None = None
    """Train for so many steps instead, however long they take."""
    crop_px: int = 128
    """Side of the usual training crop, in pixels of the model's frame. Small crops hold many objects for their cost.
    Networks that can only see whole frames get whole frames."""
    crops: int = 20
    """Crops of that side in a step; every fourth step has fewer of twice the side, every sixteenth of four times."""
    prompts_per_crop: int = 5
    """Objects prompted in each usual crop; more in a larger one."""
    background_points: int = 2
    """Points on background in each exhaustively labelled crop; their masks' IoU target is 0."""
    rounds: int = 11
    """Interactive rounds at most: a first prompt, then error points with the former mask as a prompt."""
    round_chance: Literal["halving", "all"] = "halving"
    """halving: each further round is half as likely, which is cheap; all: each step has all rounds, the paper's way."""
    mask_rounds: int = 2
    """Rounds without a new point, from the former mask alone: the last one, and one at a random place before it."""
    dense_share: float = 0.25
    """Share of the time with dense supervision alone."""
    prompt_every: int = 1
    """After that, prompts are taught in every so many steps; the steps between are dense alone and cheap."""
    balance_share: float = 0.1
    """Share of the time, after that, in which balanced cross-entropy hands over to focal loss; 0 for a network that
    makes masks already."""
    learning_rate: float = 2e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.02
    """AdamW's weight decay."""
    warmup_steps: int = 150
    """Steps of linear warm-up."""
    ema: float = 0.998
    """Decay of the averaged weights, which are the result."""
    freeze: tuple[Part, ...] = ()
    """Parts that stay as they are: encoder, prompt_encoder, decoder (with the heads for proposals and instances)."""
    freeze_norms: bool = False
    """Keep the statistics of batch norms as they are: those of a few images are worse than those they came with."""
    frames: int = 160
    """Whole frames from which the result's statistics are measured and its rating of regions is learned."""
    lora_rank: int = 0
    """Above 0, the encoder itself stays and learns a low-rank change of this rank, merged in when it is written."""
    validate_every: int | None = None
    """Steps between two validations; by default they come by time."""
    validate_minutes: float = 10.0
    """Minutes of training between two validations."""
    select_by: Figure = "score"
    """Figure of the validation by which the best weights are kept; score is the mean of one_click, box and msa."""
    seed: int = 0
    """Of crops, augmentations and prompts."""
    save_minutes: float = 3.0
    """Time between two saved states."""
    log_every: int = 20
    """Steps between two rows of the log."""
    workers: int = 1
    """Processes that make the crops while the network learns; 0 makes them in its own process, between the steps."""
    bf16: bool | None = None
    """Compute in bfloat16 where that is safe; by default on GPUs and CPUs that have instructions for it."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How crops vary."""

    def __post_init__(self) -> None:
        at_least = {"crop_px": 32, "crops": 1, "prompts_per_crop": 1, "background_points": 0, "rounds": 1}
        at_least |= {"warmup_steps": 1, "log_every": 1, "workers": 0, "lora_rank": 0, "prompt_every": 1, "frames": 1}
        for name, least in at_least.items():
            if not getattr(self, name) >= least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        if self.crop_px % 32:
            raise ConfigError(f"crop_px must be a multiple of 32, got {self.crop_px}; 128 is usual.")
        for name, default in (("steps", "to train for some minutes"), ("validate_every", "to validate by time")):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ConfigError(f"{name} must be at least 1, got {number}; leave it out {default}.")
        for name in ("minutes", "learning_rate", "validate_minutes", "save_minutes"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}.")
        for name in ("dense_share", "balance_share", "ema"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], got {getattr(self, name)}.")
        self._check_choices()

    def _check_choices(self) -> None:
        if self.mask_rounds not in (0, 1, 2):
            raise ConfigError(f"mask_rounds must be 0, 1 or 2, got {self.mask_rounds}.")
        for name, given, allowed in (
            ("freeze", self.freeze, get_args(Part)),
            ("round_chance", (self.round_chance,), ("halving", "all")),
            ("select_by", (self.select_by,), get_args(Figure)),
        ):
            unknown = [value for value in given if value not in allowed]
            if unknown:
                raise ConfigError(f"{name} must be of {', '.join(allowed)}, got {', '.join(unknown)}.")
        if self.lora_rank and "encoder" in self.freeze:
            raise ConfigError("lora_rank trains a change of the encoder, so freeze cannot name the encoder; drop one.")
        if len(set(self.freeze)) == len(get_args(Part)):
            raise ConfigError("freeze names every part, so nothing would be trained; leave one out.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawConfig:
    """What training samples are drawn from, and what they are judged on."""

    generated: float = 0.15
    """Part of the samples that are generated images; 0 uses the folder alone."""
    sparse_groups: tuple[str, ...] = ()
    """Groups (folders, or the manifest's `dataset`) in which not every object is labelled: background teaches nothing
    there."""
    skip_bad: bool = False
    """Leave out pairs that cannot be used (unreadable, of unequal shapes, without labels or objects) instead of
    stopping."""
    allow_empty: bool = False
    """Take labels without any object as meant so: the whole image is background."""
    val_share: float = 0.0
    """Part of the pairs that is held out for validation where no folder for it is given; drawn by `val_seed`."""
    val_seed: int = 0
    """Of the pairs held out and of the objects prompted in validation."""
    val_images: int = 16
    """Images judged in a validation, at most."""
    val_objects: int = 8
    """Objects prompted on each image in a validation, at most."""

    def __post_init__(self) -> None:
        if not 0 <= self.generated <= 1:
            raise ConfigError(f"generated must lie in [0, 1], got {self.generated}.")
        if not 0 <= self.val_share < 1:
            raise ConfigError(f"val_share must lie in [0, 1), got {self.val_share}; 0.2 is usual.")
        for name in ("val_images", "val_objects"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")


def fine_tuning(*, whole_frames: bool, **changes: Any) -> TrainConfig:
    """The settings for going on with a network that makes masks already, on a few images, within minutes.

    Parameters
    ----------
    whole_frames : bool
        Whether its encoder can only see whole frames, as the published transformers: they want small steps.
    **changes
        Fields of TrainConfig that are to differ.
    """
    preset: dict[str, Any] = {
        "minutes": 5.0,
        "crops": 8,
        "dense_share": 0.0,
        "freeze_norms": True,
        "balance_share": 0.0,
        "learning_rate": 1e-5 if whole_frames else 1e-4,
        "warmup_steps": 20,
        "ema": 0.99,
        "frames": 48,
        "validate_minutes": 1.0,
    }
    return TrainConfig(**preset | changes)
