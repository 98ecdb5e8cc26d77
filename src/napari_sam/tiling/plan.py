"""How an image is cut into tiles: cores that cover it exactly, each read with a halo around it.

The tiles of full resolution form a grid. Over it lie coarser layers, whose tiles are as many times larger as they are
read reduced: they show the objects that no fine tile shows whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import TilingError
from napari_sam.geometry import Box, Tile
from napari_sam.images.levels import MAX_STEP
from napari_sam.tiling.config import TilingConfig
from napari_sam.tiling.packing import packed_indices, unpacked_indices

LAYER_STEP = 4
"""How many times coarser each layer is than the one below."""
LEAST_SAMPLES = 16
"""Objects shorter than so many pixels of a coarse layer are left to the finer ones."""


@dataclass(frozen=True, slots=True, eq=False)
class TilePlan:
    """The tiles of one image; the same image size and configuration give the same plan.

    What is said of rows, columns, owners and readers is about the grid of full resolution.
    """

    image_size: tuple[int, int]
    """(H, W) of the whole image."""
    core_px: int
    """Upper bound of a core's side, but for an image side that fits into one tile with its halo."""
    halo_px: int
    tiles: tuple[Tile, ...]
    """All of them, layer by layer from the finest on, each row by row; `tiles[i].index == i`."""
    row_edges: NDArray[np.int64]
    """Where rows of cores begin, and the image's height at the end."""
    column_edges: NDArray[np.int64]
    """Where columns of cores begin, and the image's width at the end."""
    skipped: frozenset[int]
    """Indices of the tiles without foreground: they are not segmented."""
    max_object_px: int
    """The coarse layers end where objects of this length are seen whole."""
    prompted_px: int
    """Side of what the model sees at full resolution when it is prompted."""

    def __reduce__(self) -> tuple[Any, ...]:
        # A hundred thousand tiles are tens of megabytes, and follow from a few numbers.
        sizes = (self.image_size, self.core_px, self.halo_px, self.max_object_px, self.prompted_px)
        return _unpickled, (*sizes, packed_indices(self.skipped))

    @property
    def grid_shape(self) -> tuple[int, int]:
        """(rows, columns) of tiles."""
        return len(self.row_edges) - 1, len(self.column_edges) - 1

    @property
    def fine(self) -> tuple[Tile, ...]:
        """The tiles of full resolution."""
        rows, columns = self.grid_shape
        return self.tiles[: rows * columns]

    @property
    def coarse(self) -> tuple[Tile, ...]:
        """The tiles of the coarser layers."""
        rows, columns = self.grid_shape
        return self.tiles[rows * columns :]

    @property
    def read_px(self) -> int:
        """Side of what a tile of full resolution in the middle of a large image reads, at most."""
        return self.core_px + 2 * self.halo_px

    @property
    def kept(self) -> tuple[Tile, ...]:
        """The tiles to segment."""
        return tuple(tile for tile in self.tiles if tile.index not in self.skipped)

    def least_px_of_steps(self) -> dict[int, int]:
        """How long an object must be at least to be looked for in a coarse tile, by its step: finer ones show all
        others whole, and of a shorter one it shows too little."""
        steps = sorted({1, *(tile.step for tile in self.coarse)})
        return {step: max(whole_px(self.halo_px, finer), LEAST_SAMPLES * step) for finer, step in pairwise(steps)}

    def settings(self) -> dict[str, Any]:
        """What the tiles depend on, for the ledger. Which ones are skipped is not among it: that does not change the
        others."""
        names = ("core_px", "halo_px", "max_object_px", "prompted_px")
        return {"image_size": list(self.image_size), **{name: getattr(self, name) for name in names}}

    def owner_of(self, boxes_xyxy: ArrayLike) -> NDArray[np.int64]:
        """Index of the fine tile whose core holds the centre of each box.

        Parameters
        ----------
        boxes_xyxy : array of shape (N, 4)
            In whole-image pixels, inside the image.

        Returns
        -------
        ndarray of shape (N,), int64
        """
        boxes = np.asarray(boxes_xyxy, dtype=np.int64).reshape(-1, 4)
        # Doubled coordinates keep half-pixel centres exact, as in Tile.owns.
        column = np.searchsorted(2 * self.column_edges, boxes[:, 0] + boxes[:, 2], side="right") - 1
        row = np.searchsorted(2 * self.row_edges, boxes[:, 1] + boxes[:, 3], side="right") - 1
        rows, columns = self.grid_shape
        owner: NDArray[np.int64] = np.clip(row, 0, rows - 1) * columns + np.clip(column, 0, columns - 1)
        return owner

    def tiles_reading(self, box: Box) -> list[Tile]:
        """The fine tiles that read at least one pixel of `box`, by index."""
        near = box.grown(self.read_px)  # at the image's edges a tile reads nearly so far beyond its core
        rows = _range_of(self.row_edges, near.y0, near.y1)
        columns = _range_of(self.column_edges, near.x0, near.x1)
        width, tiles = self.grid_shape[1], self.tiles
        # The tiles of a row read the same rows of pixels, those of a column the same columns.
        down = [row * width for row in rows if _meet(tiles[row * width].read.slices[0], box.slices[0])]
        across = [column for column in columns if _meet(tiles[column].read.slices[1], box.slices[1])]
        return [tiles[first + column] for first in down for column in across]


