"""Boxes of a detector become instances, in images of any size (Kirillov et al. 2023, section 7.4)."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam import __version__
from napari_sam.errors import OutputError, PromptError
from napari_sam.export import TIFF_SUFFIXES, check_tiff_path, write_table
from napari_sam.geometry import Mask, ModelFrame
from napari_sam.images import Plane
from napari_sam.images.detections import Detections, read_boxes
from napari_sam.images.source import ImageInput
from napari_sam.images.urls import local_path
from napari_sam.model import SamModel, load_model
from napari_sam.predict import box_masks, embed_image
from napari_sam.tiling import Ledger, MergedObjects, ObjectTable, RunKey
from napari_sam.tiling.store import MaskCache, StoredMasks
from napari_sam.workflows.experiments.box_windows import BoxWindow, plan_windows
from napari_sam.workflows.experiments.image_choice import open_plane
from napari_sam.workflows.measurements import check_measured, measured_columns
from napari_sam.workflows.segmentation import check_output, open_labels, write_results
from napari_sam.workflows.settings import SegmentConfig, SegmentPaths
from napari_sam.workflows.stages import StageProgress, Stages, Stopped, resumable

STAGE = "boxes"


@dataclass(frozen=True, slots=True, eq=False)
class BoxesResult:
    """What `segment_boxes` made."""

    labels: da.Array
    """The label image (H, W), read from the disk where it is looked at; a pixel's value is the number of its box,
    counted from 1."""
    table: ObjectTable
    """One row an object, in the order of the boxes."""
    objects: MergedObjects
    """The objects with their masks, overlapping ones too."""
    windows: int
    """Windows that were embedded."""
    empty: tuple[int, ...]
    """Numbers (from 1) of the boxes in which the model saw nothing: they have no row."""
    failed: dict[int, str]
    """Why windows failed, by their number; the boxes of these are missing."""
    missing: tuple[int, ...]
    """Numbers (from 1) of the boxes of failed windows."""
    seconds: dict[str, float]
    """By stage."""


def segment_boxes(
    image_or_path: ImageInput,
    boxes: str | os.PathLike[str] | ArrayLike | Detections,
    output: str | os.PathLike[str],
    model: str | os.PathLike[str] | SamModel = "nano",
    *,
    device: str = "auto",
    config: SegmentConfig | None = None,
    paths: SegmentPaths | None = None,
    image_name: str | None = None,
    restart: bool = False,
    progress: StageProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> BoxesResult:
    """One instance for each box, as a label image and a table, in an image of any size.

    Each box is answered from a window that holds it with room around, at full resolution if it fits, else from a
    coarser one; boxes near one another share a window and its embedding. Finished windows are on the disk: the same
    call goes on where an interrupted one stopped.

    Parameters
    ----------
    image_or_path : path, array, or list of arrays
        See :func:`napari_sam.open_image`.
    boxes : path, array of shape (N, 4), or Detections
        A COCO JSON, CSV or GeoJSON file, or half-open XYXY in pixels. What lies outside the image is cut off.
    output : path
        NAME.ome.zarr, or NAME.tif. The ledger of the run lies beside it, in `output` + ".run".
    model : str, path or SamModel
    device : str
    config : SegmentConfig, optional
        Which plane and channels; its workers are not used.
    paths : SegmentPaths, optional
        Further results. The table has the columns `detection_score` and `category` as well.
    image_name : str, optional
        Which image's boxes of a COCO file of several; by default that of the image's own name.
    restart : bool
        Forget what an earlier run with this output has finished, and replace its results.
    progress : function (stage, done, total), optional
    should_stop : function, optional
        Asked between windows.

    Returns
    -------
    BoxesResult
        Labels are the numbers of the boxes, from 1; where masks overlap, the one with the higher predicted IoU shows.

    Raises
    ------
    PromptError
        If a box is empty, not finite or lies outside the image.
    ImageError, ConfigError, CheckpointError, OutputError, LedgerError
        If something cannot be used; nothing is written then.
    RunInterrupted
        After Ctrl-C or `should_stop`.
    """
    started = time.perf_counter()
    output, paths, config = local_path(output), paths or SegmentPaths(), config or SegmentConfig()
    run_folder = output.with_name(output.name + ".run")
    check_measured(config, paths)
    check_output(output, replaceable=restart or run_folder.is_dir())
    inputs = [Path(given) for given in (image_or_path, boxes) if isinstance(given, str | os.PathLike)]
    paths.check(output, inputs)
    plane = open_plane(image_or_path, config)
    if output.suffix.lower() in TIFF_SUFFIXES:
        check_tiff_path(output, plane.shape)
    detections = _detections(boxes, plane, image_name)
    clipped = clip_boxes(detections.boxes_xyxy, plane.shape)
    loaded = model if isinstance(model, SamModel) else load_model(model, device=device)
    windows = plan_windows(clipped, plane.shape, loaded.config.image_size)
    stages = Stages(progress, should_stop, planning=time.perf_counter() - started)
    key = _run_key(plane, loaded, clipped, output)
    with Ledger.open(run_folder, key, plane.shape, restart=restart) as ledger, resumable(run_folder):
        failed = _answer_windows(windows, clipped, plane, loaded, ledger, stages)
        objects, empty = _collect(windows, ledger, plane.shape)
        write_results(objects, output, replace(paths, table=None, report=None), plane, config, stages)
        if paths.table is not None:
            _write_table(objects, detections, paths.table, plane, config)
    missing = sorted(int(row) + 1 for index in failed for row in windows[index].rows)
    return BoxesResult(
        open_labels(output), objects.table, objects, len(windows), empty, failed, tuple(missing), stages.seconds
    )


def clip_boxes(boxes_xyxy: NDArray[np.float64], image_size: tuple[int, int]) -> NDArray[np.float64]:
    """Boxes (N, 4) cut to the image (H, W); PromptError names the first that is empty, not finite or outside."""
    height, width = image_size
    clipped = np.clip(boxes_xyxy, 0, [width, height, width, height])
    usable = np.isfinite(boxes_xyxy).all(axis=1) & (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    for row in np.flatnonzero(~usable)[:1].tolist():
        text = ", ".join(f"{value:g}" for value in boxes_xyxy[row])
        raise PromptError(
            f"box {row + 1} of {len(boxes_xyxy)}, ({text}) as (x0, y0, x1, y1), has no pixel in the image of {width} x "
            f"{height} pixels (W x H); leave it out, and check that boxes and image belong together."
        )
    return clipped


def window_masks(model: SamModel, plane: Plane, window: BoxWindow, boxes_xyxy: NDArray[np.float64]) -> list[Mask]:
    """The masks of the boxes of one window, in the frame of the whole image.

    Parameters
    ----------
    model : SamModel
    plane : Plane
    window : BoxWindow
    boxes_xyxy : ndarray of shape (N, 4)
        All boxes, in pixels of the image.
    """
    seen = window.window
    embedding = embed_image(model, plane.read(seen, window.step))
    # Boxes and masks stay in the image's own pixels, however much smaller the window was shown.
    embedding = replace(embedding, frame=ModelFrame(seen.size, embedding.frame.model_size))
    masks = box_masks(model, embedding, boxes_xyxy[window.rows] - np.tile([seen.x0, seen.y0], 2))
    return [mask.shifted(seen.x0, seen.y0, plane.shape) for mask in masks]


def _detections(
    boxes: str | os.PathLike[str] | ArrayLike | Detections, plane: Plane, image_name: str | None
) -> Detections:
    if isinstance(boxes, Detections):
        return boxes
    if isinstance(boxes, str | os.PathLike):
        return read_boxes(Path(boxes), image_name=image_name or Path(plane.source.name).name, geo=plane.source.geo)
    return Detections.of(boxes)


def _run_key(plane: Plane, model: SamModel, boxes: NDArray[np.float64], output: Path) -> RunKey:
    return RunKey(
        image=plane.source.identity | {"t": plane.t, "z": plane.z, "channels": list(plane.channels)},
        model={"name": model.name, "sha256": model.fingerprint},
        version=__version__,
        segment={
            "boxes": hashlib.sha256(np.ascontiguousarray(boxes).tobytes()).hexdigest(),
            "normalisation": plane.normalisation.to_dict(),
        },
        merge={},
        output={"name": output.name},
    )


def _answer_windows(
    windows: Sequence[BoxWindow],
    boxes: NDArray[np.float64],
    plane: Plane,
    model: SamModel,
    ledger: Ledger,
    stages: Stages,
) -> dict[int, str]:
    """Answer the windows that the ledger does not have yet; why some of them failed, by number."""
    failed = {}
    with stages.stage(STAGE) as step:
        step(0, len(windows))
        for index, window in enumerate(windows):
            if not ledger.tiles.is_finished(index):
                try:
                    ledger.tiles.write(index, window_masks(model, plane, window, boxes))
                except (OutputError, Stopped):
                    raise
                except Exception as error:  # one window that cannot be read must not cost the others
                    failed[index] = f"{type(error).__name__}: {error}"
                    ledger.tiles.write_failure(index, failed[index])
            step(index + 1, len(windows))
    return failed


def _collect(
    windows: Sequence[BoxWindow], ledger: Ledger, image_size: tuple[int, int]
) -> tuple[MergedObjects, tuple[int, ...]]:
    """The objects of all finished windows in the order of their boxes, and the numbers of the boxes without any."""
    place: list[tuple[int, int, int]] = []
    columns: list[StoredMasks] = []
    empty: list[int] = []
    for index, window in enumerate(windows):
        if not ledger.tiles.path(index).exists():
            continue
        stored = ledger.tiles.read(index)
        kept = np.flatnonzero(stored.areas > 0)
        empty += (window.rows[np.flatnonzero(stored.areas == 0)] + 1).tolist()
        place += [(int(window.rows[i]) + 1, index, int(i)) for i in kept]
        columns.append(_without_runs(stored, kept))
    order = sorted(range(len(place)), key=place.__getitem__)
    cache: MaskCache[int] = MaskCache(ledger.tiles.read)

    def load(row: int) -> Mask:
        _, index, i = place[order[row]]
        return cache.get(index).mask(i)

    return MergedObjects(_table(columns, place, order), image_size, load), tuple(sorted(empty))


def _without_runs(stored: StoredMasks, rows: NDArray[np.intp]) -> StoredMasks:
    """Some rows of the columns alone, so that memory does not grow with the masks."""
    return replace(
        stored,
        boxes=stored.boxes[rows],
        areas=stored.areas[rows],
        centroids_xy=stored.centroids_xy[rows],
        predicted_iou=stored.predicted_iou[rows],
        stability_score=stored.stability_score[rows],
        counts=np.empty(0, dtype=np.uint32),
        offsets=np.zeros(1, dtype=np.int64),
    )


def _table(columns: Sequence[StoredMasks], place: Sequence[tuple[int, int, int]], order: Sequence[int]) -> ObjectTable:
    def of(name: str, width: int | None = None) -> NDArray[Any]:
        parts = [getattr(part, name) for part in columns]
        shape = (0,) if width is None else (0, width)
        return np.concatenate([np.empty(shape), *parts])[order] if order else np.empty(shape)

    boxes, centroids = of("boxes", 4), of("centroids_xy", 2)
    n = len(order)
    return ObjectTable(
        label=np.array([place[i][0] for i in order], dtype=np.uint64),
        y0=boxes[:, 1].astype(np.int64),
        x0=boxes[:, 0].astype(np.int64),
        y1=boxes[:, 3].astype(np.int64),
        x1=boxes[:, 2].astype(np.int64),
        area_px=of("areas").astype(np.int64),
        centroid_y=centroids[:, 1],
        centroid_x=centroids[:, 0],
        predicted_iou=of("predicted_iou"),
        stability_score=of("stability_score"),
        tile=np.array([place[i][1] for i in order], dtype=np.int64),
        touches_seam=np.zeros(n, dtype=np.bool_),
        prompt=np.full(n, "box"),
        verified=np.zeros(n, dtype=np.bool_),
    )


def _write_table(
    objects: MergedObjects, detections: Detections, path: Path, plane: Plane, config: SegmentConfig
) -> None:
    rows = objects.table.label.astype(np.intp) - 1
    of_detector = {
        "detection_score": detections.scores[rows],
        "category": np.array(detections.categories, dtype=np.str_)[rows] if len(rows) else np.empty(0, dtype=np.str_),
    }
    measured = measured_columns(objects, plane, intensities=config.intensities, shapes=config.shapes)
    write_table(objects.table, path, pixel_size_um=plane.source.pixel_size_um, intensities=of_detector | measured)
