"""Labels of stacks and time series on disk, block by block; for one plane see `tiling.labels` and `export.tiff`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from napari_sam.errors import OutputError
from napari_sam.export import MAX_TIFF_PIXELS, TIFF_SUFFIXES
from napari_sam.geometry import Box
from napari_sam.tiling.labels import check_labels_path
from napari_sam.tiling.multiscale import create_level, iter_blocks, label_metadata, level_sizes
from napari_sam.tiling.writing import atomic_path, output_errors

_CHUNK_PX = 512
_SHARD_PX = 2048


class LabelStack(Protocol):
    """Labels that are read block by block."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def window(self, plane: tuple[int, ...], box: Box) -> NDArray[Any]:
        """A box of one plane."""

    def level(self, k: int) -> Any:
        """A view at 1 / 2^k, to be sliced."""


def check_output_path(output: Path, *, replaceable: bool = False) -> None:
    """Refuse a name for labels that cannot be written, or that would cost something else; asked before the work.

    Raises
    ------
    OutputError
        If it ends otherwise than in .zarr or .tif, or exists and is not `replaceable`; what others wrote never is.
    """
    if output.suffix.lower() in TIFF_SUFFIXES:
        if output.exists() and not replaceable:
            raise OutputError(f"{output} already exists; choose another output name, or move it away.")
    elif output.name.lower().endswith(".zarr"):
        check_labels_path(output, overwrite=replaceable)
    else:
        raise OutputError(f"the output must be NAME.ome.zarr or NAME.tif, got {output}; change the end of the name.")


def check_stack_tiff(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse labels that `write_stack_tiff` would refuse; asked before the work."""
    if int(np.prod(shape)) > MAX_TIFF_PIXELS:
        raise OutputError(
            f"{path}: {' x '.join(map(str, shape))} pixels are too many for one TIFF, which takes at most "
            f"{MAX_TIFF_PIXELS}; write to a name ending in .ome.zarr."
        )


def write_stack_tiff(
    labels: LabelStack, path: Path, *, axes: str, pixel_size_um: tuple[float, float] | None = None
) -> Path:
    """Write labels of shape (leading..., H, W) as an OME-TIFF of uint32, plane by plane.

    Raises
    ------
    OutputError
        If there are more than 2^30 pixels in all, or the disk refuses.
    """
    check_stack_tiff(path, labels.shape)
    metadata: dict[str, Any] = {"axes": f"{axes}YX"}
    if pixel_size_um is not None:
        (metadata["PhysicalSizeY"], metadata["PhysicalSizeX"]) = pixel_size_um
        metadata |= {"PhysicalSizeYUnit": "µm", "PhysicalSizeXUnit": "µm"}
    with atomic_path(path) as partial, partial.open("wb") as file:
        tifffile.imwrite(
            file,
            _tiff_tiles(labels),
            shape=labels.shape,
            dtype=np.uint32,
            tile=(_CHUNK_PX, _CHUNK_PX),
            compression="zlib",
            photometric="minisblack",
            ome=True,
            metadata=metadata,
            software="napari-sam",
        )
    return path


def write_stack_zarr(
    labels: LabelStack, path: Path, *, axes: str, pixel_size_um: tuple[float, float] | None = None
) -> Path:
    """Write labels of shape (leading..., H, W) as a multiscale OME-Zarr 0.5 label image, level by level.

    Level k holds every 2^k-th row and column; leading axes are not reduced. Written under another name and renamed.

    Raises
    ------
    OutputError
        If something is at `path`, or the disk refuses.
    """
    check_labels_path(path)
    partial = path.with_name(f"{path.name}.partial")
    with output_errors(path):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            root = zarr.open_group(partial, mode="w", zarr_format=3)
            n_levels = len(level_sizes((labels.shape[-2], labels.shape[-1])))
            ome = label_metadata(n_levels, path.name, pixel_size_um, axes)
            root.attrs.update({"ome": ome, "napari_sam": {"planes": int(np.prod(labels.shape[:-2]))}})
            for k in range(n_levels):
                _write_level(root, k, labels, axes)
            if path.exists():
                path.rmdir()  # an empty folder: check_labels_path lets nothing else pass
            partial.rename(path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return path


def _tiff_tiles(labels: LabelStack) -> Iterator[NDArray[np.uint32]]:
    for plane in _planes(labels.shape):
        for box in iter_blocks((labels.shape[-2], labels.shape[-1]), _CHUNK_PX):
            tile = np.zeros((_CHUNK_PX, _CHUNK_PX), np.uint32)
            tile[: box.height, : box.width] = labels.window(plane, box)
            yield tile


def _write_level(root: zarr.Group, k: int, labels: LabelStack, axes: str) -> None:
    view = labels.level(k)
    array = create_level(
        root, str(k), view.shape, labels.dtype, chunk_px=_CHUNK_PX, shard_px=_SHARD_PX, leading_axes=axes
    )
    height, width = view.shape[-2:]
    rows, columns = (array.shards or array.chunks)[-2:]
    for plane in _planes(view.shape):
        for box in iter_blocks((height, width), (rows, columns)):
            key: tuple[int | slice, ...] = (*plane, *box.slices)
            block = view[key]
            if block.any():
                array[key] = block


def _planes(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return product(*(range(n) for n in shape[:-2]))
