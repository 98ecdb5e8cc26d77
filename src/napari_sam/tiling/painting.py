"""A part of a label image, painted from the run lengths of the objects in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Box
from napari_sam.geometry.runs import MaskRuns, Strips, draw
from napari_sam.geometry.suppression import chunks_by_total
from napari_sam.tiling.objects import MergedObjects
from napari_sam.tiling.pyramid import LabelPlace
from napari_sam.tiling.stored_objects import MaskFiles, ObjectRows, StoredObjects

LabelArray = NDArray[np.uint32] | NDArray[np.uint64]
AnyLabels = NDArray[np.integer[Any]]

_PIXELS_AT_ONCE = 1 << 18
"""Of the boxes of masks painted in one go: some 10 MB of indices."""


def paint_runs(labels: AnyLabels, runs: MaskRuns, box: Box, dtype: np.dtype[Any] | type) -> LabelArray:
    """Labels of the pixels in `box` (whole-image pixels), (box.height, box.width); of masks that overlap the later one
    of `runs` wins."""
    canvas = np.zeros((box.height, box.width), dtype)
    parts = np.concatenate(
        [np.maximum(runs.boxes[:, :2], [box.x0, box.y0]), np.minimum(runs.boxes[:, 2:], [box.x1, box.y1])], axis=1
    )
    areas = np.maximum(parts[:, 2:] - parts[:, :2], 0).prod(axis=1)
    for some in chunks_by_total(areas, _PIXELS_AT_ONCE):
        batch = runs.take(np.arange(some.start, some.stop))
        if areas[some].sum() > _PIXELS_AT_ONCE:  # a single one
            part = Box(*parts[some.start].tolist())
            canvas[part.shifted(-box.x0, -box.y0).slices][draw(batch.strips(), part)] = labels[some.start]
        else:
            owner, pixels = pixels_of(batch.strips(), box)
            # Where an index comes twice numpy keeps the last value: the mask painted later.
            canvas.reshape(-1)[pixels] = labels[some].astype(dtype)[owner]
    return canvas


def pixels_of(strips: Strips, box: Box) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pixel of `strips` inside `box`: its owner, ascending, and its place in the raveled box."""
    strips = strips.clipped(box)
    lengths = strips.lengths
    first = (strips.row0 - box.y0 - (np.cumsum(lengths) - lengths)) * box.width + strips.column - box.x0
    pixels = np.repeat(first, lengths) + np.arange(lengths.sum()) * box.width
    return np.repeat(strips.owner, lengths), pixels


@dataclass(frozen=True, slots=True, eq=False)
class Painting:
    """What is painted in one shard: some 20 bytes an object."""

    box: Box
    """Whole-image pixels."""
    labels: AnyLabels
    rows: ObjectRows
    """Where the masks are; in painting order."""

    @classmethod
    def of(cls, objects: MergedObjects, stored: StoredObjects, box: Box, *, dtype: np.dtype[Any]) -> Painting:
        """What the objects show in `box`; nothing is read for it."""
        rows = objects.rows_in(box)
        return cls(box, objects.table.label[rows].astype(dtype), stored.rows.taken(rows))


@dataclass(frozen=True, slots=True, eq=False)
class PaintShard:
    """Paints shards of full resolution from the files of a run, wherever it is sent."""

    place: LabelPlace
    files: MaskFiles

    @property
    def folders(self) -> tuple[Path, ...]:
        return (*self.place.folders, self.files.folder.resolve())

    def __call__(self, painting: Painting) -> None:
        runs, box = self.files.runs(painting.rows), painting.box
        self.place.write(0, box, paint_runs(painting.labels, runs, box, painting.labels.dtype))
