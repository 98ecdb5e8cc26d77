"""Any pixels, stored in any way, are read as the plain array they are of."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import dask.array as da
import numpy as np
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_sam.geometry import Box
from napari_sam.images import open_image

DTYPES = ["bool", "u1", "i1", "<u2", ">u2", "<i2", "<u4", "<i4", "<f2", "<f4", ">f4", "<f8"]


@st.composite
def pictures(draw):
    """A small image: its pixels, its axes, and a choice of how it is stored."""
    axes = draw(st.sampled_from(["YX", "ZYX", "TYX", "CYX", "YXS", "TZYX", "ZCYX", "TCZYX"]))
    sizes = {"Y": draw(st.integers(1, 40)), "X": draw(st.integers(1, 40)), "S": 3}
    shape = tuple(sizes.get(axis, draw(st.integers(1, 3))) for axis in axes)
    dtype = np.dtype("u1" if "S" in axes else draw(st.sampled_from(DTYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    values = rng.normal(0, 60, shape) if dtype.kind == "f" else rng.integers(0, 100, shape)
    pixels = values.astype(dtype)
    if dtype.kind == "f" and draw(st.booleans()):
        pixels.flat[rng.integers(0, pixels.size, 3)] = [np.nan, np.inf, -np.inf]
    return pixels, axes, draw(st.sampled_from(STORES)), rng


def as_strided(pixels, axes, folder, rng):
    """A view that runs backwards through every other pixel of a larger array."""
    larger = np.zeros([2 * n for n in pixels.shape], pixels.dtype)
    view = larger[tuple(slice(None, None, -2) for _ in pixels.shape)]
    view[...] = pixels
    return view


def as_fortran(pixels, axes, folder, rng):
    return np.asfortranarray(pixels)


def as_dask(pixels, axes, folder, rng):
    return da.from_array(pixels, chunks=tuple(int(rng.integers(1, n + 1)) for n in pixels.shape))


def as_zarr(pixels, axes, folder, rng):
    compressor = [None, zarr.codecs.ZstdCodec(), zarr.codecs.GzipCodec(), zarr.codecs.BloscCodec()][rng.integers(4)]
    chunks = tuple(int(rng.integers(1, n + 1)) for n in pixels.shape)
    shards = tuple(2 * n for n in chunks) if rng.integers(2) else None
    zarr.create_array(
        folder / "a.zarr",
        data=pixels.astype(pixels.dtype.newbyteorder("=")),
        chunks=chunks,
        shards=shards,
        compressors=None if compressor is None else [compressor],
    )
    return folder / "a.zarr"


def as_zarr_2(pixels, axes, folder, rng):
    chunks = tuple(int(rng.integers(1, n + 1)) for n in pixels.shape)
    zarr.create_array(folder / "a.zarr", data=pixels, chunks=chunks, zarr_format=2)
    return folder / "a.zarr"


def as_tiff(pixels, axes, folder, rng):
    if axes not in ("YX", "YXS"):  # a plain TIFF does not say what its pages are
        return as_zarr(pixels, axes, folder, rng)
    compression = [None, "zlib", "lzw", "zstd", "packbits"][rng.integers(5)]
    tiled = {"tile": (16, 32)} if rng.integers(2) else {"rowsperstrip": int(rng.integers(1, 20))}
    tifffile.imwrite(
        folder / "a.tif",
        pixels,
        compression=compression,
        byteorder="<>"[rng.integers(2)],
        bigtiff=bool(rng.integers(2)),
        photometric="rgb" if axes.endswith("S") else "minisblack",
        metadata=None,
        **tiled,
    )
    return folder / "a.tif"


STORES = [as_strided, as_fortran, as_dask, as_zarr, as_zarr_2, as_tiff]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(pictures())
def test_however_an_image_is_stored_every_plane_reads_as_the_plain_array(picture):
    pixels, axes, store, rng = picture
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        stored = open_image(store(pixels, axes, folder, rng), axes=axes)
        plain = open_image(pixels.astype(pixels.dtype.newbyteorder("=")), axes=axes)
        height, width = plain.shape
        assert stored.shape == (height, width)
        position = {"t": plain.size("T") - 1, "z": plain.size("Z") - 1}
        one, other = stored.plane(**position), plain.plane(**position)
        x0, y0 = int(rng.integers(width)), int(rng.integers(height))
        box = Box(x0, y0, int(rng.integers(x0, width)) + 1, int(rng.integers(y0, height)) + 1)
        np.testing.assert_array_equal(one.read_raw(box), other.read_raw(box))
        assert one.normalisation == other.normalisation
        for step in (1, 2):
            np.testing.assert_array_equal(one.read(box, step), other.read(box, step))
    finally:
        shutil.rmtree(folder)
