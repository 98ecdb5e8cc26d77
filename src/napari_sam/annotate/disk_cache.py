"""Named arrays kept in a folder of bounded size, which several processes may share and any of them may lose."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_sam.tiling.store import DAMAGE

Arrays: TypeAlias = dict[str, NDArray[Any]]

_SUFFIX = ".npz"


class DiskCache:
    """Arrays by key, one file each; the least recently used files go when the folder grows too large.

    A file appears under its name only when it is whole, and check sums are tested on reading. Nothing here is ever
    unpickled. What another process removes meanwhile is simply not there.

    Parameters
    ----------
    folder : Path
        Made when first written to.
    max_bytes : int
        Of all files together; one that is larger by itself is not kept.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._lock = threading.Lock()

    def read(self, key: str) -> Arrays | None:
        """The arrays of `key`; None if there are none. A damaged file is removed and counts as none."""
        path = self._path(key)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            os.utime(path)  # its last use, for whoever makes room
        except FileNotFoundError:
            return None
        except DAMAGE:
            self.remove(key)
            return None
        return arrays

    def write(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep the arrays, at the cost of the least recently used ones.

        Raises
        ------
        OSError
            If the folder cannot be written to; nothing is left behind.
        """
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        data = content.getbuffer()
        if len(data) > self._max_bytes:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(key)
        # Threads and processes that write the same key at once each need a name of their own.
        partial = path.with_name(f"{path.stem}.{os.getpid()}-{threading.get_ident()}.partial")
        try:
            partial.write_bytes(data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        self._make_room()

    def remove(self, key: str) -> None:
        """Forget a key, if it is there."""
        with contextlib.suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{_SUFFIX}"

    def _make_room(self) -> None:
        """Remove the least recently used files until the others fit."""
        with self._lock:
            files = sorted(self._files(), reverse=True)
            total = 0
            for _, name, size in files:
                total += size
                if total > self._max_bytes:
                    with contextlib.suppress(OSError):  # another process was faster, or is reading it
                        (self._folder / name).unlink()

    def _files(self) -> list[tuple[int, str, int]]:
        """(time of last use in ns, name, bytes) of each file."""
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX):
                    with contextlib.suppress(OSError):
                        status = entry.stat()
                        found.append((status.st_mtime_ns, entry.name, status.st_size))
        return found
