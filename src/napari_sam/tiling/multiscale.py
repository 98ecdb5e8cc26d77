"""The layout of a label pyramid in OME-Zarr 0.5: its levels, their chunks and shards, and the metadata."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from napari_sam.geometry import Box

ZSTD_LEVEL = 3
MARKER = "napari-sam-writing"
"""A file that stands in a label image until it is whole."""
OWN_KEY = "napari_sam"
"""Among the attributes of a label image that this package wrote."""
_SMALLEST_LEVEL_PX = 512


def level_sizes(image_size: tuple[int, int]) -> list[tuple[int, int]]:
    """(H, W) of each level, finest first: halved, rounded up, until both sides are at most 512 pixels."""
    sizes = [image_size]
    while max(sizes[-1]) > _SMALLEST_LEVEL_PX:
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


def iter_blocks(image_size: tuple[int, int], block_px: int | tuple[int, int]) -> Iterator[Box]:
    """Boxes that cover an image (H, W) once, row by row; those at the right and lower border may be smaller."""
    (height, width), (rows, columns) = image_size, block_px if isinstance(block_px, tuple) else (block_px, block_px)
    for y0 in range(0, height, rows):
        for x0 in range(0, width, columns):
            yield Box(x0, y0, min(x0 + columns, width), min(y0 + rows, height))


def create_level(
    root: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    chunk_px: int,
    shard_px: int,
    leading_axes: str = "",
) -> zarr.Array[Any]:
    """An empty array for one level, of shape (leading..., H, W); a chunk and a shard lie in one plane."""
    size, flat = shape[-2:], (1,) * len(leading_axes)
    # A side shorter than a chunk makes the chunk shorter: a strip of 2 rows does not carry 510 rows of padding.
    chunks = tuple(min(chunk_px, side) for side in size)
    shards = tuple(
        chunk * min(shard_px // chunk_px, -(-side // chunk)) for chunk, side in zip(chunks, size, strict=True)
    )
    return root.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(*flat, *chunks),
        shards=(*flat, *shards),
        compressors=ZstdCodec(level=ZSTD_LEVEL),  # one fixed setting: the same labels give the same bytes
        fill_value=0,
        dimension_names=[*leading_axes.lower(), "y", "x"],
    )


def label_metadata(
    n_levels: int, name: str, pixel_size_um: tuple[float, float] | None, leading_axes: str = ""
) -> dict[str, Any]:
    """What stands under "ome" in the attributes of a label image `name` of `n_levels` levels."""
    unit = {} if pixel_size_um is None else {"unit": "micrometer"}
    size_y, size_x = pixel_size_um or (1.0, 1.0)
    flat = [1.0] * len(leading_axes)
    datasets = [
        {
            "path": str(k),
            # Sampling takes the pixels (2^k i, 2^k j), so the centres fall on i * scale and no translation is needed.
            "coordinateTransformations": [
                {"type": "scale", "scale": [*flat, float(size_y * 2**k), float(size_x * 2**k)]}
            ],
        }
        for k in range(n_levels)
    ]
    leading = [{"name": axis.lower(), "type": "time" if axis == "T" else "space"} for axis in leading_axes]
    multiscale = {
        "name": name.removesuffix(".zarr").removesuffix(".ome"),
        "axes": [*leading, *({"name": axis, "type": "space", **unit} for axis in "yx")],
        "datasets": datasets,
        "type": "nearest",
    }
    return {"version": "0.5", "multiscales": [multiscale], "image-label": {"version": "0.5"}}
