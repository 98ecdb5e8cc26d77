"""Masks on disk: one file of columns and run lengths, written whole or not at all."""

from __future__ import annotations

import hashlib
import io
import math
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import LedgerError
from napari_sam.geometry import Box, Mask, Rle
from napari_sam.geometry.overlap import runs_of
from napari_sam.geometry.runs import MaskRuns
from napari_sam.tiling.writing import atomic_path, write_bytes

Array = NDArray[Any]
Key = TypeVar("Key", bound=Hashable)

FIXED_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every member of an archive, so that equal content gives equal bytes."""
DAMAGE = (OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a cut off or altered archive can raise."""
CACHE_BYTES = 32 << 20
"""Run lengths kept in memory while neighbouring tiles are compared or painted."""
LARGEST_ARCHIVE_IN_MEMORY = 64 << 20
"""An archive of more is written column by column."""


def write_arrays(path: Path, arrays: Mapping[str, Array], *, shared: bool = False) -> None:
    """Write named arrays as an .npz archive; equal arrays give equal bytes, whenever and wherever they are written.

    `shared`: several processes may write this file at once, see `write_bytes`.
    """
    if sum(array.nbytes for array in arrays.values()) <= LARGEST_ARCHIVE_IN_MEMORY:
        write_bytes(path, archive_of(arrays), shared=shared)
        return
    with atomic_path(path, shared=shared) as partial, partial.open("wb") as file:
        _write_archive(file, arrays)


def archive_of(arrays: Mapping[str, Array]) -> bytes:
    """The .npz archive of named arrays."""
    buffer = io.BytesIO()
    _write_archive(buffer, arrays)
    return buffer.getvalue()


def _write_archive(file: IO[bytes], arrays: Mapping[str, Array]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", FIXED_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(array, order="C"), allow_pickle=False)
            archive.writestr(member, content.getbuffer(), compresslevel=1)


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """The named arrays of an archive that `write_arrays` wrote; their check sums are tested, objects refused.

    Raises
    ------
    LedgerError
        If the file is missing, cut off, damaged or of another kind.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _parsed(archive.read(f"{name}.npy")) for name in names}
    except FileNotFoundError:
        raise LedgerError(f"{path} is missing; run the same again to have it made.") from None
    except DAMAGE as error:
        raise LedgerError(
            f"{path} is damaged ({error}); remove it and run the same again to have it remade."
        ) from error


def digest_of(path: Path) -> str:
    """The check sums of an archive's members, which say whether two files have the same content; reads only its
    directory."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "-".join(f"{member.CRC:08x}" for member in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise LedgerError(
            f"{path} is damaged ({error}); remove it and run the same again to have it remade."
        ) from error


