"""Which tiles hold nothing, so that no model has to look at them."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from napari_sam.errors import ImageError
from napari_sam.images.normalise import Normalisation, valid_pixels


def has_foreground(tile: NDArray[Any], normalisation: Normalisation | None = None) -> bool:
    """Whether a tile shows anything: False if it is all nodata, of one value, or at or below the lower limit.

    Judged by the limits of the whole image, so a tile of faint noise far below the objects is not stretched into
    something; noise that remains visible counts as foreground.

    Parameters
    ----------
    tile : ndarray of shape (h, w, c)
        Raw pixels if `normalisation` is given, otherwise pixels that are normalised already.
    normalisation : Normalisation, optional
        Limits and nodata value of the whole image.

    Raises
    ------
    ImageError
        If the tile has another number of axes or of channels than the normalisation.

    Examples
    --------
    >>> import numpy as np
    >>> has_foreground(np.full((8, 8, 3), 240, np.uint8))
    False
    """
    if tile.ndim != 3:
        raise ImageError(f"a tile must have shape (h, w, c), got {tile.shape}; a gray one is tile[..., None].")
    if normalisation is None:
        pixels = tile.reshape(-1, tile.shape[2])
    else:
        pixels = normalisation.apply(tile)[valid_pixels(tile, normalisation.nodata).any(axis=2)]
    return pixels.size > 0 and bool((pixels != pixels[0]).any())
