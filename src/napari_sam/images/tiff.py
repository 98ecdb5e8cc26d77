"""TIFF of all kinds (plain, OME, ImageJ, GeoTIFF, slide pyramids): only the tiles or strips in question are decoded."""

from __future__ import annotations

import re
import weakref
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray
from tifffile.zarr import ZarrTiffStore

from napari_sam.errors import ImageError
from napari_sam.images.arrays import Key, LazyArray, reason
from napari_sam.images.cache import PieceCache
from napari_sam.images.contents import Contents, file_identity, length_um, pixel_size
from napari_sam.images.geo import GEO_TAGS, read_georeference
from napari_sam.images.levels import is_reduction

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_LARGEST_PIECE_BYTES = 2**31
_DECODER_THREADS = 4
_GDAL_NODATA = 42113
_ALPHA_SAMPLES = (1, 2)


@dataclass(frozen=True, slots=True)
class ContiguousLevel:
    """Pixels that lie uncompressed in one piece of a file.

    Mapped for the time of one reading only: a map that stays would count the whole image as this program's memory.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    stored_dtype: np.dtype[Any]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.stored_dtype.newbyteorder("=")

    def __getitem__(self, key: Key) -> NDArray[Any]:
        pixels = np.memmap(self.path, self.stored_dtype, mode="r", offset=self.offset, shape=self.shape)
        return np.array(pixels[key], dtype=self.dtype)


class CachedTiffStore(ZarrTiffStore):
    """tifffile's zarr view of one level, behind a cache of decoded pieces."""

    def __init__(self, series: tifffile.TiffPageSeries, level: int, cache: PieceCache) -> None:
        super().__init__(series, level=0, multiscales=False, maxworkers=_DECODER_THREADS, read_only=True)
        self._level_number = level
        self._cache = cache

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The decoded piece of that name, from the cache where it is there; None for a piece the file leaves out."""
        cached = self._cache.get((self._level_number, key))
        if cached is not None:
            return cached
        piece = await super().get(key, prototype, byte_range)
        if piece is not None:
            self._cache.put((self._level_number, key), piece)
        return piece


def open_tiff(path: Path, series: int) -> Contents:
    """Levels and metadata of one image of a TIFF file; its pixels stay in the file.

    Raises
    ------
    ImageError
        If the file is damaged, truncated or of a kind that cannot be read in parts, or has no such series.
    """
    identity = file_identity(path) | {"series": series}
    try:
        tif = tifffile.TiffFile(path)
    except Exception as error:  # damaged headers raise anything from struct.error to TiffFileError
        raise ImageError(f"{path} is a damaged TIFF file ({reason(error)}); copy or save it again.") from error
    try:
        return _contents(tif, path, series, identity)
    except Exception as error:
        tif.close()
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{path} is a damaged TIFF file ({reason(error)}); copy or save it again.") from error


def _contents(tif: tifffile.TiffFile, path: Path, number: int, identity: dict[str, Any]) -> Contents:
    everything = list(tif.series)
    if not everything:
        raise ImageError(f"{path} is a TIFF file without any image, so damaged or truncated; copy or save it again.")
    if not 0 <= number < len(everything):
        names = ", ".join(f"{i} {s.name!r} {s.shape}" for i, s in enumerate(everything[:10]))
        raise ImageError(f"{path} has no series {number}; it has: {names}.")
    levels = _pyramid(everything, number)
    page = levels[0].keyframe
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise ImageError(f"{path} stores palette indices, not colours; convert it to RGB or gray and open that.")
    for level in levels:
        _check_complete(level, path)
    cache = PieceCache()
    arrays = tuple(_lazy_level(level, i, path, cache) for i, level in enumerate(levels))
    contents = Contents(
        levels=arrays,
        axes=_axes(levels[0]),
        identity=identity,
        pixel_size_um=_pixel_size_um(tif, page, number),
        depth_um=_depth_um(tif, number),
        channel_names=_ome_channels(tif, number),
        nodata=float(page.nodata) if _GDAL_NODATA in page.tags and np.isfinite(page.nodata) else None,
        geo=read_georeference({code: page.tags[code].value for code in GEO_TAGS if code in page.tags}),
    )
    _close_after(arrays, tif)
    return contents


def _close_after(levels: tuple[LazyArray, ...], tif: tifffile.TiffFile) -> None:
    """Close the file when the last level that reads from it is gone; tifffile leaves it open until told."""
    stores = [level.store for level in levels if isinstance(level, zarr.Array)]
    remaining = [len(stores)]
    for store in stores:
        weakref.finalize(store, _release, remaining, tif)
    if not stores:
        tif.close()


def _release(remaining: list[int], tif: tifffile.TiffFile) -> None:
    remaining[0] -= 1
    if remaining[0] == 0:
        tif.close()


def _pyramid(everything: list[tifffile.TiffPageSeries], number: int) -> list[tifffile.TiffPageSeries]:
    """The levels of a series: its own, or the pages behind it if each repeats it smaller by a power of two."""
    series = everything[number]
    levels = list(series.levels)
    if len(levels) > 1 or len(series.pages) > 1:
        return levels
    for other in everything[number + 1 :]:
        same_kind = other.axes == series.axes and other.dtype == series.dtype and len(other.pages) == 1
        smaller = prod(other.shape) < prod(levels[-1].shape)
        if same_kind and smaller and is_reduction(series.axes, series.shape, other.shape):
            levels.append(other)
    return levels


def _lazy_level(level: tifffile.TiffPageSeries, number: int, path: Path, cache: PieceCache) -> LazyArray:
    page = level.keyframe
    offset = None if level.transform is not None or level.is_multifile else level.dataoffset
    if offset is not None:
        stored = np.dtype(level.dtype).newbyteorder(page.parent.byteorder)
        needed = offset + prod(level.shape) * stored.itemsize
        _check_length(needed, path)
        return ContiguousLevel(path, offset, tuple(level.shape), stored)
    piece_bytes = prod(page.chunks) * np.dtype(level.dtype).itemsize
    if piece_bytes > _LARGEST_PIECE_BYTES:
        raise ImageError(
            f"{path} is compressed in pieces of {piece_bytes / 2**30:.1f} GiB, which cannot be read in parts; save it "
            "as a tiled TIFF or as OME-Zarr."
        )
    return zarr.open_array(store=CachedTiffStore(level, number, cache), mode="r", zarr_format=2)


def _check_complete(level: tifffile.TiffPageSeries, path: Path) -> None:
    """Raise where the tiles of a level's first or last page reach beyond the end of the file."""
    if level.is_multifile:
        return
    for page in (level.pages[0], level.pages[-1]):
        if page is not None and len(page.dataoffsets):
            _check_length(max(at + n for at, n in zip(page.dataoffsets, page.databytecounts, strict=False)), path)


