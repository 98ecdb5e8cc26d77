"""How the planes of a stack are linked: the one source of these options of `napari-sam segment-stack`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from napari_sam.errors import ConfigError

Along = Literal["z", "t"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """How masks of neighbouring planes become one object."""

    along: Along = "z"
    """The axis whose planes are linked: depth, or time."""
    link_iou_thresh: float = 0.3
    """Masks of neighbouring planes whose IoU is below this are never one object."""
    least_planes: int = 1
    """Objects in fewer planes than this are left out."""

    def __post_init__(self) -> None:
        if self.along not in get_args(Along):
            raise ConfigError(f"along must be one of {', '.join(get_args(Along))}, got {self.along!r}.")
        if not 0 <= self.link_iou_thresh <= 1:
            raise ConfigError(f"link_iou_thresh must lie in [0, 1], got {self.link_iou_thresh}.")
        if self.least_planes < 1:
            raise ConfigError(f"least_planes must be at least 1, got {self.least_planes}.")
