"""A journal of an annotation session as a label image and a table, without a window, a model or the image."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.annotate.painted import PaintedObjects
from napari_sam.annotate.session import Replayed, SessionConfig, replay
from napari_sam.errors import OutputError
from napari_sam.export import TIFF_SUFFIXES, check_table_path, check_tiff_path, write_label_tiff, write_table
from napari_sam.images.urls import local_path
from napari_sam.tiling import ObjectTable
from napari_sam.tiling.labels import write_labels
from napari_sam.workflows.file_layers import plain_stem
from napari_sam.workflows.label_stacks import check_output_path, write_stack_tiff, write_stack_zarr


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What `replay_journal` wrote."""

    labels: Path
    table: Path
    objects: int
    dropped: str
    """What was left out of the journal and why; empty if nothing was."""


def replay_journal(
    journal: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str] | None = None,
    config: SessionConfig | None = None,
) -> ReplayResult:
    """Write what a session's journal comes to: its label image, and a table of its objects.

    The labels are those of the session, pixel for pixel. No array of the image's size is made.

    Parameters
    ----------
    journal : path
        Of a session that has ended, was killed, or goes on.
    output : path
        NAME.ome.zarr (any size), or NAME.tif (up to a gigapixel); must not exist.
    table : path, optional
        NAME.csv or NAME.parquet; by default NAME.csv beside the output. Objects of stacks have one row a plane, and
        columns that say which.
    config : SessionConfig, optional
        Memory of the replay.

    Returns
    -------
    ReplayResult

    Raises
    ------
    JournalError
        If the journal is damaged before its end.
    OutputError
        If something is there already, the name ends otherwise, or the disk refuses.
    """
    target = local_path(output)
    rows = Path(table) if table is not None else target.with_name(f"{plain_stem(target)}.csv")
    check_output_path(target)
    check_table_path(rows)
    if table is None and rows.exists():
        raise OutputError(f"{rows} already exists; name another table, or move it away.")
    result = replay(journal, config=config)
    try:
        if target.suffix.lower() in TIFF_SUFFIXES:
            check_tiff_path(target, result.labels.frame_size)
        painted = _write(result, target)
        write_table(
            _joined_table(painted), rows, pixel_size_um=_pixel_size(result), intensities=_plane_columns(result, painted)
        )
    finally:
        result.labels.close()
    return ReplayResult(target, rows, len(result.objects), result.dropped)


def _write(result: Replayed, target: Path) -> list[PaintedObjects]:
    """Write the labels; returns the objects of each plane."""
    size, labels = _pixel_size(result), result.labels
    is_tiff = target.suffix.lower() in TIFF_SUFFIXES
    if labels.ndim == 2:
        objects = PaintedObjects(labels, result.objects)
        if is_tiff:
            write_label_tiff(objects, target, pixel_size_um=size)
        else:
            write_labels(objects, target, pixel_size_um=size)
        return [objects]
    axes = str(result.header.image["leading_axes"])
    (write_stack_tiff if is_tiff else write_stack_zarr)(labels, target, axes=axes, pixel_size_um=size)
    return [PaintedObjects(labels, result.objects, plane) for plane in labels.planes()]


def _joined_table(planes: list[PaintedObjects]) -> ObjectTable:
    names = ObjectTable.column_names()
    parts = {name: [objects.table.columns()[name] for objects in planes] for name in names}
    columns: dict[str, Any] = {name: np.concatenate(own) if own else [] for name, own in parts.items()}
    return ObjectTable(**columns)


def _plane_columns(result: Replayed, planes: Iterable[PaintedObjects]) -> dict[str, Any]:
    """Which plane each row is of: a column t, z or both."""
    letters = str(result.header.image["leading_axes"]).lower()
    indices = [objects.plane for objects in planes for _ in range(len(objects.table))]
    return {letter: np.array([index[i] for index in indices], dtype=np.int64) for i, letter in enumerate(letters)}


def _pixel_size(result: Replayed) -> tuple[float, float] | None:
    size = result.header.image["pixel_size_um"]
    return None if size is None else (float(size[0]), float(size[1]))
