"""The label image of a run: painted shard by shard, written as OME-Zarr 0.5 with a pyramid.

Overlapping masks are kept in the masks themselves; a label image can show one object a pixel, so the later one in
painting order (:meth:`MergedObjects.masks_in`) wins there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_sam.errors import ConfigError, OutputError
from napari_sam.geometry import Box, Mask
from napari_sam.geometry.overlap import runs_of
from napari_sam.geometry.runs import MaskRuns, Strips, draw
from napari_sam.geometry.suppression import chunks_by_total
from napari_sam.images.urls import RemotePath, place_of
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.multiscale import MARKER, OWN_KEY, create_level, label_metadata, level_sizes
from napari_sam.tiling.objects import MergedObjects, ObjectTable
from napari_sam.tiling.pyramid import fill_levels
from napari_sam.tiling.remote_labels import check_remote_labels, new_remote_labels
from napari_sam.tiling.writing import flush_to_disk, output_errors

LabelArray = NDArray[np.uint32] | NDArray[np.uint64]

_PIXELS_AT_ONCE = 1 << 18
"""Of the boxes of masks painted in one go: some 10 MB of indices."""


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
    canvas = np.zeros((box.height, box.width), dtype)
    labels, runs = _runs_in(objects, box)
    parts = np.concatenate(
        [np.maximum(runs.boxes[:, :2], [box.x0, box.y0]), np.minimum(runs.boxes[:, 2:], [box.x1, box.y1])], axis=1
    )
    areas = np.maximum(parts[:, 2:] - parts[:, :2], 0).prod(axis=1)
    for some in chunks_by_total(areas, _PIXELS_AT_ONCE):
        batch = runs.take(np.arange(some.start, some.stop))
        if areas[some].sum() > _PIXELS_AT_ONCE:  # a single one
            part = Box(*parts[some.start].tolist())
            canvas[part.shifted(-box.x0, -box.y0).slices][draw(batch.strips(), part)] = labels[some.start]
        else:
            owner, pixels = _pixels_of(batch.strips(), box)
            # Where an index comes twice numpy keeps the last value: the mask painted later.
            canvas.reshape(-1)[pixels] = labels[some].astype(dtype)[owner]
    return canvas


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
    return _pixels_of(runs_of(masks).strips(), box)


def _pixels_of(strips: Strips, box: Box) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    strips = strips.clipped(box)
    lengths = strips.lengths
    first = (strips.row0 - box.y0 - (np.cumsum(lengths) - lengths)) * box.width + strips.column - box.x0
    pixels = np.repeat(first, lengths) + np.arange(lengths.sum()) * box.width
    return np.repeat(strips.owner, lengths), pixels


def write_labels(
    objects: PaintableObjects,
    path: str | os.PathLike[str] | RemotePath,
    *,
    chunk_px: int = 512,
    shard_px: int = 2048,
    pixel_size_um: tuple[float, float] | None = None,
    overwrite: bool = False,
    workers: int = 1,
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
    workers : int
        Threads that paint and write, a shard each at a time. Their number does not change a byte.
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
    with new_remote_labels(target) if isinstance(target, RemotePath) else _new_folder(target) as folder:
        root = zarr.open_group(folder, mode="a", zarr_format=3)
        levels = _create_levels(objects, root, chunk_px, shard_px)
        fill_levels(levels, partial(paint_labels, objects, dtype=levels[0].dtype), workers, progress)
        # Last, so that nobody takes an unfinished folder for an image.
        ome = label_metadata(len(levels), target.name, pixel_size_um)
        root.attrs.update({"ome": ome, OWN_KEY: {"objects": len(objects.table.label)}})
    return target


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A folder to write to, which becomes `target` when the block ends well, and is removed otherwise."""
    partial = target.with_name(f"{target.name}.partial")
    with output_errors(target):
        try:
            _start(partial)
            yield partial
            _publish(partial, target)
        except BaseException:
            # A half-written image may be what fills the disk.
            shutil.rmtree(partial, ignore_errors=True)
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
    for place in (target, target.with_name(f"{target.name}.partial"), target.with_name(f"{target.name}.old")):
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


def _start(partial: Path) -> None:
    """An empty folder with the mark that it is ours and not complete."""
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    (partial / MARKER).write_text("napari-sam is writing labels here, or was killed while doing so.\n", "utf-8")


def _publish(partial: Path, target: Path) -> None:
    """Give the finished folder its name; older labels there make room only now."""
    (partial / MARKER).unlink()
    for file in sorted(partial.rglob("*")):
        if file.is_file():
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


def _create_levels(objects: PaintableObjects, root: zarr.Group, chunk_px: int, shard_px: int) -> list[zarr.Array[Any]]:
    dtype = label_dtype(objects.table.label)
    return [
        create_level(root, str(k), size, dtype, chunk_px=chunk_px, shard_px=shard_px)
        for k, size in enumerate(level_sizes(objects.image_size))
    ]
