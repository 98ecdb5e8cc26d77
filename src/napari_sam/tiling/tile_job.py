"""One tile: read, segmented, and written down; what every kind of worker does with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from napari_sam.errors import TilingError
from napari_sam.geometry import Mask, Tile
from napari_sam.tiling.functions import Read, Segment
from napari_sam.tiling.objects import COARSE_PROMPT
from napari_sam.tiling.reprompt import enlarged
from napari_sam.tiling.store import TileStore

Record = Callable[[int, str | None], None]
"""(tile index, what went wrong with it)."""


@dataclass(frozen=True, slots=True)
class TileJob:
    """What a worker needs to turn a tile into a file; a plain value, so that it can be sent to other processes."""

    read: Read
    store: TileStore

    def run(self, segment: Segment, tile: Tile, pixels: Callable[[], NDArray[Any]] | None = None) -> str | None:
        """Segment one tile and write its file; what went wrong, if something did.

        `pixels` gives what the tile reads, where reading it was begun before; its errors count as the tile's.
        Only a record that cannot be written is raised: then every other tile would be lost as well.
        """
        try:
            found = segment(self.read(tile.read, tile.step) if pixels is None else pixels())
            masks = [in_image(mask, tile, self.store.image_size) for mask in found if mask.area]
        except Exception as error:  # one bad tile (unreadable chunk, out of memory, ...) must not cost the others
            text = f"{type(error).__name__}: {error}"
            self.store.write_failure(tile.index, text)
            return text
        self.store.write(tile.index, masks)
        return None


def in_image(mask: Mask, tile: Tile, image_size: tuple[int, int]) -> Mask:
    """A mask of what a tile read, moved (and for a coarse tile enlarged) to the pixels of the whole image.

    Raises
    ------
    TilingError
        If the mask is in another frame than the tile's pixels.
    """
    height, width = tile.read.size
    seen = (-(-height // tile.step), -(-width // tile.step))
    if mask.frame_size != seen:
        raise TilingError(
            f"a segment function must give masks in the frame of its tile, {seen} (H, W), got one in {mask.frame_size}."
        )
    if tile.step > 1:
        mask = replace(enlarged(mask, tile.step, tile.read.size), prompt=COARSE_PROMPT)
    return mask.shifted(tile.read.x0, tile.read.y0, image_size)
