"""Choose among the objects of a finished run by their scores and sizes; the model is not asked again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ConfigError
from napari_sam.export import write_table
from napari_sam.tiling import MergedObjects
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.labels import write_labels

Features = Mapping[str, NDArray[Any]]
"""Columns of an object table by name, of which `label`, `predicted_iou`, `stability_score` and `area_px` are read."""
LABEL_SUFFIX = ".ome.zarr"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFilterConfig:
    """Which objects of a finished result stay; the defaults keep all."""

    min_predicted_iou: float = 0.0
    """Keep objects whose predicted IoU, the model's own rating, is at least this."""
    min_stability_score: float = 0.0
    """Keep objects whose stability score is at least this: how little the outline moves with the threshold."""
    min_area_px: int = 0
    """Keep objects of at least this area, in pixels of the image as stored."""
    max_area_px: int | None = None
    """Keep objects of at most this area, in pixels of the image as stored; None sets no limit."""

    def __post_init__(self) -> None:
        for name in ("min_predicted_iou", "min_stability_score", "min_area_px"):
            if not getattr(self, name) >= 0:  # refuses NaN as well
                raise ConfigError(f"{name} must be at least 0, which keeps all, got {getattr(self, name)}.")
        if self.max_area_px is not None and not self.max_area_px >= self.min_area_px:
            raise ConfigError(
                f"max_area_px must be at least min_area_px = {self.min_area_px}, got {self.max_area_px}; "
                "None sets no limit."
            )

    def keeps(self, features: Features) -> NDArray[np.bool_]:
        """Which rows of `features` stay; shape (N,)."""
        area = features["area_px"]
        kept: NDArray[np.bool_] = (
            (features["predicted_iou"] >= self.min_predicted_iou)
            & (features["stability_score"] >= self.min_stability_score)
            & (area >= self.min_area_px)
        )
        return kept if self.max_area_px is None else kept & (area <= self.max_area_px)


@dataclass(frozen=True, slots=True)
class KeptObjects:
    """Where the chosen objects were written."""

    labels: Path
    table: Path
    objects: int


def label_lookup(labels: NDArray[np.integer[Any]], kept: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """A table to index with label values: the label itself where its object is kept, 0 where it is not.

    Parameters
    ----------
    labels : ndarray of shape (N,), int
        Label of each object, at least 1.
    kept : ndarray of shape (N,), bool

    Returns
    -------
    ndarray of shape (largest label + 1,), uint64
        Numbers that are no object's stay as they are.
    """
    lookup = np.arange(int(labels.max(initial=0)) + 1, dtype=np.uint64)
    lookup[labels[~kept]] = 0
    return lookup


def look_up(labels: NDArray[Any], lookup: NDArray[np.uint64]) -> NDArray[Any]:
    """`labels` through a table of :func:`label_lookup`; values beyond its end (drawn by hand) stay as they are."""
    if int(labels.max(initial=0)) < len(lookup):
        return np.take(lookup.astype(labels.dtype), labels)
    known = labels < len(lookup)
    return np.where(known, lookup.astype(labels.dtype)[np.where(known, labels, 0)], labels)


def write_kept(
    objects: MergedObjects,
    kept: NDArray[np.bool_],
    output: str | os.PathLike[str],
    *,
    pixel_size_um: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> KeptObjects:
    """Write the chosen objects as a label image and a table beside `output`, labelled 1 to N again.

    They are painted from their masks: what a dropped object had covered appears. Nothing is replaced: the names are
    NAME.kept.ome.zarr and NAME.kept.csv, then NAME.kept-2.ome.zarr and so on.

    Parameters
    ----------
    objects : MergedObjects
        Of a finished run; its masks are read from the run's ledger.
    kept : ndarray of shape (N,), bool
        One a row of the objects' table.
    output : path
        Label image of that run.
    pixel_size_um : (float, float), optional
        (y, x) size of a pixel in micrometres.
    progress : function (done, total), optional

    Raises
    ------
    ConfigError
        If nothing is kept, or `kept` has another length than the table.
    LedgerError
        If the run's ledger is gone.
    OutputError
        If the disk refuses.
    """
    if np.shape(kept) != (len(objects),):
        raise ConfigError(f"there are {len(objects)} objects to choose from, got a choice of shape {np.shape(kept)}.")
    if not np.any(kept):
        raise ConfigError(f"none of the {len(objects)} objects passes; lower the limits before writing.")
    chosen = objects.select(np.flatnonzero(kept))
    labels = _free_name(Path(output))
    table = labels.with_name(labels.name.removesuffix(LABEL_SUFFIX) + ".csv")
    write_labels(chosen, labels, pixel_size_um=pixel_size_um, progress=progress)
    write_table(chosen.table, table, pixel_size_um=pixel_size_um)
    return KeptObjects(labels, table, len(chosen))


def _free_name(output: Path) -> Path:
    """NAME.kept.ome.zarr beside `output`, with a number if there is one already."""
    stem = output.name.removesuffix(LABEL_SUFFIX)
    number = 1
    while True:
        name = f"{stem}.kept" if number == 1 else f"{stem}.kept-{number}"
        path = output.with_name(name + LABEL_SUFFIX)
        if not path.exists() and not path.with_name(f"{name}.csv").exists():
            return path
        number += 1
