"""The pieces of a file that were used last, so that neighbouring tiles need not decode or fetch them again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer

_CACHE_BYTES = 2**27


class PieceCache:
    """The pieces of an image used last (decoded strips, fetched chunks), up to a number of bytes; safe between threads.

    Tiles of a run overlap by their halos and strips are as wide as the image: without it each would be had often.
    """

    def __init__(self, limit_bytes: int = _CACHE_BYTES) -> None:
        self._limit = limit_bytes
        self._bytes = 0
        self._pieces: OrderedDict[tuple[int, str], Buffer] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, str]) -> Buffer | None:
        with self._lock:
            if key in self._pieces:
                self._pieces.move_to_end(key)
            return self._pieces.get(key)

    def put(self, key: tuple[int, str], piece: Buffer) -> None:
        with self._lock:
            if key in self._pieces or len(piece) > self._limit:
                return
            self._pieces[key] = piece
            self._bytes += len(piece)
            while self._bytes > self._limit:
                self._bytes -= len(self._pieces.popitem(last=False)[1])
