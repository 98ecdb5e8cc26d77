"""The masks of tiles as they are finished, as a label image to look at before there is a result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_sam.geometry import Tile
from napari_sam.tiling import TilePlan
from napari_sam.tiling.store import TileStore
from napari_sam.workflows.file_layers import IN_MEMORY_PX

LARGEST_LABEL = 2**16 - 1
"""The numbers begin anew after it. They are colours only, and napari draws 16 bits much faster than 32."""
_CHUNK_PX = 512
_SMALLEST_LEVEL_PX = 1024


class PreviewPainter:
    """Paints finished tiles into a label image: an array in memory, or for a large image a pyramid on the disk.

    Which of the two is as for results (`read_viewable`), so that the layer of the preview can become the result's.

    Not the result: every mask is shown by the tile that owns its box's centre, numbered as it comes; nothing is merged.
    To be called from one thread; what it paints may be looked at from others meanwhile.

    Parameters
    ----------
    plan : TilePlan
    store : TileStore
        Where the masks of finished tiles are.
    folder : Path
        For the pyramid of a large image; its owner removes it.
    """

    def __init__(self, plan: TilePlan, store: TileStore, folder: Path) -> None:
        self._store = store
        self._next_label = 1
        height, width = plan.image_size
        in_memory = height * width <= IN_MEMORY_PX
        self.levels: Sequence[Any] = (
            [np.zeros(plan.image_size, np.uint16)] if in_memory else _empty_pyramid(folder, plan.image_size)
        )
        """Finest first; each half as large as the one before, sampled."""

    def paint(self, tile: Tile) -> None:
        """Add the masks of a finished tile of full resolution; LedgerError if its file is damaged."""
        if tile.step > 1:
            return
        block = np.array(self.levels[0][tile.read.slices])
        if self._draw(block, tile):
            for number, level in enumerate(self.levels):
                _write_sampled(level, block, tile, 2**number)

    def _draw(self, block: NDArray[np.uint16], tile: Tile) -> bool:
        """Draw the tile's own masks into the pixels it read, the best on top; whether there were any."""
        stored = self._store.read(tile.index)
        drawn = False
        for number in np.argsort(stored.predicted_iou, kind="stable").tolist():
            mask = stored.mask(number)
            if tile.owns(mask.box):
                part = mask.box.clipped(tile.read)
                block[part.shifted(-tile.read.x0, -tile.read.y0).slices][mask.window(part)] = self._next_label
                self._next_label = self._next_label % LARGEST_LABEL + 1
                drawn = True
        return drawn


def _write_sampled(level: Any, block: NDArray[np.uint16], tile: Tile, step: int) -> None:
    """Write every `step`-th pixel of the image that lies in `block` into a level of the pyramid."""
    y0, x0 = -(-tile.read.y0 // step), -(-tile.read.x0 // step)
    part = block[y0 * step - tile.read.y0 :: step, x0 * step - tile.read.x0 :: step]
    height, width = min(part.shape[0], level.shape[0] - y0), min(part.shape[1], level.shape[1] - x0)
    level[y0 : y0 + height, x0 : x0 + width] = part[:height, :width]


def _empty_pyramid(folder: Path, size: tuple[int, int]) -> list[zarr.Array[Any]]:
    sizes = [size]
    while max(sizes[-1]) > _SMALLEST_LEVEL_PX:
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return [
        zarr.create_array(
            folder / str(number), shape=shape, dtype=np.uint16, chunks=tuple(min(_CHUNK_PX, side) for side in shape)
        )
        for number, shape in enumerate(sizes)
    ]
