"""Pixels in memory, written to a file that worker processes read: what travels to them is its path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import OutputError
from napari_sam.images import Plane


class FileArray:
    """An array in a file NAME.npy, of which only the parts that are asked for are read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pixels: NDArray[Any] = np.load(path, mmap_mode="r")
        self.shape: tuple[int, ...] = self._pixels.shape
        self.dtype: np.dtype[Any] = self._pixels.dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self._pixels[key])

    def __reduce__(self) -> tuple[type[FileArray], tuple[Path]]:
        return FileArray, (self._path,)


@contextmanager
def sent_to_workers(plane: Plane, folder: Path) -> Iterator[Plane]:
    """The same plane, fit to be sent to other processes: pixels in memory lie in `folder` meanwhile.

    Parameters
    ----------
    plane : Plane
        What can be opened again by its path, and what is lazy, stays as it is.
    folder : path
        Seen by all workers.

    Raises
    ------
    OutputError
        If the pixels cannot be written.
    """
    source = plane.source
    if source.reopen is not None or not all(isinstance(level, np.ndarray) for level in source.levels):
        yield plane
        return
    at = {"T": slice(plane.t, plane.t + 1), "Z": slice(plane.z, plane.z + 1)}
    key = tuple(at.get(axis, slice(None)) for axis in source.axes)
    paths = [folder.resolve() / f"pixels-{number}.npy" for number in range(len(source.levels))]
    try:
        for path, level in zip(paths, source.levels, strict=True):
            _write(path, level[key])
        levels = tuple(FileArray(path) for path in paths)
        yield replace(plane, source=replace(source, levels=levels), t=0, z=0)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def _write(path: Path, pixels: NDArray[Any]) -> None:
    try:
        np.save(path, pixels, allow_pickle=False)
    except OSError as error:
        raise OutputError(
            f"the pixels that the workers need cannot be written to {path}: {error.strerror}. Free some space, or give "
            "the path of an image file instead."
        ) from error
