"""Outlines of masks as polygons that follow the pixel edges exactly, many masks at once.

A pixel (x, y) is the square from (x, y) to (x + 1, y + 1) here, so the corners are whole numbers and a polygon's
area is the mask's area. The steps: the corners of a mask are the lattice points where its second difference is not
zero; sorted along x (or y) they pair up to the vertical (or horizontal) edges; following the pairs gives rings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Mask
from napari_sam.geometry.runs import Strips
from napari_sam.tiling.labels import PaintableObjects

Ring = NDArray[np.int64]
"""(K + 1, 2) corners (x, y), the first repeated at the end; the mask lies to the left where y points up."""

Ints = NDArray[np.int64]

_MASKS_AT_ONCE = 128


@dataclass(frozen=True, slots=True, eq=False)
class Polygon:
    """One 4-connected piece of a mask."""

    exterior: Ring
    holes: tuple[Ring, ...]

    @property
    def rings(self) -> tuple[Ring, ...]:
        """The exterior, then the holes: the order of GeoJSON."""
        return (self.exterior, *self.holes)


@dataclass(frozen=True, slots=True, eq=False)
class _Edges:
    """Vertical edges, directed so that following them and the horizontal ones between goes round the rings."""

    owner: Ints
    """Index of the mask."""
    x: Ints
    y_from: Ints
    y_to: Ints
    following: Ints
    """Index of the next vertical edge of the ring."""


def iter_polygons(objects: PaintableObjects) -> Iterator[tuple[int, int, Mask, list[Polygon]]]:
    """Row of the table, label, mask and polygons of each object; traced in batches, which is much faster."""
    remaining = enumerate(objects.iter_masks())
    while batch := list(islice(remaining, _MASKS_AT_ONCE)):
        traced = trace_polygons([mask for _, (_, mask) in batch])
        for (row, (label, mask)), polygons in zip(batch, traced, strict=True):
            yield row, label, mask, polygons


def trace_polygons(masks: Sequence[Mask]) -> list[list[Polygon]]:
    """The polygons of each mask: one for each 4-connected piece, with its holes.

    Pieces that only touch at a corner are separate polygons, and every ring is simple (it may touch another one at
    a corner), so the result is valid in the sense of the OGC simple-features standard.

    Parameters
    ----------
    masks : sequence of N Mask
        Each in its frame; frames may differ.

    Returns
    -------
    list of N lists of Polygon
        Corners in pixels of the frame; exteriors run counter-clockwise where y points up, holes clockwise. An empty
        mask has no polygon.
    """
    strips = Strips.of([mask.rle for mask in masks], [mask.box for mask in masks])
    edges = _directed_edges(*_corners(strips))
    rings, owners, areas = _rings(edges)
    bounds = np.searchsorted(owners, np.arange(len(masks) + 1)).tolist()
    return [_assembled(rings[start:stop], areas[start:stop]) for start, stop in pairwise(bounds)]


def _corners(strips: Strips) -> tuple[Ints, Ints, Ints, Ints]:
    """Owner, x, y and second difference of each corner, sorted; a saddle (two corners in one point) comes twice.

    The difference is +1 or -1, +2 or -2 at saddles: positive where the pixel to the lower right (or the upper left)
    is inside.
    """
    left, right = strips.column, strips.column + 1
    owners, xs = np.tile(strips.owner, 4), np.concatenate([left, left, right, right])
    ys = np.concatenate([strips.row0, strips.row1, strips.row0, strips.row1])
    signs = np.repeat([1, -1, -1, 1], len(left))
    order = np.lexsort((ys, xs, owners))
    owners, xs, ys, signs = owners[order], xs[order], ys[order], signs[order]
    starts = np.flatnonzero(_changes(owners, xs, ys))
    summed = np.add.reduceat(signs, starts) if len(starts) else signs
    times = np.abs(summed)
    return tuple(np.repeat(values, times) for values in (owners[starts], xs[starts], ys[starts], summed))  # type: ignore[return-value]


def _changes(*columns: Ints) -> NDArray[np.bool_]:
    """Where a row differs from the one before; the first does."""
    changed = np.ones(len(columns[0]), dtype=bool)
    changed[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return changed


def _directed_edges(owner: Ints, x: Ints, y: Ints, sign: Ints) -> _Edges:
    """Vertical edges with the link to the next one; `owner`, `x`, `y` sorted in this order."""
    index = np.arange(len(owner))
    # At a saddle the earlier copy ends the edge from above, the later one begins the edge downwards. Which of them
    # takes the horizontal edge to the left decides what is joined: pixels meeting at a corner are kept apart.
    along_rows = np.lexsort((index * np.sign(sign), x, y, owner))
    across = np.empty_like(index)
    across[along_rows[0::2]], across[along_rows[1::2]] = along_rows[1::2], along_rows[0::2]
    _split_pinched_rings(across, owner, x, y, sign)
    return _linked(across, owner, x, y, sign)


def _linked(across: Ints, owner: Ints, x: Ints, y: Ints, sign: Ints) -> _Edges:
    """Corners 2k and 2k + 1 are the ends of vertical edge k; `across` is each corner's partner in its row."""
    top, bottom = np.arange(0, len(owner), 2), np.arange(1, len(owner), 2)
    # A positive difference at the upper end: inside is to the right, so this edge runs to smaller y.
    upwards = sign[top] > 0
    target = np.where(upwards, top, bottom)
    return _Edges(
        owner=owner[top],
        x=x[top],
        y_from=np.where(upwards, y[bottom], y[top]),
        y_to=np.where(upwards, y[top], y[bottom]),
        following=across[target] // 2,
    )


