"""Sets of tiles as few bytes, for what is sent to other processes."""

from __future__ import annotations

import zlib

import numpy as np


def packed_indices(indices: frozenset[int]) -> bytes:
    """A set of tile indices as a few bytes, to be sent: a bit a tile, compressed.

    Examples
    --------
    >>> everything = frozenset(range(100_000))
    >>> len(packed_indices(everything)) < 100, unpacked_indices(packed_indices(everything)) == everything
    (True, True)
    """
    bits = np.zeros(max(indices, default=-1) + 1, dtype=np.bool_)
    bits[list(indices)] = True
    return zlib.compress(np.packbits(bits).tobytes())


def unpacked_indices(packed: bytes) -> frozenset[int]:
    """The set that `packed_indices` was given."""
    bits = np.unpackbits(np.frombuffer(zlib.decompress(packed), dtype=np.uint8))
    return frozenset(np.flatnonzero(bits).tolist())
