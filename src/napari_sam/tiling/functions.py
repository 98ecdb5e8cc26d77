"""The functions that tiling is handed: it sees pixels and masks, never a model, a file or a window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from napari_sam.geometry import Box, Mask

Read = Callable[[Box, int], NDArray[Any]]
"""(box in whole-image pixels, step) -> uint8 (h, w, 3); with a step above 1 every side is that much shorter, rounded
up."""
Segment = Callable[[NDArray[Any]], list[Mask]]
"""Pixels of one tile (h, w, 3) uint8 -> its masks, in the tile's frame."""
Reprompt = Callable[[NDArray[Any], Mask], Mask | None]
"""Pixels of a larger window and the cut mask in its frame -> the whole object in that frame, or None."""
Progress = Callable[[int, int], None]
"""(done, total). An error it raises ends the job like an interrupt: what is finished is kept."""
