"""The label image as one TIFF or OME-TIFF, for images other programs load whole."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_sam.errors import OutputError
from napari_sam.images.geo import GeoReference
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.labels import PaintableObjects, check_pixel_size, label_dtype, paint_labels
from napari_sam.tiling.multiscale import iter_blocks
from napari_sam.tiling.writing import atomic_path

TIFF_SUFFIXES = (".tif", ".tiff")
MAX_TIFF_PIXELS = 2**30
"""Above this (4 GB of labels) programs that load a TIFF whole no longer cope: OME-Zarr is the format then."""

_TILE_PX = 512
_TILES_AT_ONCE = 8
_BIGTIFF_PIXELS = 2**29
_UM_PER_CM = 1e4
_GEO_KEY_DIRECTORY = 34735


def write_label_tiff(
    objects: PaintableObjects,
    path: str | os.PathLike[str],
    *,
    pixel_size_um: tuple[float, float] | None = None,
    geo: GeoReference | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the label image as a tiled, zlib-compressed TIFF of uint32; as OME-TIFF where the name ends in .ome.tif(f).

    Always uint32, so that the type does not change with the number of objects. Overlaps are flattened as
    :func:`napari_sam.tiling.labels.paint_labels` says. A row of tiles is painted piece by piece, so memory stays at
    some MB; the file is a BigTIFF where its labels could pass 2 GB.

    Parameters
    ----------
    objects : PaintableObjects
    path : path
        NAME.tif or NAME.tiff; an existing file is replaced when the new one is complete.
    pixel_size_um : (float, float), optional
        (y, x) size of a pixel in micrometres; written as the resolution, and into the OME metadata.
    geo : GeoReference, optional
        Of the image; its tags are written too, so the labels are a GeoTIFF.
    progress : callable, optional
        Called with (tiles done, tiles in all).

    Raises
    ------
    OutputError
        If the image has more than 2^30 pixels, a label is beyond 2^32 - 1, the name ends otherwise, or the disk
        refuses.
    ConfigError
        If the pixel size is not positive.
    """
    target = Path(path)
    check_tiff_path(target, objects.image_size)
    check_pixel_size(pixel_size_um)
    if label_dtype(objects.table.label) != np.uint32:
        raise OutputError(
            f"{path}: a label is beyond 2^32 - 1, which a label TIFF cannot hold; write to a name ending in .ome.zarr."
        )
    height, width = objects.image_size
    with atomic_path(target) as partial, partial.open("wb") as file:
        tifffile.imwrite(
            file,
            _tiles(objects, progress),
            shape=(height, width),
            dtype=np.uint32,
            tile=(_TILE_PX, _TILE_PX),
            compression="zlib",
            photometric="minisblack",
            bigtiff=height * width > _BIGTIFF_PIXELS,
            software="napari-sam",
            extratags=_geo_tags(geo),
            **_metadata(target, pixel_size_um),
        )
    return target


def check_tiff_path(path: str | os.PathLike[str], image_size: tuple[int, int]) -> None:
    """Refuse a name or an image (H, W) :func:`write_label_tiff` would refuse; to be asked before a long run.

    Raises
    ------
    OutputError
        If the name does not end in .tif or .tiff, or the image has more than 2^30 pixels.
    """
    if Path(path).suffix.lower() not in TIFF_SUFFIXES:
        raise OutputError(f"a label TIFF ends in .tif or .tiff, got {path}; change the end of the name.")
    height, width = image_size
    if height * width > MAX_TIFF_PIXELS:
        raise OutputError(
            f"{path}: an image of {height} x {width} pixels is too large for one TIFF, which takes at most "
            f"{MAX_TIFF_PIXELS} pixels; write to a name ending in .ome.zarr."
        )


def _tiles(objects: PaintableObjects, progress: Progress | None) -> Iterator[NDArray[Any]]:
    """Tiles in the order of the file, row by row; those at the border are padded with 0."""
    height, width = objects.image_size
    total = len(range(0, height, _TILE_PX)) * len(range(0, width, _TILE_PX))
    done = 0
    for block in iter_blocks((height, width), (_TILE_PX, _TILE_PX * _TILES_AT_ONCE)):
        labels = paint_labels(objects, block)
        for x0 in range(0, block.width, _TILE_PX):
            tile = np.zeros((_TILE_PX, _TILE_PX), dtype=np.uint32)
            part = labels[:, x0 : x0 + _TILE_PX]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile
            done += 1
            if progress is not None:
                progress(done, total)


def _geo_tags(geo: GeoReference | None) -> list[tuple[int, str, int, Any, bool]]:
    """The georeference as tifffile takes further tags: (code, type, count, value, on the first page only)."""
    tags: list[tuple[int, str, int, Any, bool]] = []
    for code, value in sorted(geo.tags.items() if geo is not None else ()):
        if isinstance(value, str):
            tags.append((code, "s", 0, value, True))
        else:
            kind = "H" if code == _GEO_KEY_DIRECTORY else "d"
            tags.append((code, kind, len(value), tuple(value), True))
    return tags


def _metadata(path: Path, pixel_size_um: tuple[float, float] | None) -> dict[str, Any]:
    """Keywords for tifffile: OME or plain, with the pixel size if it is known."""
    is_ome = path.with_suffix("").suffix.lower() == ".ome"
    # Without a UUID from us tifffile makes a random one, and the same labels would give other bytes each time.
    metadata: dict[str, Any] = {"axes": "YX", "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, path.name))} if is_ome else {}
    keywords: dict[str, Any] = {"ome": is_ome, "metadata": metadata if is_ome else None}
    if pixel_size_um is not None:
        size_y, size_x = pixel_size_um
        keywords |= {"resolution": (_UM_PER_CM / size_x, _UM_PER_CM / size_y), "resolutionunit": "CENTIMETER"}
        if is_ome:
            metadata |= {
                "PhysicalSizeX": size_x,
                "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": size_y,
                "PhysicalSizeYUnit": "µm",
            }
    return keywords
