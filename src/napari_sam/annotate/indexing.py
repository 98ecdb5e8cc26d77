"""numpy's indexing, taken apart: what a key means on each axis of an array that is not in memory."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Part: TypeAlias = "int | range | NDArray[np.int64]"


@dataclass(frozen=True, slots=True)
class ArrayKey:
    """A key with one part for each axis."""

    parts: tuple[Part, ...]
    """A position, a range of positions, or an array of them; all inside the array."""
    new_axes: tuple[slice | None, ...]
    """How axes of length 1 that the key asks for lie among those of the result."""

    @classmethod
    def of(cls, key: Any, shape: tuple[int, ...]) -> ArrayKey:
        """The key that numpy would read from `key`; IndexError where numpy raises it."""
        items = list(key) if isinstance(key, tuple) else [key]
        items = [part for item in items for part in _spread(item)]
        used = sum(item is not None and item is not Ellipsis for item in items)
        n_ellipses = sum(item is Ellipsis for item in items)
        if used > len(shape) or n_ellipses > 1:
            raise IndexError(f"an array of {len(shape)} axes cannot be indexed with {key!r:.200}")
        at = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
        items[at : at + n_ellipses] = [slice(None)] * (len(shape) - used)
        sides = iter(shape)
        parts = [None if item is None else _part(item, next(sides)) for item in items]
        # Only basic keys reshape here: with index arrays, the axes they make stand for several parts.
        new_axes = tuple(None if part is None else slice(None) for part in parts if not isinstance(part, int))
        return cls(tuple(part for part in parts if part is not None), new_axes)

    @property
    def is_basic(self) -> bool:
        """Whether it has no index arrays."""
        return not any(isinstance(part, np.ndarray) for part in self.parts)

    @property
    def is_pixels(self) -> bool:
        """Whether it names single pixels: no ranges."""
        return not any(isinstance(part, range) for part in self.parts)

    def ranges(self) -> tuple[range, ...]:
        """Of a basic key, the positions on each axis."""
        return tuple(range(part, part + 1) if isinstance(part, int) else _as_range(part) for part in self.parts)

    def kept_axes(self) -> tuple[int | slice, ...]:
        """What takes the axes away for which a basic key has a single position."""
        return tuple(0 if isinstance(part, int) else slice(None) for part in self.parts)

    def pixels(self) -> tuple[NDArray[np.int64], ...]:
        """Index arrays of one shape, one an axis."""
        return tuple(np.broadcast_arrays(*(np.asarray(part, dtype=np.int64) for part in self.parts)))

    def around(self) -> tuple[tuple[range, ...], tuple[Any, ...]]:
        """Ranges that hold all that it names, and the key inside the block of these ranges."""
        outer: list[range] = []
        inner: list[Any] = []
        for part in self.parts:
            if isinstance(part, range):
                outer.append(part)
                inner.append(slice(None))
            elif isinstance(part, int):
                outer.append(range(part, part + 1))
                inner.append(0)
            else:
                low, high = (int(part.min()), int(part.max()) + 1) if part.size else (0, 0)
                outer.append(range(low, high))
                inner.append(part - low)
        return tuple(outer), tuple(inner)


@dataclass(frozen=True, slots=True)
class Span:
    """Where a range of positions meets one chunk of an axis."""

    chunk: int
    outside: slice
    """In the block that is read or written."""
    inside: slice
    """In the chunk."""


def spans(positions: range, chunk_px: int) -> list[Span]:
    """The chunks that a range meets, in its order.

    Examples
    --------
    >>> [(span.chunk, span.inside) for span in spans(range(5, 1, -2), 4)]
    [(1, slice(1, 0, -2)), (0, slice(3, 2, -2))]
    """
    found = []
    step = positions.step
    done = 0
    while done < len(positions):
        chunk = positions[done] // chunk_px
        left, first = positions[done:], positions[done] - chunk * chunk_px
        edge = (chunk + 1) * chunk_px if step > 0 else chunk * chunk_px - 1
        count = min(len(left), len(range(positions[done], edge, step)))
        last = first + (count - 1) * step
        stop = last + (1 if step > 0 else -1)
        found.append(Span(chunk, slice(done, done + count), slice(first, stop if stop >= 0 else None, step)))
        done += count
    return found


def _as_range(part: Part) -> range:
    if not isinstance(part, range):
        raise IndexError("index arrays have no range")
    return part


def _spread(item: Any) -> list[Any]:
    """Lists as arrays, and boolean arrays as the index arrays they stand for."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return [item]
    if isinstance(item, int | np.integer) and not isinstance(item, bool):
        return [int(item)]
    array = np.asarray(item)
    if array.dtype == np.bool_:
        return list(array.nonzero())
    if array.ndim == 0:
        return [operator.index(item)]
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "ui":
        raise IndexError(f"labels are indexed with whole numbers, slices and arrays of these, got {item!r:.200}")
    return [array]


def _part(item: Any, side: int) -> Part:
    if isinstance(item, slice):
        return range(*item.indices(side))
    if isinstance(item, int):
        if not -side <= item < side:
            raise IndexError(f"index {item} is out of bounds for an axis of size {side}")
        return item % side
    array: NDArray[np.int64] = item.astype(np.int64)
    if array.size and (array.min() < -side or array.max() >= side):
        raise IndexError(f"an index array reaches from {array.min()} to {array.max()}, the axis has size {side}")
    return np.where(array < 0, array + side, array)
