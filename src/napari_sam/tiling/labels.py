"""The label image of a run: painted shard by shard, written as OME-Zarr 0.5 with a pyramid.

Overlapping masks are kept in the masks themselves; a label image can show one object a pixel, so the later one in
painting order (:meth:`MergedObjects.masks_in`) wins there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_sam.errors import ConfigError, OutputError
from napari_sam.geometry import Box, Mask
from napari_sam.geometry.overlap import runs_of
from napari_sam.geometry.runs import MaskRuns
from napari_sam.images.urls import RemotePath, place_of
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.multiscale import MARKER, OWN_KEY, create_level, label_metadata, level_sizes
from napari_sam.tiling.objects import MergedObjects, ObjectTable
from napari_sam.tiling.painting import LabelArray, Painting, PaintShard, paint_runs, pixels_of
from napari_sam.tiling.pyramid import LabelPlace, fill_levels
from napari_sam.tiling.remote_labels import check_remote_labels, new_remote_labels
from napari_sam.tiling.spread import Spread, in_threads
from napari_sam.tiling.stored_objects import StoredObjects
from napari_sam.tiling.writing import flush_to_disk, output_errors


class PaintableObjects(Protocol):
    """What a writer needs to know of the objects; :class:`MergedObjects` is one."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the whole image."""

    @property
    def table(self) -> ObjectTable:
        """One row an object."""

    def masks_in(self, box: Box) -> Sequence[tuple[int, Mask]]:
        """Label and mask of the objects whose box meets `box`, in painting order (later on top)."""

    def iter_masks(self) -> Iterator[tuple[int, Mask]]:
        """Label and mask of every object."""


def label_dtype(labels: NDArray[np.integer[Any]]) -> np.dtype[Any]:
    """uint32, or uint64 where a label is beyond 2^32 - 1."""
    largest = int(labels.max(initial=0))
    return np.dtype(np.uint32 if largest <= np.iinfo(np.uint32).max else np.uint64)


def paint_labels(objects: PaintableObjects, box: Box, dtype: np.dtype[Any] | type = np.uint32) -> LabelArray:
    """Labels of the pixels in `box`, 0 where there is no object.

    Parameters
    ----------
    objects : PaintableObjects
        Where masks overlap, the later one of :meth:`~PaintableObjects.masks_in` wins.
    box : Box
        Whole-image pixels, inside the image.
    dtype : dtype
        uint32 or uint64; see :func:`label_dtype`.

    Returns
    -------
    ndarray of shape (box.height, box.width)
    """
    return paint_runs(*_runs_in(objects, box), box, dtype)


def _runs_in(objects: PaintableObjects, box: Box) -> tuple[NDArray[np.uint64], MaskRuns]:
    """Labels and run lengths of the objects that meet a box, in painting order."""
    if isinstance(objects, MergedObjects):  # without a step in Python for each
        rows = objects.rows_in(box)
        return objects.table.label[rows], objects.runs(rows)
    found = objects.masks_in(box)
    return np.array([label for label, _ in found], dtype=np.uint64), runs_of([mask for _, mask in found])