@dataclass(frozen=True, slots=True, eq=False)
class StoredMasks:
    """The masks of one file as columns, in whole-image pixels; the run lengths of mask i are those inside
    `boxes[i]`."""

    boxes: NDArray[np.int64]
    """(N, 4) XYXY."""
    areas: NDArray[np.int64]
    centroids_xy: NDArray[np.float64]
    """(N, 2)."""
    predicted_iou: NDArray[np.float64]
    stability_score: NDArray[np.float64]
    points_xy: NDArray[np.float64]
    """(N, 2); NaN where a mask was not prompted with a point."""
    crop_boxes: NDArray[np.int64]
    """(N, 4) XYXY."""
    prompts: NDArray[np.str_]
    offsets: NDArray[np.int64]
    """(N + 1,): the run lengths of mask i are `counts[offsets[i]:offsets[i + 1]]`."""
    counts: NDArray[np.uint32]
    image_size: NDArray[np.int64]
    """(H, W) of the whole image."""

    def __len__(self) -> int:
        return len(self.areas)

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, field.name).nbytes for field in fields(self))

    @classmethod
    def of(cls, masks: Sequence[Mask], image_size: tuple[int, int]) -> StoredMasks:
        """The columns of `masks`, which are in the frame of the whole image."""
        runs = runs_of(masks)
        areas, centroids_xy = _areas_and_centroids(runs)
        points = [(np.nan, np.nan) if mask.point_xy is None else mask.point_xy for mask in masks]
        return cls(
            boxes=runs.boxes,
            areas=areas,
            centroids_xy=centroids_xy,
            predicted_iou=np.array([mask.predicted_iou for mask in masks], dtype=np.float64),
            stability_score=np.array([mask.stability_score for mask in masks], dtype=np.float64),
            points_xy=np.array(points, dtype=np.float64).reshape(-1, 2),
            crop_boxes=np.array([mask.crop_box.as_xyxy() for mask in masks], dtype=np.int64).reshape(-1, 4),
            prompts=np.array([mask.prompt for mask in masks], dtype=np.str_),
            offsets=runs.offsets,
            counts=runs.counts,
            image_size=np.array(image_size, dtype=np.int64),
        )

    def mask(self, index: int) -> Mask:
        """One mask, in the frame of the whole image."""
        box = Box(*self.boxes[index].tolist())
        point = self.points_xy[index]
        return Mask(
            rle=Rle(box.height, box.width, self.counts[self.offsets[index] : self.offsets[index + 1]]),
            box=box,
            frame_size=(int(self.image_size[0]), int(self.image_size[1])),
            predicted_iou=float(self.predicted_iou[index]),
            stability_score=float(self.stability_score[index]),
            point_xy=None if np.isnan(point[0]) else (float(point[0]), float(point[1])),
            crop_box=Box(*self.crop_boxes[index].tolist()),
            prompt=str(self.prompts[index]),
        )

    def runs(self, rows: Array) -> MaskRuns:
        """The run lengths of some masks, in the order of `rows`."""
        return MaskRuns(self.boxes, self.counts, self.offsets).take(rows)

    def columns(self) -> dict[str, Array]:
        """The columns by name, as they are written."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def read(cls, path: Path) -> StoredMasks:
        """The masks of one file; LedgerError if it is missing or damaged."""
        stored = cls(**read_arrays(path, [field.name for field in fields(cls)]))
        if not stored._is_consistent():
            raise LedgerError(
                f"{path} is damaged (its columns do not fit each other); remove it and run the same again to have it "
                "remade."
            )
        return stored

    def _is_consistent(self) -> bool:
        """Whether every mask has its columns, and run lengths that fill its box, which lies in the image."""
        n = len(self.areas)
        kinds = [self.boxes.dtype.kind, self.offsets.dtype.kind, self.image_size.dtype.kind, self.counts.dtype.kind]
        shapes = [self.boxes.shape, self.crop_boxes.shape, self.centroids_xy.shape, self.points_xy.shape]
        rows = [len(self.predicted_iou), len(self.stability_score), len(self.prompts), len(self.offsets) - 1]
        if shapes != [(n, 4), (n, 4), (n, 2), (n, 2)] or rows != [n] * 4 or kinds != ["i", "i", "i", "u"]:
            return False
        ends = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.counts) or (np.diff(self.offsets) < 0).any():
            return False
        low, high = self.boxes[:, :2], self.boxes[:, 2:]
        inside = bool((low >= 0).all() and (low <= high).all() and (high <= self.image_size[::-1]).all())
        return inside and bool(np.array_equal(np.diff(ends[self.offsets]), (high - low).prod(axis=1)))


@dataclass(frozen=True, slots=True)
class TileStore:
    """The tile files of one run: a plain value that can be sent to worker processes."""

    folder: Path
    image_size: tuple[int, int]

    def __reduce__(self) -> tuple[Any, ...]:
        return TileStore, (self.folder.resolve(), self.image_size)  # another process has another current folder

    def path(self, index: int) -> Path:
        return self.folder / f"tile-{index:07d}.npz"

    def write(self, index: int, masks: Sequence[Mask]) -> None:
        """Record a tile as finished; `masks` are in whole-image pixels, an earlier failure is forgotten."""
        # A worker that was taken for dead may write it at the same time as the one in its place.
        write_arrays(self.path(index), StoredMasks.of(masks, self.image_size).columns(), shared=True)
        self._failure_path(index).unlink(missing_ok=True)

    def read(self, index: int) -> StoredMasks:
        return StoredMasks.read(self.path(index))

    def read_columns(self, index: int, names: Sequence[str]) -> dict[str, Array]:
        """Some columns of a tile's masks, without reading its run lengths."""
        return read_arrays(self.path(index), names)

    def is_finished(self, index: int) -> bool:
        """Whether the tile's file is there and whole; a damaged one counts as not done."""
        try:
            self.read(index)
        except LedgerError:
            return False
        return True

    def write_failure(self, index: int, text: str) -> None:
        """Record that a tile failed, and why; it is tried again by the next run. A damaged file of it goes."""
        self.path(index).unlink(missing_ok=True)
        write_bytes(self._failure_path(index), text.encode(), shared=True)

    def failures(self) -> dict[int, str]:
        """Why each failed tile failed, by index."""
        found = sorted(self.folder.glob("tile-*.failed"))
        return {int(path.stem.removeprefix("tile-")): path.read_text(encoding="utf-8") for path in found}

    def write_skipped(self, indices: Sequence[int]) -> None:
        """Record which tiles were left out for want of foreground."""
        write_arrays(self.folder / "skipped.npz", {"tiles": np.array(sorted(indices), dtype=np.int64)})

    def skipped(self) -> list[int]:
        """The tiles that the latest run left out."""
        path = self.folder / "skipped.npz"
        return [int(index) for index in read_arrays(path, ["tiles"])["tiles"]] if path.exists() else []

    def digest(self, indices: Sequence[int]) -> str:
        """Says whether the content of these tiles is the same as at another time."""
        parts = (f"{index}:{digest_of(self.path(index))}" for index in indices)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _failure_path(self, index: int) -> Path:
        return self.folder / f"tile-{index:07d}.failed"


