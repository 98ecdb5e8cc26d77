"""Open an image of any size and format; nothing but its metadata is read until a plane is asked for pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.errors import ImageError
from napari_sam.images.arrays import LazyArray, array_identity, is_array
from napari_sam.images.axes import check_axes, guess_axes
from napari_sam.images.contents import Contents, file_identity
from napari_sam.images.geo import GeoReference
from napari_sam.images.levels import reduction_factor
from napari_sam.images.normalise import Normalisation
from napari_sam.images.ome_zarr import is_zarr, open_zarr
from napari_sam.images.picture import JPEG_MAGIC, PNG_MAGIC, read_picture
from napari_sam.images.plane import Plane
from napari_sam.images.tiff import TIFF_MAGICS, open_tiff
from napari_sam.images.urls import place_of

SUPPORTED = "TIFF, OME-TIFF, slide pyramids (SVS), GeoTIFF, PNG, JPEG, zarr and OME-Zarr folders"
_SAMPLE_NAMES = ("red", "green", "blue", "alpha")

ImageInput = str | os.PathLike[str] | LazyArray | Sequence[LazyArray]


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An opened image: a pyramid of lazy arrays and what its file says about them."""

    name: str
    """Its path, or what kind of array it is; used in messages."""
    axes: str
    """One letter an axis of every level: a subset of TCZYX, and S for the samples of a colour pixel."""
    levels: tuple[LazyArray, ...]
    """Finest first; each has `.shape`, `.dtype` and can be sliced."""
    pixel_size_um: tuple[float, float] | None
    """(y, x) of a pixel of the finest level; None where the file does not say."""
    channel_names: tuple[str, ...]
    """One a channel: of axis C, else of axis S, else a single one."""
    identity: dict[str, Any]
    """Tells this image from another without reading a file's pixels; a JSON object for a run's record."""
    nodata: float | None = None
    """The value that the file declares to mean "nothing here"."""
    geo: GeoReference | None = None
    """Where a GeoTIFF lies on the map."""
    depth_um: float | None = None
    """Distance of neighbouring planes along Z; None where the file does not say."""
    reopen: Callable[[], ImageSource] | None = None
    """Opens the same file again in another process; None for arrays, which are sent as they are."""

    def __reduce__(self) -> tuple[Any, ...]:
        if self.reopen is not None:
            return self.reopen, ()
        fields = (self.name, self.axes, self.levels, self.pixel_size_um, self.channel_names, self.identity)
        return ImageSource, (*fields, self.nodata, self.geo, self.depth_um)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels, in this machine's byte order."""
        stored: np.dtype[Any] = np.dtype(self.levels[0].dtype)
        return stored.newbyteorder("=")

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the finest level."""
        return self.size("Y"), self.size("X")

    def size(self, axis: str, level: int = 0) -> int:
        """Length of one axis of a level; 1 if the image does not have it."""
        return int(self.levels[level].shape[self.axes.index(axis)]) if axis in self.axes else 1

    @property
    def level_factors(self) -> tuple[int | None, ...]:
        """By what power of two each level is smaller; None for a level that fits none or whose other axes differ."""
        return tuple(self._factor(level) for level in range(len(self.levels)))

    def _factor(self, level: int) -> int | None:
        if any(self.size(axis, level) != self.size(axis) for axis in "TCZS"):
            return None
        return reduction_factor(self.shape, (self.size("Y", level), self.size("X", level)))

    def plane(
        self,
        t: int = 0,
        z: int = 0,
        channels: Sequence[int | str] | int | str | None = None,
        *,
        normalisation: Normalisation | None = None,
    ) -> Plane:
        """One picture of the image, as rows and columns of one to three channels.

        Parameters
        ----------
        t, z : int
            Position along time and depth.
        channels : index, name, or up to three of them, optional
            One becomes gray; of two, the first becomes red, the second green and their mean blue; three become red,
            green and blue. None takes what can only be meant: a colour picture without its alpha, or all of up to three
            channels.
        normalisation : Normalisation, optional
            Limits stored by an earlier run; None computes them when they are first needed.

        Raises
        ------
        ImageError
            If `t` or `z` lies outside, a channel does not exist, or there are more than three and none was chosen.
        """
        for axis, position in (("T", t), ("Z", z)):
            if not 0 <= position < self.size(axis):
                raise ImageError(
                    f"{axis.lower()} = {position} lies outside {self.name}, whose axis {axis} has {self.size(axis)} "
                    f"planes; allowed are 0 to {self.size(axis) - 1}."
                )
        chosen = self._automatic_channels() if channels is None else self._chosen_channels(channels)
        return Plane(self, t, z, chosen, normalisation)

    def _automatic_channels(self) -> tuple[int, ...]:
        count = len(self.channel_names)
        if self.has_colour_samples:
            return tuple(range(count - (count % 2 == 0)))
        if count > 3:
            listed = ", ".join(f"{i} {name!r}" for i, name in enumerate(self.channel_names))
            raise ImageError(
                f"{self.name} has {count} channels ({listed}); choose one to three, by index or name, for example "
                "channels=(0,) or channels=(0, 1)."
            )
        return tuple(range(count))

    @property
    def has_colour_samples(self) -> bool:
        """Whether the channels are the samples of a colour or gray pixel, alpha perhaps among them."""
        return "S" in self.axes and self.size("C") == 1

    def _chosen_channels(self, channels: Sequence[int | str] | int | str) -> tuple[int, ...]:
        wanted = (channels,) if isinstance(channels, int | np.integer | str) else tuple(channels)
        listed = ", ".join(f"{i} {name!r}" for i, name in enumerate(self.channel_names))
        if not 1 <= len(wanted) <= 3:
            raise ImageError(f"choose one to three channels, got {len(wanted)}; {self.name} has {listed}.")
        indices = [self.channel_names.index(c) if c in self.channel_names else c for c in wanted]
        unknown = [c for c in indices if not isinstance(c, int | np.integer) or not 0 <= c < len(self.channel_names)]
        if unknown:
            raise ImageError(f"{self.name} has no channel {unknown[0]!r}; it has {listed}.")
        return tuple(int(c) for c in indices)


def open_image(
    path_or_array: ImageInput,
    *,
    axes: str | None = None,
    series: int = 0,
    pixel_size_um: float | tuple[float, float] | None = None,
) -> ImageSource:
    """An image of any size, opened without reading its pixels (PNG and JPEG have no parts and are read whole).

    Parameters
    ----------
    path_or_array : path, array, or list of arrays
        TIFF, OME-TIFF, slide pyramid, GeoTIFF, PNG, JPEG, zarr or OME-Zarr folder; the URL (s3://, gs://, https://) of
        zarr or OME-Zarr; a numpy, dask or zarr array; or the levels of a pyramid, finest first.
    axes : str, optional
        One letter an axis: T time, C channel, Z depth, Y row, X column, S sample of a colour pixel. None takes what the
        file says, or what the shape leaves no doubt about.
    series : int
        Which image of a file that holds several.
    pixel_size_um : float or (y, x), optional
        Overrides what the file says.

    Returns
    -------
    ImageSource

    Raises
    ------
    ImageError
        If it does not exist, is damaged, of another format, or its axes, shape or pixels cannot be used.
    ConfigError
        If a URL has another protocol or credentials in it, or a package for it is not installed.

    Examples
    --------
    >>> source = open_image(np.zeros((3, 20, 30), np.uint16), axes="CYX")
    >>> source.plane(channels=(0, 2)).shape
    (20, 30)
    """
    is_file = isinstance(path_or_array, str | os.PathLike)
    if is_file:
        place = place_of(path_or_array)  # type: ignore[arg-type]
        name = str(place)
        contents = _open_file(place, series) if isinstance(place, Path) else open_zarr(place, series)
    else:
        contents = _open_arrays(path_or_array)  # type: ignore[arg-type]
        name = f"this {contents.identity['kind']} array"
    if pixel_size_um is not None:
        contents = replace(contents, pixel_size_um=_checked_pixel_size(pixel_size_um))
    source = _checked_source(contents, name, axes)
    if is_file:
        where = str(place.resolve() if isinstance(place, Path) else place)
        again = partial(open_image, where, axes=axes, series=series, pixel_size_um=pixel_size_um)
        return replace(source, reopen=again)
    return source


def _open_file(path: Path, series: int) -> Contents:
    if not path.exists():
        raise ImageError(f"there is no file or folder {path}; check the name.")
    if path.is_dir():
        if is_zarr(path):
            return open_zarr(path, series)
        raise ImageError(f"{path} is a folder but no zarr array or group; supported are {SUPPORTED}.")
    identity = file_identity(path)
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise ImageError(f"{path} cannot be opened: {error.strerror}. Check its permissions.") from error
    if start.startswith(TIFF_MAGICS):
        return open_tiff(path, series)
    if not start.startswith((PNG_MAGIC, JPEG_MAGIC)):
        what = "is empty" if not start else f"is of no supported format (it starts with {start!r})"
        raise ImageError(f"{path} {what}; supported are {SUPPORTED}.")
    pixels = read_picture(path)
    return Contents(levels=(pixels,), axes="YXS"[: pixels.ndim], identity=identity)


def _open_arrays(given: LazyArray | Sequence[LazyArray]) -> Contents:
    levels = (given,) if is_array(given) else tuple(given) if isinstance(given, list | tuple) else ()
    if not levels or not all(is_array(level) for level in levels):
        raise ImageError(
            f"an image must be a path, an array, or a list of arrays (levels of a pyramid), got {type(given).__name__}."
        )
    return Contents(levels=levels, axes=None, identity=array_identity(levels))


def _checked_source(contents: Contents, name: str, axes: str | None) -> ImageSource:
    """The contents as a source whose axes, shapes and pixel type can be used."""
    levels = contents.levels
    shape = tuple(int(n) for n in levels[0].shape)
    letters = axes or contents.axes
    letters = check_axes(letters, shape, name) if letters else guess_axes(shape, name)
    if 0 in shape:
        raise ImageError(f"{name} is empty: its shape is {shape}; every axis must have at least one pixel or plane.")
    if np.dtype(levels[0].dtype).kind not in "buif":
        raise ImageError(f"{name} has pixels of type {levels[0].dtype}; allowed are bool, integers and floats.")
    if "S" in letters and "C" not in letters and shape[letters.index("S")] > 4:
        letters = letters.replace("S", "C")
    if {"C", "S"} <= set(letters) and min(shape[letters.index("C")], shape[letters.index("S")]) > 1:
        raise ImageError(
            f"{name} has channels of colour pixels (axes {letters!r}, shape {shape}); open one channel of it, or name "
            "axis S as something else."
        )
    _check_levels(levels, letters, name)
    identity = contents.identity | {"shape": list(shape), "dtype": str(levels[0].dtype), "axes": letters}
    count = shape[letters.index("C")] if "C" in letters else 1
    samples = shape[letters.index("S")] if "S" in letters else 1
    names = _channel_names(contents.channel_names, count, samples)
    geo, nodata, depth = contents.geo, contents.nodata, contents.depth_um
    return ImageSource(name, letters, levels, contents.pixel_size_um, names, identity, nodata, geo, depth)


def _check_levels(levels: tuple[LazyArray, ...], axes: str, name: str) -> None:
    spatial = [axes.index("Y"), axes.index("X")]
    for finer, coarser in pairwise(levels):
        same = len(finer.shape) == len(coarser.shape) and finer.dtype == coarser.dtype
        if not same or 0 in coarser.shape or any(coarser.shape[i] > finer.shape[i] for i in spatial):
            raise ImageError(
                f"the levels of {name} must shrink from one to the next and have the same axes and type, got "
                f"{finer.shape} {finer.dtype} and then {coarser.shape} {coarser.dtype}; stack planes with numpy.stack."
            )


def _channel_names(stored: tuple[str, ...], count: int, samples: int) -> tuple[str, ...]:
    """Names that are there and unique, else the number of the channel, or the colour of the sample."""
    if count == 1 and samples > 1:
        return _SAMPLE_NAMES[:samples] if samples > 2 else ("gray", "alpha")
    usable = len(stored) == count and all(stored) and len(set(stored)) == count
    return stored if usable else tuple(str(i) for i in range(count))


def _checked_pixel_size(size: float | tuple[float, float]) -> tuple[float, float]:
    y, x = (size, size) if isinstance(size, int | float) else size
    if not (0 < y < float("inf") and 0 < x < float("inf")):
        raise ImageError(f"a pixel size must be positive, in micrometres, got {size}; for example 0.5 or (0.5, 0.5).")
    return float(y), float(x)
