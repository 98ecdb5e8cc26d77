"""What is measured of objects besides what a table always has: intensities of every channel, sizes and forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ConfigError
from napari_sam.export import measure_intensities, measure_shapes
from napari_sam.geometry import Box
from napari_sam.images import ImageSource, Plane
from napari_sam.tiling.labels import PaintableObjects
from napari_sam.workflows.settings import SegmentConfig, SegmentPaths

_CHANNELS_AT_ONCE = 3


def measured_columns(
    objects: PaintableObjects, plane: Plane, *, intensities: bool, shapes: bool
) -> dict[str, NDArray[Any]]:
    """Further columns for the table of `objects`, those that are asked for.

    Parameters
    ----------
    objects : PaintableObjects
    plane : Plane
        The picture they were found in. Intensities are those of *all* channels of its time and depth, as stored; sizes
        are in micrometres too where its pixel size is known.
    intensities, shapes : bool
        See :func:`napari_sam.export.measure_intensities` and :func:`napari_sam.export.measure_shapes`.
    """
    source = plane.source
    columns: dict[str, NDArray[Any]] = {}
    if shapes:
        columns |= measure_shapes(objects, pixel_size_um=source.pixel_size_um)
    if intensities:
        columns |= measure_all_channels(objects, plane)
    return columns


def measure_all_channels(objects: PaintableObjects, plane: Plane) -> dict[str, NDArray[Any]]:
    """Intensities of every channel the image of `plane` has at its time and depth."""
    source = plane.source
    read = read_all_channels(source, plane.t, plane.z)
    return measure_intensities(objects, read, channel_names=source.channel_names)


def read_all_channels(source: ImageSource, t: int, z: int) -> Callable[[Box], NDArray[Any]]:
    """Function from a box to its pixels in all C channels, (h, w, C), as stored: a `Plane` has three at most."""
    count = len(source.channel_names)
    starts = range(0, count, _CHANNELS_AT_ONCE)
    planes = [source.plane(t, z, range(start, min(start + _CHANNELS_AT_ONCE, count))) for start in starts]
    return lambda box: np.concatenate([plane.read_raw(box) for plane in planes], axis=2)


def check_measured(config: SegmentConfig, paths: SegmentPaths) -> None:
    """Refuse measurements that nothing would be written of (ConfigError)."""
    wanted = [name for name in ("intensities", "shapes") if getattr(config, name)]
    if wanted and paths.table is None:
        raise ConfigError(
            f"{' and '.join(wanted)} would be columns of the object table, which is not asked for; give a table as "
            "well, such as table='objects.csv'."
        )
