"""What the jobs of this package are told: the one source of the options of `napari-sam measure`."""

from __future__ import annotations

from dataclasses import dataclass

from napari_sam.errors import ConfigError
from napari_sam.evaluation.protocols import MAX_DISTANCE, SIZE_LIMITS_PX2, boundary_thresholds, size_ranges

IMAGE_FIELDS = ("t", "z", "channels", "axes", "series", "pixel_size_um")
"""The fields of SegmentConfig that choose a plane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeEvaluationConfig:
    """How edges are compared with boundaries, with the published values."""

    thresholds: int = 99
    """At how many thresholds edge maps are compared, evenly between 0 and 1; fewer are faster and less exact."""
    max_distance: float = MAX_DISTANCE
    """How far an edge pixel may lie from the boundary pixel it stands for, as part of the image's diagonal."""
    max_images: int | None = None
    """Judge only so many images, spread evenly."""
    split: str | None = None
    """Only images in a folder of this name, "test" for instance."""

    def __post_init__(self) -> None:
        boundary_thresholds(self.thresholds)
        if not 0 < self.max_distance < 1:
            raise ConfigError(f"max_distance must lie in (0, 1), got {self.max_distance}; 0.0075 is usual.")
        if self.max_images is not None and self.max_images < 1:
            raise ConfigError(f"max_images must be at least 1, got {self.max_images}; leave it out for all.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoEvaluationConfig:
    """Which images are judged, and what counts as small and large."""

    max_images: int | None = None
    """Judge only so many images, spread evenly."""
    small_px2: float = float(SIZE_LIMITS_PX2[0])
    """Objects up to this area are small, in pixels."""
    large_px2: float = float(SIZE_LIMITS_PX2[1])
    """Objects from this area on are large, in pixels."""
    whole: bool | None = None
    """Show each image to the model in one piece, or tile by tile; by default whole if it is not much larger than the
    model's input. For proposals only: boxes have windows of their own."""

    def __post_init__(self) -> None:
        if self.max_images is not None and self.max_images < 1:
            raise ConfigError(f"max_images must be at least 1, got {self.max_images}; leave it out for all.")
        size_ranges((self.small_px2, self.large_px2))
