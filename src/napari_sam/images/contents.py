"""What the reader of a format found in a file, before it is checked and becomes an image source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_sam.errors import ImageError
from napari_sam.images.arrays import LazyArray
from napari_sam.images.geo import GeoReference

MICROMETRES = {
    "nanometer": 1e-3,
    "nm": 1e-3,
    "angstrom": 1e-4,
    "micrometer": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "um": 1.0,
    "\u00b5m": 1.0,
    "\u03bcm": 1.0,
    "\\u00b5m": 1.0,
    "millimeter": 1e3,
    "mm": 1e3,
    "centimeter": 1e4,
    "cm": 1e4,
    "meter": 1e6,
    "m": 1e6,
}
"""Length of each unit that OME-XML, OME-Zarr and ImageJ use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Levels of one image and what its file says about them."""

    levels: tuple[LazyArray, ...]
    """Finest first, all with the same axes."""
    axes: str | None
    """One letter an axis of the levels; None where the file does not say."""
    identity: dict[str, Any]
    """What tells this image from another, without reading its pixels."""
    pixel_size_um: tuple[float, float] | None = None
    """(y, x)."""
    channel_names: tuple[str, ...] = ()
    """Empty where the file names none."""
    nodata: float | None = None
    """The value that the file declares to mean "nothing here"."""
    geo: GeoReference | None = None
    depth_um: float | None = None
    """Distance of neighbouring planes along Z."""


def length_um(size: float, unit: str | None) -> float | None:
    """A length in micrometres, or None where the unit is unknown or it is no positive number."""
    factor = MICROMETRES.get(unit.strip().lower()) if unit else None
    return size * factor if factor is not None and 0 < size < float("inf") else None


def pixel_size(sizes: tuple[float, float], units: tuple[str | None, str | None]) -> tuple[float, float] | None:
    """(y, x) in micrometres, or None where a unit is unknown or a size is no positive number."""
    y, x = (length_um(size, unit) for size, unit in zip(sizes, units, strict=True))
    return None if y is None or x is None else (y, x)


def file_identity(path: Path) -> dict[str, Any]:
    """Place, size and time of last change of a file."""
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(f"{path} cannot be opened: {error.strerror}. Check the name and its permissions.") from error
    return {"kind": "file", "path": str(path.resolve()), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
