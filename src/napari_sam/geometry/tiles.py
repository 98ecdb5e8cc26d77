"""A tile of a huge image: what it answers for, and what it looks at besides."""

from __future__ import annotations

from dataclasses import dataclass

from napari_sam.errors import TilingError
from napari_sam.geometry.boxes import Box


@dataclass(frozen=True, slots=True)
class Tile:
    """One piece of a tile plan, in pixels of the whole image."""

    index: int
    """Its number in the plan, row by row."""
    core: Box
    """What this tile answers for; the cores of a grid cover each pixel exactly once."""
    read: Box
    """What it looks at: core plus halo, clipped to the image."""
    step: int = 1
    """How coarsely it looks: each pixel of what is segmented is a mean of `step` x `step` pixels of the image."""

    def __post_init__(self) -> None:
        if not self.read.contains_box(self.core):
            raise TilingError(f"a tile must read all of its core, got core {self.core} and read {self.read}.")

    def owns(self, box: Box) -> bool:
        """Whether the centre of `box` (whole-image pixels) lies in this core: then our version of it wins.

        Cores are half-open, so a centre on a border belongs to exactly one of the two tiles.
        """
        return self.core.contains(*box.center_xy)

    def is_cut(self, box_in_tile: Box, image_size: tuple[int, int]) -> bool:
        """Whether an object may go on beyond what this tile read.

        Parameters
        ----------
        box_in_tile : Box
            The object's tight box in pixels of `read`.
        image_size : (H, W)
            Of the whole image: an object that ends at its edge is whole.
        """
        height, width = image_size
        return (
            (box_in_tile.x0 <= 0 and self.read.x0 > 0)
            or (box_in_tile.y0 <= 0 and self.read.y0 > 0)
            or (box_in_tile.x1 >= self.read.width and self.read.x1 < width)
            or (box_in_tile.y1 >= self.read.height and self.read.y1 < height)
        )