def pixels_in(masks: Sequence[Mask], box: Box) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pixel of `masks` inside `box`: the index of its mask, ascending, and its place in the raveled box.

    Takes 16 bytes a pixel: meant for many small masks at once.
    """
    return pixels_of(runs_of(masks).strips(), box)


def write_labels(
    objects: PaintableObjects,
    path: str | os.PathLike[str] | RemotePath,
    *,
    chunk_px: int = 512,
    shard_px: int = 2048,
    pixel_size_um: tuple[float, float] | None = None,
    overwrite: bool = False,
    spread: Spread | None = None,
    progress: Progress | None = None,
) -> Path | RemotePath:
    """Write the label image as OME-Zarr 0.5: the root group is the multiscale label image, "0" its full resolution.

    Level k holds exactly the labels of full-resolution pixels (2^k row, 2^k column): labels are sampled, never
    averaged. Levels follow until both sides are at most 512 pixels. The same objects give the same bytes. At most
    a few shards are in memory. Everything is written to `path` + ".partial" and renamed at the end; after an
    error that folder is removed, and what a killed run left there is removed by the next one. At a URL there is no
    renaming: the metadata that make it an image are written last, see :func:`new_remote_labels`.

    Parameters
    ----------
    objects : PaintableObjects
        Overlaps are flattened as :func:`paint_labels` says.
    path : path or URL
        The folder to make, usually NAME.ome.zarr; missing parent folders are made too.
    chunk_px, shard_px : int
        Side of what a reader loads at once, and of one file. Even; `shard_px` a multiple of `chunk_px`.
    pixel_size_um : (float, float), optional
        (y, x) size of a pixel in micrometres; without it the axes carry no unit.
    overwrite : bool
        Replace label images this package wrote before. Anything else at `path` is never touched.
    spread : Spread, optional
        Who paints and writes, a shard each at a time: by default this thread; see `in_threads`, `on_cluster`. That does
        not change a byte. This thread alone paints what other processes lack: objects that are not in the files of a
        run, and labels in the memory of this process (memory://).
    progress : callable, optional
        Called with (shards done, shards in all), all levels together.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ConfigError
        If the chunk and shard sizes do not fit each other, or the pixel size is not positive.
    OutputError
        If something that may not be replaced is at `path`, or the disk refuses.
    """
    _check_layout(chunk_px, shard_px)
    check_pixel_size(pixel_size_um)
    target = place_of(path)
    check_labels_path(target, overwrite=overwrite)
    mark = f"napari-sam is writing labels here, or was killed while doing so: {uuid4().hex}\n"
    with new_remote_labels(target) if isinstance(target, RemotePath) else _new_folder(target, mark) as folder:
        root = zarr.open_group(folder, mode="a", zarr_format=3)
        n_levels = _create_levels(objects, root, chunk_px, shard_px)
        place = LabelPlace(target if isinstance(target, RemotePath) else _partial_of(target), mark)
        _fill(objects, place, n_levels, spread or in_threads(), progress)
        # Last, so that nobody takes an unfinished folder for an image.
        ome = label_metadata(n_levels, target.name, pixel_size_um)
        root.attrs.update({"ome": ome, OWN_KEY: {"objects": len(objects.table.label)}})
    return target


def _fill(
    objects: PaintableObjects, place: LabelPlace, n_levels: int, spread: Spread, progress: Progress | None
) -> None:
    """Have all shards written; by this thread, where other processes lack the objects or the place."""
    dtype = label_dtype(objects.table.label)
    stored = objects.masks if isinstance(objects, MergedObjects) else None
    if spread.sends and (place.is_of_this_process or not isinstance(stored, StoredObjects)):
        spread = in_threads()
    if isinstance(objects, MergedObjects) and isinstance(stored, StoredObjects):
        to_paint = partial(Painting.of, objects, stored, dtype=dtype)
        fill_levels(place, n_levels, PaintShard(place, stored.files), to_paint, spread, progress)
    else:
        fill_levels(place, n_levels, _PaintHere(place, objects, dtype), lambda box: box, spread, progress)


@dataclass(frozen=True, slots=True, eq=False)
class _PaintHere:
    """Paints shards of objects that only this process has."""

    place: LabelPlace
    objects: PaintableObjects
    dtype: np.dtype[Any]

    @property
    def folders(self) -> tuple[Path, ...]:
        return self.place.folders

    def __call__(self, box: Box) -> None:
        self.place.write(0, box, paint_labels(self.objects, box, self.dtype))


def _partial_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial")


@contextmanager
def _new_folder(target: Path, mark: str) -> Iterator[Path]:
    """A folder to write to, which becomes `target` when the block ends well, and is removed otherwise."""
    partial = _partial_of(target)
    with output_errors(target):
        try:
            _start(partial, mark)
            yield partial
            _publish(partial, target)
        except BaseException:
            # A half-written image may be what fills the disk.
            _discard(partial)
            raise


def check_labels_path(path: str | os.PathLike[str] | RemotePath, *, overwrite: bool = False) -> None:
    """Refuse a path or URL :func:`write_labels` would refuse; to be asked before a long run.

    Raises
    ------
    OutputError
        If there is a file, a folder of someone else, or our own labels and `overwrite` is not set; if a URL cannot be
        written to.
    """
    target = place_of(path)
    if isinstance(target, RemotePath):
        check_remote_labels(target, overwrite=overwrite)
        return
    for place in (target, _partial_of(target), target.with_name(f"{target.name}.old")):
        with output_errors(place):
            exists, ours = place.exists(), is_own_labels(place)
        if exists and not ours:
            raise OutputError(
                f"{place} exists and was not written by napari-sam, so it is not replaced; "
                "choose another output name, or move it away."
            )
    if target.exists() and not overwrite and any(target.iterdir()):
        raise OutputError(
            f"{target} already holds labels; choose another output name, or ask for it to be overwritten."
        )


def is_own_labels(path: str | os.PathLike[str]) -> bool:
    """Whether the folder at `path` is empty or was written (perhaps not to its end) by :func:`write_labels`."""
    folder = Path(path)
    if not folder.is_dir():
        return False
    if (folder / MARKER).is_file() or not any(folder.iterdir()):
        return True
    try:
        attributes = json.loads((folder / "zarr.json").read_text("utf-8"))["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(attributes, dict) and OWN_KEY in attributes


def check_pixel_size(pixel_size_um: tuple[float, float] | None) -> None:
    """Refuse a pixel size that is not two positive, finite numbers of micrometres (y, x)."""
    if pixel_size_um is None:
        return
    sizes = np.asarray(pixel_size_um, dtype=float)
    if sizes.shape != (2,) or not np.all(np.isfinite(sizes) & (sizes > 0)):
        raise ConfigError(
            f"pixel_size_um must be two positive numbers (y, x) in micrometres, got {pixel_size_um}; "
            "leave it out if the size is unknown."
        )


def _check_layout(chunk_px: int, shard_px: int) -> None:
    if chunk_px < 2 or chunk_px % 2 or shard_px < chunk_px or shard_px % chunk_px:
        raise ConfigError(
            f"chunk_px must be even and positive and shard_px a multiple of it, got {chunk_px} and {shard_px}; "
            "the defaults 512 and 2048 suit most images."
        )


def _start(partial: Path, mark: str) -> None:
    """An empty folder with the mark that it is ours and not complete."""
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    (partial / MARKER).write_text(mark, "utf-8")


def _discard(partial: Path) -> None:
    """Remove a folder that will not be finished, its mark last: a worker may still be writing a shard, which the next
    run has to know as ours."""
    with suppress(OSError):
        for entry in partial.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != MARKER:
                entry.unlink()
        if {entry.name for entry in partial.iterdir()} <= {MARKER}:
            shutil.rmtree(partial)


def _publish(partial: Path, target: Path) -> None:
    """Give the finished folder its name; older labels there make room only now."""
    (partial / MARKER).unlink()
    for file in sorted(partial.rglob("*")):
        if (
            file.suffix == ".partial"
        ):  # of a worker that was killed while it wrote a shard, which another one wrote then
            file.unlink(missing_ok=True)
        elif file.is_file():
            flush_to_disk(file)
    old = target.with_name(f"{target.name}.old")
    if old.exists():
        shutil.rmtree(old)
    if target.exists():
        target.rename(old)
    try:
        partial.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    if old.exists():
        shutil.rmtree(old)


def _create_levels(objects: PaintableObjects, root: zarr.Group, chunk_px: int, shard_px: int) -> int:
    """Make the empty levels; their number."""
    dtype, sizes = label_dtype(objects.table.label), level_sizes(objects.image_size)
    for k, size in enumerate(sizes):
        create_level(root, str(k), size, dtype, chunk_px=chunk_px, shard_px=shard_px)
    return len(sizes)
