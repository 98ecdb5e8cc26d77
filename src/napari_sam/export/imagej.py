"""Outlines of objects as a ROI zip, which ImageJ's and Fiji's ROI Manager opens."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import OutputError
from napari_sam.export.polygons import Polygon, Ring, iter_polygons
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.labels import PaintableObjects
from napari_sam.tiling.writing import atomic_path

_MOVE_TO, _LINE_TO, _CLOSE = 0.0, 1.0, 4.0
"""Java's codes for the segments of a path, of which a composite ROI is made."""
_LARGEST_OFFSET_PX = 2**15 - 1
"""Corners are stored as 16-bit offsets from the ROI's corner; a wider object gets 32-bit floats besides."""


def write_roi_zip(objects: PaintableObjects, path: str | os.PathLike[str], *, progress: Progress | None = None) -> Path:
    """Write one ROI an object, named by its label, following the pixel edges exactly.

    An object of one piece without holes is a traced ROI, as ImageJ's wand makes it; any other is a composite ROI with
    all its rings. Coordinates are pixels as ImageJ counts them: (0, 0) is the outer corner of the first pixel.
    Overlapping objects are all written; ones without pixels are left out. One batch of masks is in memory at a time.

    Parameters
    ----------
    objects : PaintableObjects
    path : path
        NAME.zip; an existing file is replaced when the new one is complete.
    progress : callable, optional
        Called with (objects done, objects in all).

    Raises
    ------
    OutputError
        If the name ends otherwise, roifile is not installed, or the disk refuses.
    """
    target = Path(path)
    check_roi_path(target)
    total = len(objects.table.label)
    digits = len(str(int(objects.table.label.max(initial=0))))
    with atomic_path(target) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for row, label, _, polygons in iter_polygons(objects):
            if polygons:
                name = f"{label:0{digits}d}"
                # Not by name alone: that would store the time, and the same objects would give other bytes each time.
                entry = zipfile.ZipInfo(f"{name}.roi")
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, _roi(polygons, name).tobytes())
            if progress is not None:
                progress(row + 1, total)
    return target


def check_roi_path(path: str | os.PathLike[str]) -> None:
    """Refuse what :func:`write_roi_zip` could not write; to be asked before a long run.

    Raises
    ------
    OutputError
        If the name does not end in .zip, or roifile is not installed.
    """
    if Path(path).suffix.lower() != ".zip":
        raise OutputError(f"ROIs for ImageJ go into a zip file, got {path}; let the name end in .roi.zip.")
    _roifile(path)


def _roi(polygons: list[Polygon], name: str) -> Any:
    roifile = _roifile(name)
    rings = [ring for polygon in polygons for ring in polygon.rings]
    if len(rings) > 1:
        return _composite(rings, name)
    corners = rings[0][:-1]
    is_wide = np.ptp(corners, axis=0).max() > _LARGEST_OFFSET_PX
    roi = roifile.ImagejRoi.frompoints(corners.astype(np.float64) if is_wide else corners, name=name)
    roi.roitype = roifile.ROI_TYPE.TRACED
    return roi


def _composite(rings: list[Ring], name: str) -> Any:
    """Rings filled by the even-odd rule, as ImageJ fills a composite: an inner one is a hole."""
    roifile = _roifile(name)
    corners = np.concatenate(rings)
    roi = roifile.ImagejRoi()
    roi.roitype, roi.name = roifile.ROI_TYPE.RECT, name
    roi.left, roi.top = (int(v) for v in corners.min(axis=0))
    roi.right, roi.bottom = (int(v) for v in corners.max(axis=0))
    segments = np.concatenate([_segments(ring) for ring in rings])
    roi.multi_coordinates, roi.shape_roi_size = segments, len(segments)
    return roi


def _segments(ring: Ring) -> NDArray[np.float32]:
    """Move to the first corner, lines to the others, close."""
    steps = np.full((len(ring) - 1, 3), _LINE_TO, dtype=np.float32)
    steps[0, 0] = _MOVE_TO
    steps[:, 1:] = ring[:-1]
    return np.append(steps.ravel(), np.float32(_CLOSE))


def _roifile(wanted: str | os.PathLike[str]) -> Any:
    """The optional library behind ImageJ's format."""
    try:
        import roifile
    except ImportError as error:
        raise OutputError(
            f"{wanted}: ROIs for ImageJ need roifile, which is not installed; run "
            "`pip install 'napari-sam-tiles[imagej]'`."
        ) from error
    return roifile
