"""Where a GeoTIFF lies on the map: its tags, kept as they are, and the affine map they describe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_PIXEL_SCALE, _TIEPOINT, _TRANSFORMATION = 33550, 33922, 34264
_GEO_KEYS, _GEO_DOUBLES, _GEO_TEXTS = 34735, 34736, 34737
GEO_TAGS = (_PIXEL_SCALE, _TIEPOINT, _TRANSFORMATION, _GEO_KEYS, _GEO_DOUBLES, _GEO_TEXTS)
_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1025, 2048, 3072
_PIXEL_IS_POINT, _USER_DEFINED = 2, 32767


@dataclass(frozen=True, slots=True)
class GeoReference:
    """The georeference of a GeoTIFF."""

    affine: tuple[float, float, float, float, float, float]
    """(a, b, c, d, e, f): a pixel centre (x, y) lies at map (a x + b y + c, d x + e y + f)."""
    epsg: int | None
    """Number of the coordinate system, where the file names one by number."""
    tags: dict[int, tuple[Any, ...] | str]
    """The GeoTIFF tags as stored, to be written into a TIFF of the same pixels."""

    def to_map(self, points_xy: ArrayLike) -> NDArray[np.float64]:
        """Map coordinates (N, 2) of pixel positions (N, 2) as (x, y); whole numbers are pixel centres."""
        a, b, c, d, e, f = self.affine
        x, y = np.asarray(points_xy, dtype=np.float64).T
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)


def read_georeference(tags: dict[int, Any]) -> GeoReference | None:
    """The georeference in a TIFF page's tags (code -> value); None if there is none, or only loose control points."""
    scale, tie, matrix = (tags.get(code) for code in (_PIXEL_SCALE, _TIEPOINT, _TRANSFORMATION))
    keys = _geo_keys(tags.get(_GEO_KEYS))
    if matrix is not None and len(matrix) == 16:
        a, b, c, d, e, f = (float(matrix[i]) for i in (0, 1, 3, 4, 5, 7))
    elif scale is not None and tie is not None and len(scale) >= 2 and len(tie) == 6:
        a, b, d, e = float(scale[0]), 0.0, 0.0, -float(scale[1])
        c, f = float(tie[3]) - a * float(tie[0]), float(tie[4]) - e * float(tie[1])
    else:
        return None
    if keys.get(_RASTER_TYPE) != _PIXEL_IS_POINT:
        # The tags place the corner of pixel (0, 0); our whole numbers are pixel centres.
        c, f = c + (a + b) / 2, f + (d + e) / 2
    code = keys.get(_PROJECTED, keys.get(_GEOGRAPHIC))
    kept = {number: tags[number] for number in GEO_TAGS if number in tags}
    return GeoReference((a, b, c, d, e, f), None if code == _USER_DEFINED else code, kept)


def _geo_keys(directory: Any) -> dict[int, int]:
    """Keys stored as short numbers in the GeoKeyDirectory: rows of (key, where, count, value) after a header row."""
    rows = np.asarray(directory if directory is not None else [], dtype=np.int64)
    rows = rows[: rows.size // 4 * 4].reshape(-1, 4)[1:]
    return {int(key): int(value) for key, where, _, value in rows.tolist() if where == 0}