def plan_tiles(
    image_size: tuple[int, int], config: TilingConfig, keep: Callable[[Tile], bool] | None = None
) -> TilePlan:
    """Cut an image into tiles.

    A side of the image that fits into one tile with its halo is not cut. A longer one is cut into the fewest cores that
    are no longer than `core_px`, all equal within a pixel: a sliver at the end would be segmented with little to see.

    Parameters
    ----------
    image_size : (H, W)
    config : TilingConfig
        With its sizes known, see `TilingConfig.resolve`.
    keep : function of a Tile, optional
        False for a fine tile without foreground, which is then skipped. Called once for each of them, row by row.

    Returns
    -------
    TilePlan

    Raises
    ------
    TilingError
        If the image has no pixels or the sizes are left open.

    Examples
    --------
    >>> plan = plan_tiles((100, 250), TilingConfig(core_px=100, halo_px=10))
    >>> [(tile.core.x0, tile.core.x1, tile.read.x0, tile.read.x1) for tile in plan.fine]
    [(0, 83, 0, 120), (83, 167, 65, 185), (167, 250, 130, 250)]
    >>> [(tile.read.x0, tile.read.x1, tile.step) for tile in plan.coarse]
    [(0, 250, 4)]
    """
    height, width = image_size
    if height < 1 or width < 1:
        raise TilingError(f"an image to be tiled needs at least 1 x 1 pixel, got {height} x {width}; check the axes.")
    core_px, halo_px = config.core_px, config.halo_px
    if core_px is None or halo_px is None:
        raise TilingError(
            f"core_px and halo_px must be known, got {core_px} and {halo_px}; "
            "call config.resolve(model_input_px) first."
        )
    prompted_px = config.prompted_px or core_px + 2 * halo_px
    plan = _planned((height, width), core_px, halo_px, config.max_object_px, prompted_px, frozenset())
    return plan if keep is None else replace(plan, skipped=_without_foreground(plan, keep))


def _planned(
    image_size: tuple[int, int],
    core_px: int,
    halo_px: int,
    max_object_px: int,
    prompted_px: int,
    skipped: frozenset[int],
) -> TilePlan:
    tiles: list[Tile] = []
    for step in [1, *_coarse_steps(image_size, max_object_px, halo_px, prompted_px)]:
        tiles += _layer(image_size, core_px, halo_px, step, first_index=len(tiles))
    row_edges, column_edges = (_edges(side, core_px, halo_px) for side in image_size)
    return TilePlan(
        image_size, core_px, halo_px, tuple(tiles), row_edges, column_edges, skipped, max_object_px, prompted_px
    )


