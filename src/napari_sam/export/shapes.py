"""Sizes and forms of objects, as columns of the object table."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from skimage.measure import regionprops

from napari_sam.export.polygons import Polygon, iter_polygons
from napari_sam.export.table import Columns
from napari_sam.geometry import Mask
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.labels import PaintableObjects, check_pixel_size

_LENGTHS = ("equivalent_diameter", "major_axis", "minor_axis", "perimeter")
_NUMBERS = ("eccentricity", "orientation", "concavity")


def measure_shapes(
    objects: PaintableObjects,
    *,
    pixel_size_um: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> Columns:
    """Lengths and forms of each object, as scikit-image's `regionprops` defines them, one mask in memory at a time.

    Parameters
    ----------
    objects : PaintableObjects
    pixel_size_um : (float, float), optional
        (y, x) size of a pixel in micrometres; adds a column NAME_um for each length (not for the perimeter where
        pixels are not square: it is not defined there).
    progress : callable, optional
        Called with (objects done, objects in all).

    Returns
    -------
    dict of name to ndarray of shape (N,), float64
        equivalent_diameter_px, major_axis_px, minor_axis_px, perimeter_px; eccentricity in [0, 1]; orientation, the
        angle of the major axis to the rows' direction in radians; concavity, 1 - area / area of the convex hull
        (paper, section 5). NaN for objects without pixels.

    Raises
    ------
    ConfigError
        If the pixel size is not positive.
    """
    check_pixel_size(pixel_size_um)
    total = len(objects.table)
    names = [f"{name}_px" for name in _LENGTHS] + list(_NUMBERS)
    values = np.full((total, len(names)), np.nan)
    lengths_um = np.full((total, len(_LENGTHS)), np.nan)
    for row, _, mask, polygons in iter_polygons(objects):
        if polygons:
            values[row] = [*_lengths(mask, (1.0, 1.0)), *_form(mask), concavity(mask, polygons)]
            if pixel_size_um is not None:
                lengths_um[row] = _lengths(mask, pixel_size_um)
        if progress is not None:
            progress(row + 1, total)
    columns = dict(zip(names, values.T, strict=True))
    if pixel_size_um is not None:
        is_square = pixel_size_um[0] == pixel_size_um[1]
        kept = _LENGTHS if is_square else _LENGTHS[:-1]
        columns |= {f"{name}_um": lengths_um[:, i] for i, name in enumerate(kept)}
    return columns


def concavity(mask: Mask, polygons: Iterable[Polygon]) -> float:
    """1 - area / area of the convex hull of a mask's pixels, from its polygons; 0 for a convex one, never below.

    The hull is that of the pixels' corners, so it is never thinner than a pixel.
    """
    corners = np.concatenate([polygon.exterior[:-1] for polygon in polygons])
    # In two dimensions scipy's "volume" is the area.
    return max(0.0, 1 - mask.area / float(ConvexHull(corners).volume))


def _lengths(mask: Mask, spacing: tuple[float, float]) -> list[float]:
    (region,) = regionprops(_pixels(mask), spacing=spacing)
    perimeter = region.perimeter if spacing[0] == spacing[1] else np.nan
    return [region.equivalent_diameter_area, region.axis_major_length, region.axis_minor_length, perimeter]


def _form(mask: Mask) -> list[float]:
    (region,) = regionprops(_pixels(mask))
    return [region.eccentricity, region.orientation]


def _pixels(mask: Mask) -> NDArray[np.uint8]:
    return mask.rle.decode().astype(np.uint8)
