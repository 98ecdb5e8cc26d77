"""One contrast for the whole image: limits found once, stored, and applied to every tile, window and training image.

How the limits are chosen (`limits_of` does it, `LOW_PERCENTILE` ... `MIN_SPAN_IN_NOISE` hold the numbers):

- bool images become 0 and 255; uint8 colour images (photographs, stained slides) stay as they are.
- Everything else: the 0.1 and 99.9 percentiles of a sample spread over the whole image, a limit pair for each channel
  (one common pair for the samples of a colour image, so that colours keep their balance). Up to 0.1 % of the pixels may
  be hot without mattering, and bright nuclei that cover 1 % of the image keep nine tenths of their range.
- The span is at least 24 times the pixel noise, so that an image of noise alone stays dim instead of being stretched to
  full contrast. In our 547 gray training images the span is 37 to 900 times the noise where there are objects, and 9
  to 11 times in the three fields without any: the floor changes no image with objects.
- NaN, infinity and declared nodata do not count, and become 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError

LOW_PERCENTILE = 0.1
HIGH_PERCENTILE = 99.9
MIN_SPAN_IN_NOISE = 24.0
MAX_SAMPLES = 2**22
WINDOW_PX = 128

# Beyond this, differences would overflow; no instrument measures there.
_LARGEST = 1e300

# Rounding to whole numbers is itself noise of this size (the standard deviation of a uniform step).
_ROUNDING_NOISE = 12.0**-0.5


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Limits of the whole image; values from `lower` to `upper` become 0 to 255."""

    lower: tuple[float, ...]
    """One value a channel, in the image's own units; it and all below become 0."""
    upper: tuple[float, ...]
    """One value a channel; it and all above become 255. Equal to `lower` for a constant channel, which becomes 0."""
    nodata: float | None = None
    """Pixels with this value in every channel hold no data and become 0."""
    how: str = ""
    """The rule that gave the limits, in words, for the run's record."""

    def __post_init__(self) -> None:
        ordered = all(-np.inf < low <= high < np.inf for low, high in zip(self.lower, self.upper, strict=False))
        if not 1 <= len(self.lower) <= 3 or len(self.lower) != len(self.upper) or not ordered:
            raise ImageError(
                f"a normalisation needs 1 to 3 finite lower limits, each at most its upper limit, got "
                f"{self.lower} and {self.upper}."
            )

    @property
    def is_identity(self) -> bool:
        """Whether uint8 pixels pass unchanged."""
        return self.nodata is None and set(self.lower) == {0.0} and set(self.upper) == {255.0}

    def apply(self, raw: NDArray[Any]) -> NDArray[np.uint8]:
        """Eight-bit colour pixels of raw ones.

        One channel becomes gray; three become red, green and blue; of two, the first becomes red, the second green and
        their mean blue, so that an object of either channel is bright in two colours.

        Parameters
        ----------
        raw : ndarray of shape (h, w, c)
            In the units of `lower` and `upper`, with as many channels.

        Returns
        -------
        ndarray of shape (h, w, 3), uint8

        Raises
        ------
        ImageError
            If the number of channels is not that of the limits.

        Examples
        --------
        >>> Normalisation((10.0,), (20.0,)).apply(np.array([[[5], [15], [30]]]))[0, :, 0]
        array([  0, 128, 255], dtype=uint8)
        """
        if raw.ndim != 3 or raw.shape[2] != len(self.lower):
            raise ImageError(f"this normalisation is for pixels (h, w, {len(self.lower)}), got {raw.shape}.")
        if raw.dtype == np.uint8 and self.is_identity:
            return to_rgb(raw)
        wide = np.float64 if raw.dtype.itemsize > 2 else np.float32
        lower: NDArray[Any] = np.array(self.lower, wide)
        upper: NDArray[Any] = np.array(self.upper, wide)
        clipped: NDArray[Any] = np.clip(np.where(valid_pixels(raw, self.nodata), raw, lower).astype(wide), lower, upper)
        rise, span = clipped - lower, upper - lower
        scaled = np.divide(rise, span, out=np.zeros_like(rise), where=span > 0) * 255 + wide(0.5)
        return to_rgb(scaled.astype(np.uint8))

    def to_dict(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return asdict(self) | {"lower": list(self.lower), "upper": list(self.upper)}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Normalisation:
        """The normalisation that `to_dict` wrote; raises ImageError if the object is not one."""
        try:
            lower, upper = (tuple(float(value) for value in stored[key]) for key in ("lower", "upper"))
            nodata = None if stored.get("nodata") is None else float(stored["nodata"])
            return cls(lower, upper, nodata, str(stored.get("how", "")))
        except (KeyError, TypeError, ValueError) as error:
            raise ImageError(
                f"a stored normalisation needs lists 'lower' and 'upper' of numbers, got {stored!r} ({error})."
            ) from error


def to_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colour pixels (h, w, 3) of one to three eight-bit channels (h, w, c)."""
    if pixels.shape[2] == 3:
        return pixels
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    mean = (pixels[..., :1].astype(np.uint16) + pixels[..., 1:] + 1) // 2
    return np.concatenate([pixels, mean.astype(np.uint8)], axis=2)


def valid_pixels(raw: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """Which values count: finite, and not of a pixel that is `nodata` in all its channels; (h, w, c) bool."""
    valid = np.isfinite(raw) if raw.dtype.kind == "f" else np.ones(raw.shape, np.bool_)
    if nodata is not None:
        # Compared in the image's own type: a float32 nodata value is not equal to its decimal text as float64.
        with np.errstate(over="ignore"):
            missing = np.asarray(nodata).astype(raw.dtype) if raw.dtype.kind == "f" else nodata
        valid &= ~np.all(raw == missing, axis=2, keepdims=True)
    return valid


def sample_windows(shape: tuple[int, int], max_samples: int = MAX_SAMPLES) -> list[tuple[slice, slice]]:
    """Windows (rows, columns) spread evenly over an image: all of it if it is small, at most `max_samples` pixels.

    They depend on the image's shape only, never on tiles or on how the file is stored.
    """
    height, width = shape
    if height * width <= max_samples:
        return [(slice(0, height), slice(0, width))]
    h, w = min(height, WINDOW_PX), min(width, WINDOW_PX)
    count = max(1, max_samples // (h * w))
    rows = int(np.clip(np.sqrt(count * (height / h) / (width / w)), 1, min(count, -(-height // h))))
    tops = np.linspace(0, height - h, rows).astype(int)
    lefts = np.linspace(0, width - w, max(1, min(count // rows, -(-width // w)))).astype(int)
    return [(slice(top, top + h), slice(left, left + w)) for top in tops.tolist() for left in lefts.tolist()]


def limits_of(
    windows: Iterable[NDArray[Any]],
    *,
    is_rgb: bool,
    nodata: float | None = None,
    low: float = LOW_PERCENTILE,
    high: float = HIGH_PERCENTILE,
) -> Normalisation:
    """The normalisation that a sample of an image asks for; the rule stands at the top of this file.

    Parameters
    ----------
    windows : iterable of ndarray (h, w, c)
        Raw pixels of one type. They are kept until the percentiles are found.
    is_rgb : bool
        Whether the three channels are the colours of one picture.
    nodata : float, optional
        The value declared to mean "nothing here".
    low, high : float
        Percentiles, in percent.

    Raises
    ------
    ImageError
        If the percentiles are not ordered within [0, 100].
    """
    if not 0 <= low < high <= 100:
        raise ImageError(f"percentiles must satisfy 0 <= low < high <= 100, got low = {low} and high = {high}.")
    kept = list(windows)
    channels, kind = kept[0].shape[2], kept[0].dtype
    if kind == np.bool_:
        return Normalisation((0.0,) * channels, (1.0,) * channels, how="bool: 0 and 1")
    if is_rgb and kind == np.uint8:
        return Normalisation((0.0,) * channels, (255.0,) * channels, nodata, "colour image of 8 bits: unchanged")
    groups = [list(range(channels))] if is_rgb else [[channel] for channel in range(channels)]
    limits = [_limits(kept, group, nodata, low, high) for group in groups for _ in group]
    lower, upper = zip(*limits, strict=True)
    how = f"percentiles {low:g} and {high:g}, span at least {MIN_SPAN_IN_NOISE:g} times the pixel noise"
    return Normalisation(lower, upper, nodata, how)


def normalise_image(array: NDArray[Any]) -> NDArray[np.uint8]:
    """An image in memory as the model sees it: the same contrast rule as for a huge image, from all of its pixels.

    Parameters
    ----------
    array : ndarray of shape (H, W) or (H, W, C), bool, integer or float
        C of 1 is gray, 2 gray and alpha, 3 colour, 4 colour and alpha; alpha is dropped.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8

    Raises
    ------
    ImageError
        If the shape or the type of the pixels is another one, or a side is 0.
    """
    raw = np.asarray(array)
    raw = raw[..., np.newaxis] if raw.ndim == 2 else raw
    if raw.ndim != 3 or raw.shape[2] not in (1, 2, 3, 4) or 0 in raw.shape or raw.dtype.kind not in "buif":
        raise ImageError(
            f"an image must have shape (H, W) or (H, W, C) with C from 1 to 4, no side of 0 and pixels of bool, "
            f"integer or float, got {np.shape(array)} {raw.dtype}; open_image handles stacks and more channels."
        )
    raw = raw[..., : raw.shape[2] - (raw.shape[2] % 2 == 0)]
    windows = (raw[window] for window in sample_windows((raw.shape[0], raw.shape[1])))
    return limits_of(windows, is_rgb=raw.shape[2] == 3).apply(raw)


def _limits(
    windows: list[NDArray[Any]], channels: list[int], nodata: float | None, low: float, high: float
) -> tuple[float, float]:
    """Lower and upper limit of some channels together."""
    # 16 bits fit float32, which halves the memory that the percentiles take.
    wide = np.float64 if windows[0].dtype.itemsize > 2 else np.float32
    values, steps = [], []
    for window in windows:
        valid = valid_pixels(window, nodata)[..., channels]
        part = window[..., channels].astype(wide)
        if wide is np.float64:
            part = np.clip(part, -_LARGEST, _LARGEST)
        values.append(part[valid])
        steps.append(_second_differences(part, valid))
    pixels = np.concatenate(values)
    if pixels.size == 0:
        return 0.0, 0.0
    lower, upper = (float(limit) for limit in np.percentile(pixels, [low, high]))
    if lower == upper and pixels.min() == pixels.max():
        return lower, lower
    differences = np.concatenate(steps)
    noise = float(np.median(differences)) * 1.4826 / 6**0.5 if differences.size else 0.0
    if windows[0].dtype.kind in "ui":
        noise = max(noise, _ROUNDING_NOISE)
    return lower, max(upper, lower + MIN_SPAN_IN_NOISE * noise)


def _second_differences(pixels: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """|a - 2 b + c| along the longer side: for noise of deviation s their median is s * sqrt(6) / 1.4826.

    Gradients cancel, and edges are too rare to move a median; so objects count little and pixel noise counts fully.
    """
    if pixels.shape[0] > pixels.shape[1]:
        pixels, valid = pixels.swapaxes(0, 1), valid.swapaxes(0, 1)
    trios = valid[:, :-2] & valid[:, 1:-1] & valid[:, 2:]
    return np.asarray(np.abs(pixels[:, :-2] - 2 * pixels[:, 1:-1] + pixels[:, 2:])[trios])