def _check_length(needed: int, path: Path) -> None:
    there = path.stat().st_size
    if needed > there:
        raise ImageError(f"{path} is truncated: its pixels need {needed} bytes, the file has {there}; copy it again.")


def _axes(series: tifffile.TiffPageSeries) -> str:
    """Our letters for tifffile's: unnamed axes are depth, then time; samples that are no colours are channels."""
    axes = str(series.axes)
    for unnamed in "IQ":
        for letter in "ZT":
            if axes.count(unnamed) and letter not in axes:
                axes = letter.join(axes.rsplit(unnamed, 1))
    page = series.keyframe
    colours = page.photometric in (
        tifffile.PHOTOMETRIC.RGB,
        tifffile.PHOTOMETRIC.YCBCR,
        tifffile.PHOTOMETRIC.CIELAB,
    )
    samples = series.shape[axes.index("S")] if "S" in axes else 0
    has_alpha = samples == 2 and page.extrasamples and page.extrasamples[0] in _ALPHA_SAMPLES
    if samples > 1 and "C" not in axes and not (colours and samples <= 4) and not has_alpha:
        axes = axes.replace("S", "C")
    return axes


def _pixel_size_um(tif: tifffile.TiffFile, page: tifffile.TiffPage, series: int) -> tuple[float, float] | None:
    """(y, x) from OME-XML, ImageJ's unit, Aperio's description, or a resolution in centimetres.

    A resolution in inches is not used: most programs write a printing resolution there.
    """
    pixels = _pixels_attributes(tif, series)
    if pixels is not None and pixels.get("PhysicalSizeX") and pixels.get("PhysicalSizeY"):
        sizes = float(pixels["PhysicalSizeY"]), float(pixels["PhysicalSizeX"])
        return pixel_size(sizes, (pixels.get("PhysicalSizeYUnit", "um"), pixels.get("PhysicalSizeXUnit", "um")))
    if found := re.search(r"\bMPP\s*=\s*([0-9.]+)", page.description if tif.is_svs else ""):
        return pixel_size((float(found[1]), float(found[1])), ("um", "um"))
    per_pixel = tuple(_size_of(page.tags.get(name)) for name in ("YResolution", "XResolution"))
    unit = str((tif.imagej_metadata or {}).get("unit", "")) if tif.is_imagej else None
    if unit is None and page.tags.get("ResolutionUnit") and page.tags["ResolutionUnit"].value == 3:
        unit = "cm"
    return pixel_size((per_pixel[0], per_pixel[1]), (unit, unit))


def _depth_um(tif: tifffile.TiffFile, series: int) -> float | None:
    """Distance of planes along Z from OME-XML, or ImageJ's spacing and unit."""
    pixels = _pixels_attributes(tif, series)
    if pixels is not None:
        return length_um(float(pixels.get("PhysicalSizeZ", 0)), pixels.get("PhysicalSizeZUnit", "um"))
    about = tif.imagej_metadata or {} if tif.is_imagej else {}
    return length_um(float(about.get("spacing", 0)), str(about.get("unit", "")))


def _size_of(tag: tifffile.TiffTag | None) -> float:
    """Length of a pixel from a tag that holds pixels a unit as a fraction; 0 if there is none."""
    if tag is None or not isinstance(tag.value, tuple) or len(tag.value) != 2 or not tag.value[0]:
        return 0.0
    return float(tag.value[1] / tag.value[0])


def _pixels_element(tif: tifffile.TiffFile, series: int) -> ET.Element | None:
    """The Pixels element of an image in OME-XML."""
    if not tif.is_ome or not tif.ome_metadata:
        return None
    try:
        root = ET.fromstring(tif.ome_metadata)
    except ET.ParseError:
        return None  # the pixels are readable all the same; only sizes and names are lost
    found = root.findall("{*}Image/{*}Pixels")
    return found[series] if series < len(found) else None


def _pixels_attributes(tif: tifffile.TiffFile, series: int) -> dict[str, str] | None:
    pixels = _pixels_element(tif, series)
    return None if pixels is None else dict(pixels.attrib)


def _ome_channels(tif: tifffile.TiffFile, series: int) -> tuple[str, ...]:
    pixels = _pixels_element(tif, series)
    channels = [] if pixels is None else pixels.findall("{*}Channel")
    names = [channel.get("Name") or "" for channel in channels]
    return tuple(names) if any(names) else ()