class MaskCache(Generic[Key]):
    """Reads mask files and keeps the latest ones, up to a number of bytes; safe to share between threads."""

    def __init__(self, load: Callable[[Key], StoredMasks], max_bytes: int = CACHE_BYTES) -> None:
        self._load = load
        self._max_bytes = max_bytes
        self._held: OrderedDict[Key, StoredMasks] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return MaskCache, (self._load, self._max_bytes)  # elsewhere it begins empty

    def get(self, key: Key) -> StoredMasks:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        stored = self._load(key)  # without the lock: several threads read files at once, now and then one twice
        with self._lock:
            if key not in self._held:
                self._held[key] = stored
                self._bytes += stored.nbytes
            while self._bytes > self._max_bytes and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
            return stored


def gathered(masks: MaskCache[int], tile: Array, index: Array) -> MaskRuns:
    """Run lengths of the masks `index[i]` of tiles `tile[i]`, in that order; each tile's file is asked for once."""
    order = np.argsort(tile, kind="stable")
    tiles, first = np.unique(tile[order], return_index=True)
    members = np.split(order, first[1:]) if len(order) else []
    runs = MaskRuns.joined([masks.get(int(t)).runs(index[rows]) for t, rows in zip(tiles, members, strict=True)])
    is_sorted = bool((tile[1:] >= tile[:-1]).all())
    return runs if is_sorted else runs.take(np.argsort(order))


def _areas_and_centroids(runs: MaskRuns) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What `Mask.area` and `Mask.centroid_xy` say, to the last bit: all sums are of whole numbers."""
    n, strips = len(runs), runs.strips()
    areas = strips.areas(n)
    twice = np.stack([2 * strips.column, strips.row0 + strips.row1 - 1], axis=1) * strips.lengths[:, None]
    sums = np.stack([np.bincount(strips.owner, weights=twice[:, axis], minlength=n) for axis in (0, 1)], axis=1)
    centroids = np.full((n, 2), np.nan)
    np.divide(sums / 2, areas[:, None], out=centroids, where=areas[:, None] > 0)
    return areas, centroids


def _parsed(content: bytes) -> Array:
    """The array of an .npy file; ValueError if it is none, or holds objects."""
    if np.lib.format.read_magic(io.BytesIO(content)) != (1, 0):
        raise ValueError("an array of another version of the .npy format")
    start = 10 + int.from_bytes(content[8:10], "little")
    shape, order, dtype = _header(content[8:start])
    array: Array = np.frombuffer(content, dtype, count=math.prod(shape), offset=start).reshape(shape, order=order)
    return array


@lru_cache(maxsize=4096)
def _header(header: bytes) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype[Any]]:
    """Shape, order and type of an .npy file's array. Reading a header takes longer than all the rest of a small file,
    and those of many tiles are alike."""
    shape, in_columns, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(header))
    if dtype.hasobject:  # its items are pickled
        raise ValueError("an array of objects is never read")
    return shape, "F" if in_columns else "C", dtype
