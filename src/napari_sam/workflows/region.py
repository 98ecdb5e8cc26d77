"""A region of interest drawn in a viewer, as the file that :func:`napari_sam.segment` takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError
from napari_sam.tiling.writing import write_bytes


def write_region(polygons_xy: Sequence[NDArray[np.float64]], path: Path) -> Path:
    """Write polygons as GeoJSON, whose origin is the corner of the first pixel.

    Parameters
    ----------
    polygons_xy : sequence of ndarray of shape (N, 2)
        Corners as (x, y) where whole numbers are the centres of pixels, as napari has them.
    path : Path
        NAME.geojson.

    Raises
    ------
    ImageError
        If there is no polygon, or one has fewer than three corners.
    """
    if not polygons_xy or any(len(corners) < 3 for corners in polygons_xy):
        raise ImageError(
            f"a region needs polygons of three or more corners, got {[len(p) for p in polygons_xy]}; draw one."
        )
    rings = [[[*(corners + 0.5).tolist(), (corners[0] + 0.5).tolist()]] for corners in polygons_xy]
    write_bytes(path, json.dumps({"type": "MultiPolygon", "coordinates": rings}).encode())
    return path
