"""All planes of a stack or time series segmented one by one, and their masks linked to objects of the whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from napari_sam.annotate.linking import LinkedObject, link_planes
from napari_sam.errors import ConfigError
from napari_sam.export import TIFF_SUFFIXES, check_table_path, write_table
from napari_sam.geometry import Box
from napari_sam.images import ImageSource, open_image
from napari_sam.images.source import ImageInput
from napari_sam.images.urls import local_path
from napari_sam.model import SamModel, load_model
from napari_sam.predict import AutoMaskConfig
from napari_sam.tiling import MergedObjects, ObjectTable, TilingConfig
from napari_sam.workflows.cluster import kept_cluster
from napari_sam.workflows.file_layers import plain_stem
from napari_sam.workflows.label_stacks import check_output_path, check_stack_tiff, write_stack_tiff, write_stack_zarr
from napari_sam.workflows.segmentation import SegmentResult, segment
from napari_sam.workflows.settings import SegmentConfig
from napari_sam.workflows.stack_config import Along
from napari_sam.workflows.stack_config import LinkConfig as LinkConfig  # public here, too: the tutorial has it so
from napari_sam.workflows.stages import StageProgress

PLANES_ENDING = ".planes"
"""The planes' own results lie in the folder OUTPUT.planes."""


@dataclass(frozen=True, slots=True, eq=False)
class StackResult:
    """What `segment_stack` made."""

    labels: da.Array
    """(N, H, W), read from the disk where it is looked at."""
    table: ObjectTable
    """One row an object: its box over all planes, `area_px` in all of them, scores as means weighted by area."""
    extents: dict[str, NDArray[Any]]
    """Where each object lies along the axis: first plane z0 (or t0), one past the last, and the centroid."""
    planes: tuple[SegmentResult, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every tile of every plane was segmented, and every cut object prompted again."""
        return all(plane.is_complete for plane in self.planes)


def segment_stack(
    image_or_path: ImageInput,
    output: str | os.PathLike[str],
    model: str | os.PathLike[str] | SamModel = "nano",
    *,
    device: str = "auto",
    preset: str | None = None,
    automatic: AutoMaskConfig | Mapping[str, Any] | None = None,
    tiling: TilingConfig | None = None,
    config: SegmentConfig | None = None,
    link: LinkConfig | None = None,
    roi: str | os.PathLike[str] | NDArray[Any] | None = None,
    table: str | os.PathLike[str] | None = None,
    restart: bool = False,
    progress: StageProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> StackResult:
    """All objects of a stack or time series, each with one label in all of its planes.

    Every plane is segmented by :func:`napari_sam.segment`; then each mask is linked to at most one of the plane before,
    so that the sum of the links' IoU is as large as possible. Results of the planes are kept in OUTPUT.planes: the same
    call goes on where a stopped one ended, and one with other `link` settings segments nothing again.

    Parameters
    ----------
    image_or_path : path, array, or list of arrays
        See :func:`napari_sam.open_image`; with an axis Z or T.
    output : path
        NAME.ome.zarr (any size), or NAME.tif (up to a gigapixel).
    model, device, preset, automatic, tiling, roi, restart
        See :func:`napari_sam.segment`.
    config : SegmentConfig, optional
        Its `z` (or `t`, along time) is not looked at.
    link : LinkConfig, optional
    table : path, optional
        NAME.csv or NAME.parquet; by default NAME.csv beside the output.
    progress : function (stage, done, total), optional
    should_stop : function, optional
        Asked between tiles.

    Raises
    ------
    ImageError, ConfigError, CheckpointError, OutputError, LedgerError
        If something cannot be used.
    RunInterrupted
        After Ctrl-C or `should_stop`.
    """
    target, link, config = local_path(output), link or LinkConfig(), config or SegmentConfig()
    folder = target.with_name(target.name + PLANES_ENDING)
    rows = Path(table) if table is not None else target.with_name(f"{plain_stem(target)}.csv")
    check_output_path(target, replaceable=restart or folder.is_dir())
    check_table_path(rows)
    source = open_image(image_or_path, axes=config.axes, series=config.series, pixel_size_um=config.pixel_size_um)
    count = _planes_of(source, link)
    if target.suffix.lower() in TIFF_SUFFIXES:
        check_stack_tiff(target, (count, *source.shape))
    tell = progress or _tell_nobody
    # Worker processes load the model themselves, by its name.
    has_processes = config.uses_local_cluster or config.scheduler is not None
    loaded = model if isinstance(model, SamModel) or has_processes else load_model(model, device=device)
    segment_one = partial(
        segment,
        image_or_path,
        model=loaded,
        device=device,
        preset=preset,
        automatic=automatic,
        tiling=tiling,
        roi=roi,
        restart=restart,
        should_stop=should_stop,
    )
    folder.mkdir(parents=True, exist_ok=True)
    planes = []
    with kept_cluster(config) as shared:
        for plane in range(count):
            tell("planes", plane, count)
            chosen = replace(shared, z=plane) if link.along == "z" else replace(shared, t=plane)
            planes.append(segment_one(output=folder / f"{plane:05d}.ome.zarr", config=chosen))
    tell("planes", count, count)
    tell("linking", 0, 1)
    found, extents = _write_linked(planes, link, target, rows, source.pixel_size_um)
    tell("linking", 1, 1)
    written = open_image(target).levels[0]
    return StackResult(da.from_array(written, chunks=(1, 2048, 2048), name=False), found, extents, tuple(planes))


def _write_linked(
    planes: Sequence[SegmentResult],
    link: LinkConfig,
    target: Path,
    rows: Path,
    pixel_size_um: tuple[float, float] | None,
) -> tuple[ObjectTable, dict[str, NDArray[Any]]]:
    """Link what was found in the planes, and write labels and table; returns the table and its further columns."""
    objects = linked_objects([result.objects for result in planes], link)
    labels = LinkedLabels([result.labels for result in planes], lookups(objects, [len(p.table) for p in planes]))
    _write_labels(labels, target, link.along.upper(), pixel_size_um)
    found, extents = linked_table(objects, [result.table for result in planes], link.along)
    write_table(found, rows, pixel_size_um=pixel_size_um, intensities=extents)
    return found, extents


def linked_objects(planes: Sequence[MergedObjects], link: LinkConfig) -> list[LinkedObject]:
    """The objects of a whole stack: which row of which plane belongs to which of them."""
    masks = [[plane.mask(row) for row in range(len(plane))] for plane in planes]
    found = link_planes(masks, iou_thresh=link.link_iou_thresh)
    return [each for each in found if len(each.parts) >= link.least_planes]


def lookups(objects: Sequence[LinkedObject], counts: Sequence[int]) -> list[NDArray[np.uint32]]:
    """For each plane the object (1 to N) of each of its labels, which are 0 to `counts`; 0 for those left out."""
    found = [np.zeros(count + 1, np.uint32) for count in counts]
    for number, each in enumerate(objects, start=1):
        for plane, row in each.parts:
            found[plane][row + 1] = number
    return found


class LinkedLabels:
    """Labels (N, H, W) of linked objects, made where they are read from the label images of the planes."""

    def __init__(self, planes: Sequence[da.Array], tables: Sequence[NDArray[np.uint32]]) -> None:
        self._planes, self._tables = planes, tables
        self.shape = (len(planes), *planes[0].shape)
        self.dtype: np.dtype[Any] = np.dtype(np.uint32)

    def window(self, plane: tuple[int, ...], box: Box) -> NDArray[np.uint32]:
        """A box of one plane."""
        return self[(plane[0], *box.slices)]

    def level(self, k: int) -> Any:
        """The same at every 2^k-th row and column."""
        step = 2**k
        return self if k == 0 else LinkedLabels([plane[::step, ::step] for plane in self._planes], self._tables)

    def __getitem__(self, key: tuple[int, slice, slice]) -> NDArray[np.uint32]:
        plane, rows, columns = key
        found: NDArray[np.uint32] = self._tables[plane][np.asarray(self._planes[plane][rows, columns])]
        return found


def linked_table(
    objects: Sequence[LinkedObject], planes: Sequence[ObjectTable], along: Along
) -> tuple[ObjectTable, dict[str, NDArray[Any]]]:
    """One row an object, and where it lies along the axis: columns z0, z1 and centroid_z (or t0, t1, centroid_t)."""
    rows = [_row(each, planes) for each in objects]
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in _COLUMNS}
    extents: dict[str, NDArray[Any]] = {
        f"{along}0": np.array([each.parts[0][0] for each in objects], np.int64),
        f"{along}1": np.array([each.parts[-1][0] + 1 for each in objects], np.int64),
        f"centroid_{along}": np.array([_middle(each, planes) for each in objects], np.float64),
    }
    return ObjectTable(label=np.arange(1, len(objects) + 1, dtype=np.uint64), **columns), extents


_COLUMNS = tuple(name for name in ObjectTable.column_names() if name != "label")
_JOINED: dict[str, Callable[[list[Any]], Any]] = {
    "y0": min,
    "x0": min,
    "y1": max,
    "x1": max,
    "area_px": sum,
    "touches_seam": any,
}
_AVERAGED = ("centroid_y", "centroid_x", "predicted_iou", "stability_score")


def _row(each: LinkedObject, planes: Sequence[ObjectTable]) -> dict[str, Any]:
    """The columns of one object, but for its label."""
    areas = [float(planes[plane].area_px[row]) for plane, row in each.parts]
    found: dict[str, Any] = {}
    for name in _COLUMNS:
        values = [getattr(planes[plane], name)[row] for plane, row in each.parts]
        if name in _JOINED:
            found[name] = _JOINED[name](values)
        elif name in _AVERAGED:
            found[name] = np.average(values, weights=areas)
        else:  # of the plane that shows most of it
            found[name] = values[int(np.argmax(areas))]
    return found


def _middle(each: LinkedObject, planes: Sequence[ObjectTable]) -> float:
    areas = [float(planes[plane].area_px[row]) for plane, row in each.parts]
    return float(np.average([plane for plane, _ in each.parts], weights=areas))


def _planes_of(source: ImageSource, link: LinkConfig) -> int:
    axis = link.along.upper()
    if axis not in source.axes:
        raise ConfigError(
            f"there are no planes along {link.along} to link: the axes of {source.name} are {source.axes}; name its "
            "axes, link along the other one, or use segment for a single plane."
        )
    return source.size(axis)


def _write_labels(labels: LinkedLabels, target: Path, axes: str, pixel_size_um: tuple[float, float] | None) -> None:
    if target.suffix.lower() in TIFF_SUFFIXES:
        write_stack_tiff(labels, target, axes=axes, pixel_size_um=pixel_size_um)
        return
    if target.exists():
        shutil.rmtree(target)  # ours: check_output_path lets nothing else pass
    write_stack_zarr(labels, target, axes=axes, pixel_size_um=pixel_size_um)


def _tell_nobody(stage: str, done: int, total: int) -> None:
    """Progress that nobody asked for."""
