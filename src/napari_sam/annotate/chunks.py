"""Where sparse labels keep their pixels: only chunks that hold something, the least used of them on disk."""

from __future__ import annotations

import shutil
import tempfile
import weakref
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotate.prompts import Plane
from napari_sam.tiling.writing import output_errors

ChunkKey: TypeAlias = tuple[Plane, int, int]
"""Plane, chunk row, chunk column."""
THUMBNAIL_STEP = 16
"""Every so many pixels of a chunk on disk stay in memory, so that a coarse view reads no disk."""


class ChunkStore:
    """Square chunks by plane and place. A chunk that was never written, or is all 0, takes no room."""

    def __init__(self, chunk_px: int, dtype: np.dtype[Any], memory_bytes: int) -> None:
        self.chunk_px = chunk_px
        self.dtype = dtype
        self._most_in_memory = max(2, memory_bytes // (chunk_px * chunk_px * dtype.itemsize))
        self._hot: OrderedDict[ChunkKey, NDArray[Any]] = OrderedDict()
        self._changed: set[ChunkKey] = set()
        self._thumbnails: dict[ChunkKey, NDArray[Any]] = {}
        self._planes: dict[Plane, set[tuple[int, int]]] = {}
        self._folder: Path | None = None
        self._cleaner: weakref.finalize[Any, Any] | None = None

    def keys(self, plane: Plane) -> set[tuple[int, int]]:
        """(row, column) of the chunks of a plane that hold something."""
        return self._planes.get(plane, set())

    def planes(self) -> list[Plane]:
        """The planes that hold something, in order."""
        return sorted(plane for plane, keys in self._planes.items() if keys)

    @property
    def n_in_memory(self) -> int:
        return len(self._hot)

    def get(self, key: ChunkKey) -> NDArray[Any] | None:
        """A chunk to read from; None where all is 0."""
        chunk = self._hot.get(key)
        if chunk is None:
            if key[1:] not in self.keys(key[0]):
                return None
            chunk = self._load(key)
        else:
            self._hot.move_to_end(key)
        return chunk

    def thumbnail(self, key: ChunkKey) -> NDArray[Any] | None:
        """Every 16th row and column of a chunk; None where all is 0."""
        kept = self._thumbnails.get(key)
        if kept is not None and key not in self._hot:
            return kept
        chunk = self.get(key)
        return None if chunk is None else chunk[::THUMBNAIL_STEP, ::THUMBNAIL_STEP]

    def edit(self, key: ChunkKey) -> NDArray[Any]:
        """A chunk to write to; made if it is missing."""
        chunk = self.get(key)
        if chunk is None:
            chunk = np.zeros((self.chunk_px, self.chunk_px), self.dtype)
            self._planes.setdefault(key[0], set()).add((key[1], key[2]))
            self._keep(key, chunk)
        self._changed.add(key)
        return chunk

    def tidy(self, key: ChunkKey) -> None:
        """Give a chunk's room back if it is all 0 by now."""
        chunk = self._hot.get(key)
        if chunk is not None and not chunk.any():
            del self._hot[key]
            self._forget(key)

    def close(self) -> None:
        """Remove the temporary folder."""
        if self._cleaner is not None:
            self._cleaner()

    def _keep(self, key: ChunkKey, chunk: NDArray[Any]) -> None:
        self._hot[key] = chunk
        while len(self._hot) > self._most_in_memory:
            oldest, pixels = next(iter(self._hot.items()))
            self._store(oldest, pixels)
            del self._hot[oldest]

    def _store(self, key: ChunkKey, chunk: NDArray[Any]) -> None:
        if key not in self._changed:
            return
        if not chunk.any():
            self._forget(key)
            return
        path = self._path(key)
        with output_errors(path):
            path.write_bytes(zlib.compress(chunk.tobytes(), 1))
        self._thumbnails[key] = chunk[::THUMBNAIL_STEP, ::THUMBNAIL_STEP].copy()
        self._changed.discard(key)

    def _load(self, key: ChunkKey) -> NDArray[Any]:
        path = self._path(key)
        with output_errors(path):
            pixels = zlib.decompress(path.read_bytes())
        chunk = np.frombuffer(pixels, self.dtype).reshape(self.chunk_px, self.chunk_px).copy()
        self._keep(key, chunk)
        return chunk

    def _forget(self, key: ChunkKey) -> None:
        self._planes[key[0]].discard((key[1], key[2]))
        self._changed.discard(key)
        if self._thumbnails.pop(key, None) is not None:
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: ChunkKey) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="napari-sam-labels-"))
            self._cleaner = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        plane, row, column = key
        return self._folder / ("-".join(str(i) for i in (*plane, row, column)) + ".z")
