"""The main job: an image of any size in, a label image, a table and a report out."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from napari_sam import __version__
from napari_sam.errors import OutputError, TilingError
from napari_sam.export import (
    TIFF_SUFFIXES,
    check_tiff_path,
    write_geojson,
    write_label_tiff,
    write_overlay,
    write_sa1b,
    write_table,
)
from napari_sam.geometry import Box
from napari_sam.images import Plane, Roi, open_image
from napari_sam.images.source import ImageInput
from napari_sam.images.urls import RemotePath, place_of
from napari_sam.model import SamModel
from napari_sam.predict import AutoMaskConfig, reprompt
from napari_sam.tiling import (
    Ledger,
    MergedObjects,
    ObjectTable,
    Reprompt,
    RunKey,
    Segment,
    TilingConfig,
    merge_tiles,
    run_tiles,
)
from napari_sam.tiling.labels import check_labels_path, paint_labels, write_labels
from napari_sam.tiling.remote_lock import check_not_held, held_output
from napari_sam.tiling.spread import Spread, in_threads
from napari_sam.tiling.watch import RunWatch
from napari_sam.workflows.cluster import segment_maker
from napari_sam.workflows.estimate import Estimate, peak_rss_bytes
from napari_sam.workflows.measurements import check_measured, measured_columns
from napari_sam.workflows.places import Place, check_inputs, is_run_of, output_name, run_folder_of
from napari_sam.workflows.planning import SegmentPlan, plan_segment, torch_threads
from napari_sam.workflows.report import SegmentReport
from napari_sam.workflows.settings import SegmentConfig, SegmentPaths
from napari_sam.workflows.stages import StageProgress, Stages, resumable
from napari_sam.workflows.tile_stage import TileRun, run_tile_stage


@dataclass(frozen=True, slots=True, eq=False)
class SegmentResult:
    """What `segment` made."""

    labels: da.Array
    """The label image (H, W), read from the disk where it is looked at."""
    table: ObjectTable
    """One row an object."""
    report: SegmentReport
    objects: MergedObjects
    """The objects with their masks, overlapping ones too."""

    @property
    def is_complete(self) -> bool:
        """Whether every tile was segmented, and every cut object prompted again."""
        return not (self.report.tiles_failed or self.report.reprompts_failed)


def segment(
    image_or_path: ImageInput,
    output: str | os.PathLike[str],
    model: str | os.PathLike[str] | SamModel = "nano",
    *,
    device: str = "auto",
    preset: str | None = None,
    automatic: AutoMaskConfig | Mapping[str, Any] | None = None,
    tiling: TilingConfig | None = None,
    config: SegmentConfig | None = None,
    roi: str | os.PathLike[str] | NDArray[Any] | None = None,
    paths: SegmentPaths | None = None,
    run_folder: str | os.PathLike[str] | None = None,
    restart: bool = False,
    progress: StageProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_estimate: Callable[[Estimate], None] | None = None,
    watch: RunWatch | None = None,
    **path_of: str | os.PathLike[str] | None,
) -> SegmentResult:
    """All objects of an image of any size, as a label image and a table.

    The image is cut into tiles that the model sees whole; every tile is prompted automatically (paper, appendix B),
    and what several tiles saw of one object is merged. Each finished tile is on the disk: the same call goes on where
    an interrupted one stopped and ends with the same bytes.

    Parameters
    ----------
    image_or_path : path, URL, array, or list of arrays
        See :func:`napari_sam.open_image`.
    output : path or URL
        NAME.ome.zarr (any size), or NAME.tif (up to a gigapixel). At a URL (s3://BUCKET/NAME.ome.zarr) only the former.
    model : str, path or SamModel
        See :func:`napari_sam.load_model`.
    device : str
        "auto", "cpu", "cuda" or "mps".
    preset : str, optional
        "cells", "nuclei", "aerial" or "everything".
    automatic : AutoMaskConfig or mapping of its fields, optional
        A whole configuration, or what to change in the model's recommended one (and the preset's).
    tiling : TilingConfig, optional
        Sizes that are left open follow from the model.
    config : SegmentConfig, optional
        Plane, channels, workers.
    roi : path or array, optional
        Mask image or GeoJSON polygons; only objects that lie mostly inside are kept.
    paths : SegmentPaths, optional
        Further results; its fields can also be given by name: `table="objects.csv"`, `overlay=`, `sa1b=`,
        `geojson=`, `report=`.
    run_folder : path, optional
        For the ledger of the run, on a file system that all workers see; by default `output` + ".run", and for labels
        at a URL a folder in the current one.
    restart : bool
        Forget what an earlier run with this output has finished, and replace its results.
    progress : function (stage, done, total), optional
    should_stop : function, optional
        Asked between tiles; once it says True, what is being segmented is saved and the run ends.
    on_estimate : function, optional
        Called with the predicted need once the first two tiles of a run of more than eight are segmented.
    watch : RunWatch, optional
        Is told of each tile and says which come first; then there is no estimate, whose tiles would come before these.

    Returns
    -------
    SegmentResult
        Its report names failed tiles; a later call tries those again.

    Raises
    ------
    ImageError, ConfigError, CheckpointError, OutputError, LedgerError
        If something cannot be used; nothing is written then.
    RunInterrupted
        After Ctrl-C or `should_stop`.
    """
    started = time.perf_counter()
    paths, target, config = _all_paths(paths, path_of), place_of(output), config or SegmentConfig()
    run_folder = run_folder_of(target, run_folder, scheduler=config.scheduler)
    inputs = [place_of(given) for given in (image_or_path, roi) if isinstance(given, str | os.PathLike)]
    check_inputs(inputs, target, config)
    check_output(target, replaceable=restart or is_run_of(run_folder, target))
    check_not_held(target, run_folder)
    paths.check(target if isinstance(target, Path) else None, [place for place in inputs if isinstance(place, Path)])
    check_measured(config, paths)
    job = plan_segment(
        image_or_path, model, device=device, preset=preset, automatic=automatic, tiling=tiling, config=config, roi=roi
    )
    if isinstance(target, Path) and target.suffix.lower() in TIFF_SUFFIXES:
        check_tiff_path(target, job.plane.shape)
    stages = Stages(progress, should_stop, planning=time.perf_counter() - started)
    key = _run_key(job, output_name(run_folder, target))
    with (
        Ledger.open(run_folder, key, job.plane.shape, restart=restart) as ledger,
        resumable(run_folder),
        held_output(target, run_folder) as check_still_held,
        torch_threads(job.config.torch_threads),
    ):
        make_segment = None if isinstance(model, SamModel) else _segment_maker(job, model, device)
        with ExitStack() as workers:
            run = run_tile_stage(job, ledger, stages, make_segment, workers, on_estimate=on_estimate, watch=watch)
            objects = _merge(job, ledger, run.spread, stages)
            check_still_held()
            _write_label_image(objects, target, job.plane, run.spread, stages)
        _write_exports(objects, paths, job.plane, job.config, stages)
        report = _report(job, run, objects, stages.seconds)
        if paths.report is not None:
            report.write(paths.report)
    return SegmentResult(open_labels(target), objects.table, report, objects)


def segment_array(
    image: NDArray[np.uint8],
    model: SamModel,
    *,
    automatic: AutoMaskConfig | Mapping[str, Any] | None = None,
    tiling: TilingConfig | None = None,
) -> NDArray[np.uint32]:
    """The label image (H, W) of an image in memory, by the same tiles and merge as :func:`segment`.

    For judging and small images; masks and records pass through a temporary folder.

    Raises
    ------
    TilingError
        If a tile fails.
    """
    job = plan_segment(image, model, automatic=automatic, tiling=tiling)
    with (
        tempfile.TemporaryDirectory(prefix="napari-sam-") as folder,
        Ledger.open(folder, _run_key(job, "labels"), job.plane.shape) as ledger,
    ):
        summary = run_tiles(job.plane.read, job.tiles, job.segment_tile, ledger)
        if summary.failed:
            first = next(iter(summary.failed.values()))
            raise TilingError(f"{len(summary.failed)} tiles failed, the first with: {first}")
        objects = merge_tiles(ledger, job.tiles, job.plane.read, _ask_again(job), job.tiling)
        return np.asarray(paint_labels(objects, Box.of_size(job.plane.shape), np.uint32))


def _segment_maker(job: SegmentPlan, model: str | os.PathLike[str], device: str) -> Callable[[], Segment]:
    """Makes the function of :attr:`SegmentPlan.segment_tile` anew in a worker."""
    config = job.config
    return segment_maker(
        model, device, job.automatic, precision=config.precision, tiles_per_batch=config.tiles_per_batch
    )


def _merge(job: SegmentPlan, ledger: Ledger, spread: Spread, stages: Stages) -> MergedObjects:
    """The objects of the finished tiles that lie in the region of interest."""
    with stages.stage("merge") as step:
        objects = merge_tiles(
            ledger, job.tiles, job.plane.read, _ask_again(job), job.tiling, spread=spread, progress=step
        )
        return objects if job.roi is None else inside_roi(objects, job.roi)


def _ask_again(job: SegmentPlan) -> Reprompt:
    """A larger window and a cut mask in it to the whole object, if the model is as sure of it as of any other."""
    automatic, precision = job.automatic, job.config.precision
    return partial(
        reprompt,
        job.model,
        pred_iou_thresh=automatic.pred_iou_thresh,
        one_piece=automatic.one_piece,
        precision=precision,
    )


def _all_paths(paths: SegmentPaths | None, path_of: Mapping[str, str | os.PathLike[str] | None]) -> SegmentPaths:
    known = [f.name for f in fields(SegmentPaths)]
    for name in path_of:
        if name not in known:
            raise TypeError(f"segment() has no argument {name!r}; files it can write: {', '.join(known)}.")
    return replace(paths or SegmentPaths(), **{k: Path(v) for k, v in path_of.items() if v is not None})


def check_output(output: Place, *, replaceable: bool) -> None:
    """Refuse a name for the label image that could not be written, or that would cost something else; OutputError."""
    if isinstance(output, RemotePath) and not output.name.lower().endswith(".zarr"):
        raise OutputError(f"labels are written to a URL as NAME.ome.zarr only, got {output}; change the end of it.")
    if isinstance(output, Path) and output.suffix.lower() in TIFF_SUFFIXES:
        if output.exists() and not replaceable:
            raise OutputError(f"{output} already exists; choose another output name, or use restart to replace it.")
    elif output.name.lower().endswith(".zarr"):
        check_labels_path(output, overwrite=replaceable)
    else:
        raise OutputError(f"the output must be NAME.ome.zarr or NAME.tif, got {output}; change the end of the name.")


def _run_key(job: SegmentPlan, output: str) -> RunKey:
    image = job.plane.source.identity | {"t": job.plane.t, "z": job.plane.z, "channels": list(job.plane.channels)}
    return RunKey(
        image=image,
        model={"name": job.model.name, "sha256": job.model.fingerprint},
        version=__version__,
        segment={
            "automatic": asdict(job.automatic),
            "precision": job.config.precision,
            "tiles": job.tiles.settings(),
            "normalisation": job.plane.normalisation.to_dict(),
        },
        merge=job.tiling.merge_settings(),
        output={"name": output},
    )


def inside_roi(objects: MergedObjects, roi: Roi) -> MergedObjects:
    """The objects that lie at least half inside a region, labelled 1 to N again."""
    rows = [
        row
        for row in range(len(objects))
        if 2 * np.count_nonzero((mask := objects.mask(row)).window(mask.box) & roi.mask(mask.box)) >= mask.area
    ]
    return objects.select(rows)


def write_results(
    objects: MergedObjects, output: Place, paths: SegmentPaths, plane: Plane, config: SegmentConfig, stages: Stages
) -> None:
    """Write the label image, and of the further results those that `paths` names; OutputError if that fails."""
    _write_label_image(objects, output, plane, in_threads(config.n_workers), stages)
    _write_exports(objects, paths, plane, config, stages)


def _write_label_image(objects: MergedObjects, output: Place, plane: Plane, spread: Spread, stages: Stages) -> None:
    pixel_size = plane.source.pixel_size_um
    with stages.stage("labels") as step:
        if isinstance(output, Path) and output.suffix.lower() in TIFF_SUFFIXES:
            write_label_tiff(objects, output, pixel_size_um=pixel_size, geo=plane.source.geo, progress=step)
        else:
            write_labels(objects, output, pixel_size_um=pixel_size, overwrite=True, spread=spread, progress=step)


def _write_exports(
    objects: MergedObjects, paths: SegmentPaths, plane: Plane, config: SegmentConfig, stages: Stages
) -> None:
    with stages.stage("exports"):
        _write_files(objects, paths, plane, config)


def _write_files(objects: MergedObjects, paths: SegmentPaths, plane: Plane, config: SegmentConfig) -> None:
    pixel_size, name = plane.source.pixel_size_um, Path(plane.source.name).name
    if paths.table is not None:
        measured = measured_columns(objects, plane, intensities=config.intensities, shapes=config.shapes)
        write_table(objects.table, paths.table, pixel_size_um=pixel_size, intensities=measured)
    if paths.sa1b is not None:
        write_sa1b(objects, paths.sa1b, file_name=name)
    if paths.geojson is not None:
        write_geojson(objects, paths.geojson, geo=plane.source.geo, pixel_size_um=pixel_size)
    if paths.overlay is not None:
        write_overlay(objects, paths.overlay, plane.read)


def _report(job: SegmentPlan, run: TileRun, objects: MergedObjects, seconds: dict[str, float]) -> SegmentReport:
    return SegmentReport(
        objects=len(objects),
        tiles=run.summary.tiles,
        tiles_failed=run.summary.failed,
        tiles_skipped=run.summary.skipped,
        tiles_reused=run.summary.reused,
        cut_objects_reprompted=objects.summary.cut_objects_reprompted,
        reprompts_failed=objects.summary.reprompts_failed,
        fragments=objects.summary.fragments,
        seam_cuts=objects.summary.seam_cuts,
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
        peak_rss_mb=round(peak_rss_bytes() / 1e6, 1),
        predicted=run.predicted,
        model=job.model.name,
        model_sha256=job.model.fingerprint,
        config={
            "automatic": asdict(job.automatic),
            "tiling": asdict(job.tiling),
            "segment": asdict(job.config),
            "normalisation": job.plane.normalisation.to_dict(),
        },
        version=__version__,
    )


def open_labels(output: Place) -> da.Array:
    """A label image that was written, (H, W), read where it is looked at."""
    level = open_image(str(output)).levels[0]
    labels: da.Array = da.from_array(level, chunks=(2048, 2048), name=False)
    return labels