def _split_pinched_rings(across: Ints, owner: Ints, x: Ints, y: Ints, sign: Ints) -> None:
    """Where a ring meets itself in a saddle, exchange the partners there (in place): it becomes two simple rings."""
    saddle = np.flatnonzero(np.abs(sign) == 2)[::2]
    if not len(saddle):
        return
    ring = _ring_numbers(_linked(across, owner, x, y, sign).following)
    pinched = saddle[ring[saddle // 2] == ring[(saddle + 1) // 2]]
    for first in pinched.tolist():
        a, b = across[first], across[first + 1]
        across[first], across[first + 1], across[a], across[b] = b, a, first + 1, first


def _ring_numbers(following: Ints) -> Ints:
    """For each edge the smallest index in its ring, by pointer doubling: few steps over all edges at once."""
    number, ahead = np.arange(len(following)), following
    while True:
        smaller = np.minimum(number, number[ahead])
        if np.array_equal(smaller, number):
            return number
        number, ahead = smaller, ahead[ahead]


def _places(following: Ints, number: Ints) -> Ints:
    """For each edge how many follow it in its ring before the ring's first edge (the one of its number) comes."""
    ends = following == number
    ahead = np.where(ends, np.arange(len(following)), following)
    left = np.where(ends, 0, 1)
    while True:
        step = left[ahead]
        if not step.any():
            return left
        left, ahead = left + step, ahead[ahead]


def _rings(edges: _Edges) -> tuple[list[Ring], Ints, Ints]:
    """Closed rings sorted by owner, their owners, and their areas: positive for exteriors, negative for holes."""
    number = _ring_numbers(edges.following)
    order = np.lexsort((-_places(edges.following, number), number))
    starts = np.flatnonzero(_changes(number[order]))
    x, y_from, y_to = edges.x[order], edges.y_from[order], edges.y_to[order]
    areas = np.add.reduceat(x * (y_to - y_from), starts) if len(starts) else x
    corners = np.stack([x, y_from, x, y_to], axis=1).reshape(-1, 2)
    bounds = [*(2 * starts).tolist(), len(corners)]
    rings = [np.concatenate([corners[i:j], corners[i : i + 1]]) for i, j in pairwise(bounds)]
    return rings, edges.owner[order][starts], areas


def _assembled(rings: list[Ring], areas: Ints) -> list[Polygon]:
    """Polygons of one mask from its rings."""
    exteriors = [ring for ring, area in zip(rings, areas.tolist(), strict=True) if area > 0]
    holes = [ring for ring, area in zip(rings, areas.tolist(), strict=True) if area < 0]
    if len(exteriors) == 1:
        return [Polygon(exteriors[0], tuple(holes))]
    sizes = areas[areas > 0]
    homes = [_home(hole, exteriors, sizes) for hole in holes]
    return [
        Polygon(exterior, tuple(hole for hole, home in zip(holes, homes, strict=True) if home == i))
        for i, exterior in enumerate(exteriors)
    ]


def _home(hole: Ring, exteriors: list[Ring], sizes: Ints) -> int:
    """Index of the smallest exterior around the pixel left of the hole's first corner: that pixel's own piece."""
    x, y = hole[np.lexsort((hole[:, 1], hole[:, 0]))[0]]
    around = [i for i, exterior in enumerate(exteriors) if _surrounds(exterior, int(x) - 1, int(y))]
    return min(around, key=lambda i: int(sizes[i]))


def _surrounds(exterior: Ring, x: int, y: int) -> bool:
    """Whether the pixel (x, y) lies inside: an odd number of vertical edges crosses the row to its left."""
    low = np.minimum(exterior[:-1, 1], exterior[1:, 1])
    high = np.maximum(exterior[:-1, 1], exterior[1:, 1])
    crossed = (exterior[:-1, 0] <= x) & (low <= y) & (y < high)
    return bool(np.count_nonzero(crossed) % 2)
