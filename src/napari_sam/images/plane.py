"""One picture of an image: any box of it, at any reduction, raw or as the model sees it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError
from napari_sam.geometry import Box
from napari_sam.images.arrays import Key, read_region
from napari_sam.images.levels import MAX_STEP
from napari_sam.images.normalise import (
    HIGH_PERCENTILE,
    LOW_PERCENTILE,
    MAX_SAMPLES,
    Normalisation,
    limits_of,
    sample_windows,
    valid_pixels,
)

if TYPE_CHECKING:
    from napari_sam.images.source import ImageSource

# A reduced view is averaged from pieces of this side, so that its memory does not grow with the box.
_PIECE_PX = 2048
_SAMPLED_PLANES = 8


@dataclass(slots=True)
class Plane:
    """Rows and columns of one time, depth and choice of channels."""

    source: ImageSource
    t: int
    z: int
    channels: tuple[int, ...]
    """One to three indices into `source.channel_names`."""
    stored_normalisation: Normalisation | None = None
    """Limits from elsewhere (a run's record); None computes them once, when they are first needed."""
    _computed: Normalisation | None = field(default=None, compare=False, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the raw pixels."""
        return self.source.dtype

    @property
    def is_rgb(self) -> bool:
        """Whether the three channels are the colours of one picture, whose balance is to be kept."""
        return self.source.has_colour_samples and len(self.channels) == 3

    @property
    def normalisation(self) -> Normalisation:
        """The limits of the whole image, applied to everything that `read` returns."""
        if self.stored_normalisation is not None:
            return self.stored_normalisation
        if self._computed is None:
            self._computed = compute_normalisation(self)
        return self._computed

    def with_normalisation(self, normalisation: Normalisation) -> Plane:
        """The same plane with limits from elsewhere."""
        return replace(self, stored_normalisation=normalisation)

    def read(self, box: Box, step: int = 1) -> NDArray[np.uint8]:
        """Pixels of `box` as the model sees them: normalised by the limits of the whole image.

        Parameters
        ----------
        box : Box
            Full-resolution pixels, inside the image.
        step : int
            Reduction, a power of two; each pixel of the result is the mean of `step` x `step` pixels of the image.

        Returns
        -------
        ndarray of shape (ceil(h / step), ceil(w / step), 3), uint8

        Raises
        ------
        ImageError
            If the box is empty or reaches outside, `step` is no power of two, or the pixels cannot be read.
        """
        return self.normalisation.apply(self.read_raw(box, step))

    def read_raw(self, box: Box, step: int = 1) -> NDArray[Any]:
        """Pixels of `box` in the image's own units; parameters and errors as for `read`.

        The pixels of a reduced view start at the corner of the box. It is read from the coarsest pyramid level whose
        pixels fit: boxes that start at multiples of `step` are the fastest. NaN, infinity and nodata do not take part
        in a mean; where there is nothing else, it is NaN.

        Returns
        -------
        ndarray of shape (ceil(h / step), ceil(w / step), c)
            The image's type at step 1, otherwise float32 (float64 for pixels of more than 16 bits).
        """
        _check_view(box, step, self.shape, self.source.name)
        level, factor = self._level_for(box, step)
        if step == 1:
            return self._read_level(level, box)
        return self._reduced(box, step, level, factor)

    def _level_for(self, box: Box, step: int) -> tuple[int, int]:
        """Number and factor of the coarsest level that has the pixels of this view."""
        best = (0, 1)
        for level, factor in enumerate(self.source.level_factors):
            if factor is None or step % factor or box.x0 % factor or box.y0 % factor or factor <= best[1]:
                continue
            if box.x0 // factor < self.source.size("X", level) and box.y0 // factor < self.source.size("Y", level):
                best = (level, factor)
        return best

    def _reduced(self, box: Box, step: int, level: int, factor: int) -> NDArray[Any]:
        """Block means of the box, made piece by piece."""
        region = Box(
            box.x0 // factor,
            box.y0 // factor,
            min(-(-box.x1 // factor), self.source.size("X", level)),
            min(-(-box.y1 // factor), self.source.size("Y", level)),
        )
        block = step // factor
        piece = max(_PIECE_PX // block, 1) * block
        pieces = (
            [Box(x, y, x + piece, y + piece).clipped(region) for x in range(region.x0, region.x1, piece)]
            for y in range(region.y0, region.y1, piece)
        )
        rows = [[block_means(self._read_level(level, part), block, self.nodata) for part in row] for row in pieces]
        view = np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)
        # A level rounded down lacks the last, partial row or column: repeat the one before it.
        missing = -(-box.height // step) - view.shape[0], -(-box.width // step) - view.shape[1]
        return np.pad(view, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge") if any(missing) else view

    @property
    def nodata(self) -> float | None:
        """The value that means "nothing here", where the file declares one."""
        return self.source.nodata

    def _read_level(self, level: int, box: Box) -> NDArray[Any]:
        """Raw pixels (h, w, c) of a box in the pixels of one level."""
        axes = self.source.axes
        at: dict[str, int | slice] = {"T": self.t, "Z": self.z, "Y": box.slices[0], "X": box.slices[1]}
        own_axis = "S" if self.source.has_colour_samples else "C"
        if own_axis not in axes or axes.index(own_axis) > axes.index("Y"):
            # Interleaved channels are stored together: one reading brings them all.
            first, last = min(self.channels), max(self.channels)
            pixels = self._read_axes(level, at | {own_axis: slice(first, last + 1)})
            return np.asarray(pixels[..., [channel - first for channel in self.channels]])
        return np.concatenate([self._read_axes(level, at | {own_axis: c}) for c in self.channels], axis=2)

    def _read_axes(self, level: int, at: dict[str, int | slice]) -> NDArray[Any]:
        """Pixels as (h, w, channels) from a position or range on each axis."""
        axes = self.source.axes
        key: Key = tuple(at.get(axis, 0) for axis in axes)
        pixels = read_region(self.source.levels[level], key, self.source.name)
        left = [axis for axis, part in zip(axes, key, strict=True) if isinstance(part, slice)]
        pixels = pixels if len(left) == 3 else pixels[..., np.newaxis]
        others = [axis for axis in left if axis not in "YX"]
        order = [left.index("Y"), left.index("X"), *(left.index(axis) for axis in others)]
        return pixels.transpose(*order, *([2] if not others else []))

    def _sampled_planes(self) -> list[Plane]:
        """Planes spread over time and depth, this image's only one if it has but one."""
        count = self.source.size("T") * self.source.size("Z")
        chosen = np.unique(np.linspace(0, count - 1, min(count, _SAMPLED_PLANES)).astype(int)).tolist()
        return [replace(self, t=i // self.source.size("Z"), z=i % self.source.size("Z")) for i in chosen]

    def iter_samples(self, max_samples: int = MAX_SAMPLES) -> Iterator[NDArray[Any]]:
        """Raw windows (h, w, c) spread over the image, at most about `max_samples` pixels, the same for every plane."""
        planes = self._sampled_planes()
        for plane in planes:
            for rows, columns in sample_windows(self.shape, max_samples // len(planes)):
                yield plane.read_raw(Box(columns.start, rows.start, columns.stop, rows.stop))


def compute_normalisation(
    plane: Plane, *, low: float = LOW_PERCENTILE, high: float = HIGH_PERCENTILE, max_samples: int = MAX_SAMPLES
) -> Normalisation:
    """The normalisation of the whole image that `plane` is of; the rule stands in `normalise.py`.

    From a sample spread over the image, of up to eight of its planes, which depends on nothing but the image's shape:
    every tile, window, plane and restart gets the same limits.

    Parameters
    ----------
    plane : Plane
        Says which channels; its time and depth do not matter.
    low, high : float
        Percentiles, in percent.
    max_samples : int
        Pixels looked at; a smaller image is looked at whole. They bound the memory.

    Raises
    ------
    ImageError
        If the percentiles are not ordered within [0, 100], or pixels cannot be read.
    """
    windows = plane.iter_samples(max_samples)
    return limits_of(windows, is_rgb=plane.is_rgb, nodata=plane.nodata, low=low, high=high)


def block_means(pixels: NDArray[Any], block: int, nodata: float | None = None) -> NDArray[Any]:
    """Means of blocks of `block` x `block` pixels of (h, w, c), the last ones of what there is; NaN of nothing valid.

    float32, or float64 for pixels of more than 16 bits.
    """
    wide = np.float64 if pixels.dtype.itemsize > 2 else np.float32
    valid = valid_pixels(pixels, nodata)
    if valid.all():
        heights, widths = (np.diff([*range(0, side, block), side]) for side in pixels.shape[:2])
        return (_block_sums(pixels, block) / np.multiply.outer(heights, widths)[..., np.newaxis]).astype(wide)
    sums, counts = _block_sums(np.where(valid, pixels, 0), block), _block_sums(valid, block)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0).astype(wide)


def _block_sums(pixels: NDArray[Any], block: int) -> NDArray[np.float64]:
    h, w, c = pixels.shape
    rows, columns = -(-h // block), -(-w // block)
    if (rows * block, columns * block) != (h, w):
        pixels = np.pad(pixels, ((0, rows * block - h), (0, columns * block - w), (0, 0)))
    # Whole rows first: they are added at the speed of memory, single blocks are not.
    bands = pixels.reshape(rows, block, columns * block * c).sum(axis=1, dtype=np.float64)
    return np.asarray(bands.reshape(rows, columns, block, c).sum(axis=2))


def _check_view(box: Box, step: int, shape: tuple[int, int], name: str) -> None:
    if not 1 <= step <= MAX_STEP or step & (step - 1):
        raise ImageError(f"step must be a power of two from 1 to {MAX_STEP}, got {step}.")
    if box.is_empty or not (box.x0 >= 0 and box.y0 >= 0 and box.x1 <= shape[1] and box.y1 <= shape[0]):
        raise ImageError(
            f"box ({box.x0}, {box.y0}, {box.x1}, {box.y1}) must hold at least one pixel and lie inside {name}, which "
            f"is {shape[1]} wide and {shape[0]} high; clip it first with Box.clipped."
        )
