"""What `napari-sam evaluate` measures: the one source of its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from napari_sam.errors import ConfigError

Task = Literal["points", "boxes", "automatic", "clicks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """What is measured."""

    tasks: tuple[Task, ...] = ("points", "boxes", "automatic")
    """points: IoU after 1 to 9 clicks; boxes: IoU from boxes; automatic: AP, mSA, F1, PQ; clicks: how many it takes to
    reach an IoU of 0.85 and of 0.90."""
    group_by: str | None = None
    """Column of the manifest.csv in the folder or above it; figures are given for each of its values as well. Without a
    manifest "dataset" groups by folder."""
    max_images: int | None = None
    """Judge only so many images, spread evenly over the folder."""
    max_objects: int | None = None
    """Prompt only so many objects of each image, drawn at random; automatic masks are judged on all."""
    random_draws: int = 1
    """How often the clicks of "points" begin anew at a random place inside each object; 0 leaves that out, and takes
    half the time."""
    untiled: bool = False
    """Show each image to the model whole for automatic masks, reduced to its input, instead of tile by tile."""
    skip_bad: bool = False
    """Leave out pairs that cannot be used and name them; without it they are an error before the work begins."""
    seed: int = 0
    """Of drawn objects, random clicks and noised boxes."""

    def __post_init__(self) -> None:
        unknown = [task for task in self.tasks if task not in get_args(Task)]
        if unknown or not self.tasks:
            raise ConfigError(f"tasks must be of {', '.join(get_args(Task))}, got {', '.join(unknown) or 'none'}.")
        for name in ("max_images", "max_objects"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ConfigError(f"{name} must be at least 1, got {number}; leave it out for all.")
        for name in ("random_draws", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be at least 0, got {getattr(self, name)}.")
