"""Looking on while tiles are segmented: who watches is told of each tile, and may say where to look first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from napari_sam.geometry import Box, Tile
from napari_sam.tiling.plan import TilePlan
from napari_sam.tiling.store import TileStore


def _nowhere() -> Box | None:
    return None


@dataclass(frozen=True, slots=True)
class RunWatch:
    """What somebody who looks on is told, and is asked; all of it on the thread of the run.

    The outcome of a run does not depend on it: the order of tiles never does.
    """

    planned: Callable[[TilePlan, TileStore], None]
    """The tiles, and where the masks of each are once it is finished."""
    tile_done: Callable[[Tile, str | None], None]
    """A tile is finished, or failed for the reason given; those that an earlier run had finished come first."""
    look_first: Callable[[], Box | None] = _nowhere
    """Tiles that read a part of this box (whole-image pixels) are next; asked before each tile."""


def in_order(tiles: Iterable[Tile], look_first: Callable[[], Box | None]) -> Iterator[Tile]:
    """`tiles`, always one that meets the box `look_first` gives at that moment if there is one left; else as they come.

    They are sorted anew only when the box has changed.
    """
    left = list(tiles)[::-1]
    box: Box | None = None
    while left:
        wanted = look_first()
        if wanted != box:
            box = wanted
            # The next tile is the last of the list.
            left.sort(key=lambda tile: (box is not None and tile.read.intersects(box), -tile.index))
        yield left.pop()
