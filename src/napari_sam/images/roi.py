"""The region of an image that is to be segmented: a mask image, or polygons drawn in a viewer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError
from napari_sam.geometry import Box
from napari_sam.images.arrays import reason
from napari_sam.images.plane import Plane
from napari_sam.images.source import ImageInput, open_image

_GEOJSON_SUFFIXES = (".geojson", ".json")
_SHAPES = "Polygon, MultiPolygon, Feature, FeatureCollection and GeometryCollection"

# One polygon of GeoJSON: its outline, then its holes, each (N, 2) as (x, y).
Rings = tuple[NDArray[np.float64], ...]


class Roi(Protocol):
    """A region of interest of one image."""

    def mask(self, box: Box) -> NDArray[np.bool_]:
        """Which pixels of `box` (full resolution, inside the image) belong to it; (h, w)."""

    def overlaps(self, box: Box) -> bool:
        """Whether any pixel of `box` belongs to it."""


@dataclass(frozen=True, slots=True)
class MaskRoi:
    """A region given by an image: every pixel that is not 0 belongs to it."""

    plane: Plane
    """The mask; one of its pixels stands for `factor` x `factor` pixels of the image."""
    factor: int

    def mask(self, box: Box) -> NDArray[np.bool_]:
        """Which pixels of `box` belong to the region."""
        f, (height, width) = self.factor, self.plane.shape
        # A mask made by dropping the image's last, partial block answers for it with its own last row or column.
        rows = np.minimum(np.arange(box.y0, box.y1) // f, height - 1)
        columns = np.minimum(np.arange(box.x0, box.x1) // f, width - 1)
        small = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        inside = (self.plane.read_raw(small) != 0).any(axis=2)
        return np.asarray(inside[np.ix_(rows - small.y0, columns - small.x0)])

    def overlaps(self, box: Box) -> bool:
        """Whether any pixel of `box` belongs to the region."""
        return bool(self.mask(box).any())


@dataclass(frozen=True, slots=True)
class PolygonRoi:
    """A region given by polygons: pixels whose centre lies in one of them, outside its holes."""

    polygons: tuple[Rings, ...]
    """In pixels, where (0, 0) is the corner of the first pixel and (0.5, 0.5) its centre, as QuPath writes them."""

    def mask(self, box: Box) -> NDArray[np.bool_]:
        """Which pixels of `box` belong to the region."""
        inside = np.zeros(box.size, np.bool_)
        for rings in self.polygons:
            part = _bounding_box(rings[0]).clipped(box)
            if not part.is_empty:
                rows, columns = part.shifted(-box.x0, -box.y0).slices
                inside[rows, columns] |= _polygon_mask(rings, part)
        return inside

    def overlaps(self, box: Box) -> bool:
        """Whether any pixel of `box` belongs to the region."""
        return bool(self.mask(box).any())


def read_roi(roi: ImageInput, image_shape: tuple[int, int]) -> Roi:
    """A region of interest from a mask or label image, or from GeoJSON polygons.

    Parameters
    ----------
    roi : path or array
        An image of one plane (any format that `open_image` takes) of the image's size or smaller by a whole factor, in
        which 0 is outside; or a .geojson file of polygons in pixels, whose origin is the corner of the first pixel.
    image_shape : (H, W)
        Of the image to be segmented.

    Raises
    ------
    ImageError
        If the file cannot be read, the sizes do not fit, or there is no polygon.
    """
    if isinstance(roi, str | os.PathLike) and Path(roi).suffix.lower() in _GEOJSON_SUFFIXES:
        return PolygonRoi(tuple(_read_polygons(Path(roi))))
    source = open_image(roi)
    plane = source.plane(channels=0)
    factor = _mask_factor(image_shape, plane.shape)
    if factor is None:
        raise ImageError(
            f"the region of interest {source.name} has shape {plane.shape}, the image {tuple(image_shape)}; the region "
            "must have the image's shape, or one smaller by the same whole factor both ways."
        )
    return MaskRoi(plane, factor)


def _mask_factor(image_shape: tuple[int, int], mask_shape: tuple[int, int]) -> int | None:
    """The smallest whole factor by which a mask is smaller than the image, its sides rounded up or down."""
    sides = tuple(zip(image_shape, mask_shape, strict=True))
    factors = range(1, max(image_shape) + 1)
    return next((f for f in factors if all(max(n // f, 1) <= m <= -(-n // f) for n, m in sides)), None)


def _read_polygons(path: Path) -> list[Rings]:
    try:
        found = list(_iter_polygons(json.loads(path.read_text(encoding="utf-8")), path))
    except OSError as error:
        raise ImageError(f"{path} cannot be opened: {error.strerror}. Check the name and its permissions.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{path} is no GeoJSON of polygons ({reason(error)}); export it again.") from error
    if not found:
        raise ImageError(f"{path} holds no polygon, so no pixel would be segmented; draw one or leave the region out.")
    return found


def _iter_polygons(node: Any, path: Path) -> Iterator[Rings]:
    """All polygons below a GeoJSON object; QuPath also writes a bare list of features."""
    if isinstance(node, list):
        for part in node:
            yield from _iter_polygons(part, path)
        return
    kind = node["type"]
    if kind == "FeatureCollection":
        yield from _iter_polygons(node["features"], path)
    elif kind == "GeometryCollection":
        yield from _iter_polygons(node["geometries"], path)
    elif kind == "Feature":
        yield from _iter_polygons(node["geometry"], path)
    elif kind in ("Polygon", "MultiPolygon"):
        for rings in [node["coordinates"]] if kind == "Polygon" else node["coordinates"]:
            if not rings:
                raise ImageError(f"{path} holds a polygon without an outline; export it again.")
            yield tuple(_ring(ring) for ring in rings)
    else:
        raise ImageError(f"{path} holds a {kind!r}; a region of interest is made of {_SHAPES}.")


def _ring(points: Any) -> NDArray[np.float64]:
    ring = np.array([point[:2] for point in points], dtype=np.float64)
    if ring.ndim != 2 or len(ring) < 3 or not np.isfinite(ring).all():
        raise ValueError(f"a ring needs three or more finite points, got {len(ring)}")
    return ring


def _bounding_box(ring: NDArray[np.float64]) -> Box:
    return Box.from_xyxy([*ring.min(axis=0), *ring.max(axis=0)])


def _polygon_mask(rings: Rings, box: Box) -> NDArray[np.bool_]:
    """Which pixel centres of `box` lie inside an odd number of the rings: in the outline and in no hole."""
    crossings = np.zeros((box.height, box.width + 1), np.int64)
    for ring in rings:
        rows, x = _edge_crossings(ring, box.y0, box.y1)
        columns = np.clip(np.ceil(x - 0.5) - box.x0, 0, box.width).astype(int)
        np.add.at(crossings, (rows - box.y0, columns), 1)
    # A centre is inside a ring if an odd number of its edges lie to the left.
    return np.asarray(crossings[:, :-1].cumsum(axis=1) % 2 == 1)


def _edge_crossings(ring: NDArray[np.float64], top: int, bottom: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where edges of a ring cross the lines through pixel centres of rows `top:bottom`: row and x of each crossing."""
    start, end = ring, np.roll(ring, -1, axis=0)
    y = np.stack([start[:, 1], end[:, 1]])
    # Half-open in y, so that a corner on a line counts for one of its two edges.
    first, last = np.clip(np.ceil([y.min(axis=0) - 0.5, y.max(axis=0) - 0.5]), top, bottom).astype(np.int64)
    counts = last - first
    edges = np.repeat(np.arange(len(ring)), counts)
    rows = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts) + first[edges]
    along = (rows + 0.5 - start[edges, 1]) / (end[edges, 1] - start[edges, 1])
    return rows, start[edges, 0] + along * (end[edges, 0] - start[edges, 0])
