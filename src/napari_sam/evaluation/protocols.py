"""What the published benchmarks fix: the tolerance and thresholds of BSDS, the sizes of COCO."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ConfigError

MAX_DISTANCE = 0.0075
"""How far apart two pixels of one boundary may lie, as part of the image's diagonal (published value)."""
SIZE_LIMITS_PX2 = (32**2, 96**2)
"""Area below which an object is small, and from which on it is large."""


def boundary_thresholds(number: int = 99) -> NDArray[np.float64]:
    """Thresholds spread evenly inside (0, 1): 0.01, 0.02, ... 0.99 for the published number of 99."""
    if number < 1:
        raise ConfigError(f"there must be at least 1 threshold, got {number}; 99 is usual.")
    return np.arange(1, number + 1) / (number + 1)


def size_ranges(limits_px2: Sequence[float] = SIZE_LIMITS_PX2) -> dict[str, tuple[float, float]]:
    """Ranges of area by name, both ends included as in COCO: all, small, medium, large.

    Raises
    ------
    ConfigError
        If the limits are not two ascending positive areas.
    """
    if len(limits_px2) != 2 or not 0 < limits_px2[0] < limits_px2[1]:
        raise ConfigError(
            f"size limits must be two ascending areas in pixels, got {tuple(limits_px2)}; COCO has {SIZE_LIMITS_PX2}."
        )
    small, large = limits_px2
    return {"all": (0, np.inf), "small": (0, small), "medium": (small, large), "large": (large, np.inf)}
