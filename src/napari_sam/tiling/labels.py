"""The label image of a run: painted shard by shard, written as OME-Zarr 0.5 with a pyramid.

Overlapping masks are kept in the masks themselves; a label image can show one object a pixel, so the later one in
painting order (:meth:`MergedObjects.masks_in`) wins there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_sam.errors import ConfigError, OutputError
from napari_sam.geometry import Box, Mask
from napari_sam.geometry.runs import Strips
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.multiscale import create_level, label_metadata, level_sizes
from napari_sam.tiling.objects import ObjectTable
from napari_sam.tiling.writing import flush_to_disk, output_errors

LabelArray = NDArray[np.uint32] | NDArray[np.uint64]

_SMALL_AREA_PX = 1 << 14
_SMALL_AT_ONCE = 1 << 7
"""Masks painted in one go, of at most so many box pixels each: some 50 MB of indices."""
_MARKER = "napari-sam-writing"
_OWN_KEY = "napari_sam"


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
    small: list[tuple[int, Mask]] = []
    for label, mask in objects.masks_in(box):
        part = mask.box.clipped(box)
        if part.area <= _SMALL_AREA_PX:
            small.append((label, mask))
        if part.area > _SMALL_AREA_PX or len(small) == _SMALL_AT_ONCE:
            _paint_small(canvas, box, small)
            small = []
        if part.area > _SMALL_AREA_PX:
            canvas[part.shifted(-box.x0, -box.y0).slices][mask.window(part)] = label
    _paint_small(canvas, box, small)
    return canvas


def _paint_small(canvas: LabelArray, box: Box, masks: list[tuple[int, Mask]]) -> None:
    """Paint many small masks in order, without a step in Python for each."""
    owner, pixels = pixels_in([mask for _, mask in masks], box)
    labels = np.array([label for label, _ in masks], dtype=canvas.dtype)
    # Where an index comes twice numpy keeps the last value: the mask painted later.
    canvas.reshape(-1)[pixels] = labels[owner]


def pixels_in(masks: Sequence[Mask], box: Box) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pixel of `masks` inside `box`: the index of its mask, ascending, and its place in the raveled box.

    Takes 16 bytes a pixel: meant for many small masks at once.
    """
    strips = Strips.of([mask.rle for mask in masks], [mask.box for mask in masks]).clipped(box)
    lengths = strips.lengths
    first = (strips.row0 - box.y0 - (np.cumsum(lengths) - lengths)) * box.width + strips.column - box.x0
    pixels = np.repeat(first, lengths) + np.arange(lengths.sum()) * box.width
    return np.repeat(strips.owner, lengths), pixels


def iter_blocks(image_size: tuple[int, int], block_px: int | tuple[int, int]) -> Iterator[Box]:
    """Boxes that cover an image (H, W) once, row by row; those at the right and lower border may be smaller."""
    (height, width), (rows, columns) = image_size, block_px if isinstance(block_px, tuple) else (block_px, block_px)
    for y0 in range(0, height, rows):
        for x0 in range(0, width, columns):
            yield Box(x0, y0, min(x0 + columns, width), min(y0 + rows, height))