def _unpickled(
    image_size: tuple[int, int], core_px: int, halo_px: int, max_object_px: int, prompted_px: int, skipped: bytes
) -> TilePlan:
    return _planned(image_size, core_px, halo_px, max_object_px, prompted_px, unpacked_indices(skipped))


def _without_foreground(plan: TilePlan, keep: Callable[[Tile], bool]) -> frozenset[int]:
    """Which tiles are skipped: coarse ones where all fine tiles are that they answer for."""
    skipped = {tile.index for tile in plan.fine if not keep(tile)}
    for tile in plan.coarse:
        within = (fine for fine in plan.tiles_reading(tile.core) if fine.core.intersects(tile.core))
        if all(fine.index in skipped for fine in within):
            skipped.add(tile.index)
    return frozenset(skipped)


def _coarse_steps(image_size: tuple[int, int], max_object_px: int, halo_px: int, prompted_px: int) -> Iterator[int]:
    """How coarsely the layers above the finest are read: the last shows objects of `max_object_px`, or the image,
    whole."""
    longest, step = max(image_size), 1
    while whole_px(halo_px, step) < min(max_object_px, longest) and prompted_px * step < longest and step < MAX_STEP:
        step = min(LAYER_STEP * step, 2 ** math.ceil(math.log2(longest / prompted_px)), MAX_STEP)
        yield step


def whole_px(halo_px: int, step: int) -> int:
    """Objects up to this long lie whole in what some tile reads, wherever they are."""
    return 2 * halo_px * step


def _layer(image_size: tuple[int, int], core_px: int, halo_px: int, step: int, *, first_index: int) -> list[Tile]:
    """The tiles of one layer: planned in its own pixels, and told in those of the image."""
    height, width = (-(-side // step) for side in image_size)
    small, image = Box.of_size((height, width)), Box.of_size(image_size)
    row_edges = _edges(height, core_px, halo_px).tolist()
    column_edges = _edges(width, core_px, halo_px).tolist()
    tiles: list[Tile] = []
    for y0, y1 in pairwise(row_edges):
        for x0, x1 in pairwise(column_edges):
            core = Box(x0, y0, x1, y1)
            read = _read_of(core, core_px + 2 * halo_px, small)
            core, read = (_scaled(box, step).clipped(image) for box in (core, read))
            tiles.append(Tile(first_index + len(tiles), core, read, step))
    return tiles


def _scaled(box: Box, step: int) -> Box:
    return Box(box.x0 * step, box.y0 * step, box.x1 * step, box.y1 * step)


def _edges(length: int, core_px: int, halo_px: int) -> NDArray[np.int64]:
    n = 1 if length <= core_px + 2 * halo_px else math.ceil(length / core_px)
    return (np.arange(n + 1, dtype=np.int64) * length + n // 2) // n


def _read_of(core: Box, read_px: int, image: Box) -> Box:
    """What a tile reads: `read_px` a side around its core, moved into the image; less only where the image has less.

    All tiles are so seen at one scale. With a halo of one width on each side those at the image's edges would be
    smaller, and a model that fills its frame would see them enlarged.
    """
    x0, x1 = _placed(core.x0, core.x1, max(read_px, core.width), image.width)
    y0, y1 = _placed(core.y0, core.y1, max(read_px, core.height), image.height)
    return Box(x0, y0, x1, y1)


def _placed(start: int, stop: int, length: int, limit: int) -> tuple[int, int]:
    """A range of `length` around start:stop, moved into 0:limit."""
    first = max(0, min(start - (length - (stop - start)) // 2, limit - length))
    return first, min(first + length, limit)


def _range_of(edges: NDArray[np.int64], start: int, stop: int) -> range:
    """Numbers of the cores that share a pixel with start:stop."""
    first = int(np.searchsorted(edges, start, side="right")) - 1
    last = int(np.searchsorted(edges, stop, side="left"))
    return range(max(first, 0), min(last, len(edges) - 1))


def _meet(a: slice, b: slice) -> bool:
    """Whether two ranges share a pixel."""
    return bool(max(a.start, b.start) < min(a.stop, b.stop))