def write_labels(
    objects: PaintableObjects,
    path: str | os.PathLike[str],
    *,
    chunk_px: int = 512,
    shard_px: int = 2048,
    pixel_size_um: tuple[float, float] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write the label image as OME-Zarr 0.5: the root group is the multiscale label image, "0" its full resolution.

    Level k holds exactly the labels of full-resolution pixels (2^k row, 2^k column): labels are sampled, never
    averaged. Levels follow until both sides are at most 512 pixels. The same objects give the same bytes. At most
    a few shards are in memory. Everything is written to `path` + ".partial" and renamed at the end; after an
    error that folder is removed, and what a killed run left there is removed by the next one.

    Parameters
    ----------
    objects : PaintableObjects
        Overlaps are flattened as :func:`paint_labels` says.
    path : path
        The folder to make, usually NAME.ome.zarr; missing parent folders are made too.
    chunk_px, shard_px : int
        Side of what a reader loads at once, and of one file. Even; `shard_px` a multiple of `chunk_px`.
    pixel_size_um : (float, float), optional
        (y, x) size of a pixel in micrometres; without it the axes carry no unit.
    overwrite : bool
        Replace label images this package wrote before. Anything else at `path` is never touched.
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
    target = Path(path)
    check_labels_path(target, overwrite=overwrite)
    partial = target.with_name(f"{target.name}.partial")
    with output_errors(target):
        try:
            _start(partial)
            levels = _create_levels(objects, partial, target.name, chunk_px, shard_px, pixel_size_um)
            _fill_levels(objects, levels, progress)
            _publish(partial, target)
        except BaseException:
            # A half-written image may be what fills the disk.
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return target


def check_labels_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse a path :func:`write_labels` would refuse; to be asked before a long run.

    Raises
    ------
    OutputError
        If there is a file, a folder of someone else, or our own labels and `overwrite` is not set.
    """
    for place in (Path(path), Path(f"{path}.partial"), Path(f"{path}.old")):
        with output_errors(place):
            exists, ours = place.exists(), is_own_labels(place)
        if exists and not ours:
            raise OutputError(
                f"{place} exists and was not written by napari-sam, so it is not replaced; "
                "choose another output name, or move it away."
            )
    if Path(path).exists() and not overwrite and any(Path(path).iterdir()):
        raise OutputError(f"{path} already holds labels; choose another output name, or ask for it to be overwritten.")


def is_own_labels(path: str | os.PathLike[str]) -> bool:
    """Whether the folder at `path` is empty or was written (perhaps not to its end) by :func:`write_labels`."""
    folder = Path(path)
    if not folder.is_dir():
        return False
    if (folder / _MARKER).is_file() or not any(folder.iterdir()):
        return True
    try:
        attributes = json.loads((folder / "zarr.json").read_text("utf-8"))["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(attributes, dict) and _OWN_KEY in attributes


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
    (partial / _MARKER).write_text("napari-sam is writing labels here, or was killed while doing so.\n", "utf-8")


def _publish(partial: Path, target: Path) -> None:
    """Give the finished folder its name; older labels there make room only now."""
    (partial / _MARKER).unlink()
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


def _create_levels(
    objects: PaintableObjects,
    folder: Path,
    name: str,
    chunk_px: int,
    shard_px: int,
    pixel_size_um: tuple[float, float] | None,
) -> list[zarr.Array[Any]]:
    sizes = level_sizes(objects.image_size)
    root = zarr.open_group(folder, mode="a", zarr_format=3)
    root.attrs.update(
        {"ome": label_metadata(len(sizes), name, pixel_size_um), _OWN_KEY: {"objects": len(objects.table.label)}}
    )
    dtype = label_dtype(objects.table.label)
    return [
        create_level(root, str(k), size, dtype, chunk_px=chunk_px, shard_px=shard_px) for k, size in enumerate(sizes)
    ]


def _fill_levels(objects: PaintableObjects, levels: list[zarr.Array[Any]], progress: Progress | None) -> None:
    jobs = [(k, box) for k, level in enumerate(levels) for box in iter_blocks(_shape(level), _shard(level))]
    for done, (k, box) in enumerate(jobs, start=1):
        block = paint_labels(objects, box, levels[0].dtype) if k == 0 else _halved(levels[k - 1], box)
        levels[k][box.slices] = block
        if progress is not None:
            progress(done, len(jobs))


def _halved(finer: zarr.Array[Any], box: Box) -> LabelArray:
    """Every second pixel of `finer` for the coarse pixels in `box`, read one shard at a time."""
    coarse = np.zeros((box.height, box.width), finer.dtype)
    height, width = _shape(finer)
    source = Box(2 * box.x0, 2 * box.y0, min(2 * box.x1, width), min(2 * box.y1, height))
    for part in iter_blocks((source.height, source.width), _shard(finer)):
        rows, columns = part.shifted(source.x0, source.y0).slices
        sampled = np.asarray(finer[rows, columns])[::2, ::2]
        y, x = part.y0 // 2, part.x0 // 2
        coarse[y : y + sampled.shape[0], x : x + sampled.shape[1]] = sampled
    return coarse


def _shape(level: zarr.Array[Any]) -> tuple[int, int]:
    height, width = level.shape
    return height, width


def _shard(level: zarr.Array[Any]) -> tuple[int, int]:
    rows, columns = level.shards or level.chunks
    return rows, columns
