"""Text to objects in an image of any size: the automatic masks whose crops a CLIP model takes for what is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import OutputError, PromptError
from napari_sam.export import TIFF_SUFFIXES, check_table_path, check_tiff_path, write_label_tiff, write_table
from napari_sam.geometry import Box, Mask
from napari_sam.images import Plane, open_image
from napari_sam.images.levels import MAX_STEP
from napari_sam.images.urls import local_path
from napari_sam.model import SamModel
from napari_sam.model.clip import load_clip
from napari_sam.predict.text import ClipLike, TextConfig, TextScorer, crop_of_mask, crop_window
from napari_sam.tiling import ObjectTable
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.labels import PaintableObjects, check_labels_path, write_labels
from napari_sam.workflows.exporting import read_objects
from napari_sam.workflows.segmentation import segment
from napari_sam.workflows.settings import SegmentConfig
from napari_sam.workflows.stages import StageProgress

SCORE_COLUMN = "text_score"
_LARGEST_CROP_PX = 512
"""A crop with a longer side is read reduced: no CLIP model looks at more."""


@dataclass(frozen=True, slots=True, eq=False)
class TextResult:
    """What a text found."""

    labels: Path
    table: Path | None
    objects: PaintableObjects
    """Those that are kept, with the labels they have among all objects."""
    scores: NDArray[np.float64]
    """(N,) text score of each of them."""
    considered: int
    """How many objects the text was compared with."""


class SelectedObjects:
    """Some of the objects of a label image or a run, under the labels they have there."""

    def __init__(self, objects: PaintableObjects, rows: NDArray[np.intp]) -> None:
        self._objects = objects
        columns: dict[str, Any] = {name: column[rows] for name, column in objects.table.columns().items()}
        self.table = ObjectTable(**columns)
        self._kept = frozenset(self.table.label.tolist())

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W)."""
        return self._objects.image_size

    def masks_in(self, box: Box) -> list[tuple[int, Mask]]:
        """Label and mask of those in a box, in painting order."""
        return [item for item in self._objects.masks_in(box) if item[0] in self._kept]

    def iter_masks(self) -> Iterator[tuple[int, Mask]]:
        """Label and mask of each."""
        return (item for item in self._objects.iter_masks() if item[0] in self._kept)


def segment_by_text(
    image: str | os.PathLike[str],
    text: str,
    output: str | os.PathLike[str],
    *,
    clip: str | os.PathLike[str] | ClipLike,
    objects: str | os.PathLike[str] | None = None,
    points_xy: ArrayLike | None = None,
    point_labels: ArrayLike | None = None,
    config: TextConfig | None = None,
    table: str | os.PathLike[str] | None = None,
    model: str | os.PathLike[str] | SamModel = "nano",
    device: str = "auto",
    preset: str | None = None,
    automatic: Mapping[str, Any] | None = None,
    segment_config: SegmentConfig | None = None,
    progress: StageProgress | None = None,
) -> TextResult:
    """The objects of an image that a text means, as a label image and a table with their text scores.

    All objects are found first, by :func:`napari_sam.segment`, into OUTPUT.all.ome.zarr: another text on the same image
    takes them from there. Memory is bounded by a batch of crops and a record of each object.

    Parameters
    ----------
    image : path
    text : str
        What is looked for, such as "a red cell".
    output : path
        NAME.ome.zarr or NAME.tif; must not exist.
    clip : path or ClipLike
        Folder of a CLIP model on this machine, see :func:`napari_sam.model.clip.load_clip`; or any model like it.
    objects : path, optional
        Label image or SA-1B file of the image's objects, instead of finding them.
    points_xy : array of shape (N, 2), optional
        (x, y) in image pixels. Of the objects that hold a positive point, the one that fits the text best is kept
        whatever its score: a point repairs a wrong choice, as in the paper. Those that hold a negative one are dropped.
    point_labels : array of shape (N,), optional
        1 on an object, 0 on none; all 1 if left out.
    config : TextConfig, optional
    table : path, optional
        NAME.csv or NAME.parquet.
    model, device, preset, automatic, segment_config : optional
        See :func:`napari_sam.segment`.
    progress : function (stage, done, total), optional

    Raises
    ------
    PromptError
        If the text is empty, or a positive point lies on no object.
    ImageError, ConfigError, CheckpointError, OutputError
        If something cannot be read, used or written; `output` is not written then.
    """
    target, rows_at = local_path(output), None if table is None else Path(table)
    _check_output(target, rows_at)
    chosen = segment_config or SegmentConfig()
    source = open_image(image, axes=chosen.axes, series=chosen.series, pixel_size_um=chosen.pixel_size_um)
    plane = source.plane(chosen.t, chosen.z, chosen.channels)
    points, signs = _checked_points(points_xy, point_labels)
    loaded: ClipLike = load_clip(clip, device) if isinstance(clip, str | os.PathLike) else clip
    scorer = TextScorer(loaded, text, config)
    if objects is None:
        run = segment(
            image, all_objects_path(target), model, device=device, preset=preset, automatic=automatic,
            config=chosen, progress=progress,
        )  # fmt: skip
        found: PaintableObjects = run.objects
    else:
        found = read_objects(objects).objects
    if found.image_size != plane.shape:
        raise PromptError(f"the objects lie in an image of {found.image_size} (H, W), {image} has {plane.shape}.")
    step = None if progress is None else lambda done, total: progress("text", done, total)
    scores = score_objects(found, plane, scorer, progress=step)
    kept = choose_objects(found, scores, scorer.config.text_thresh, points, signs)
    selected = SelectedObjects(found, kept)
    _write(selected, scores[kept], target, rows_at, plane)
    return TextResult(target, rows_at, selected, scores[kept], len(scores))


def score_objects(
    objects: PaintableObjects, plane: Plane, scorer: TextScorer, *, progress: Progress | None = None
) -> NDArray[np.float64]:
    """Text scores (N,) of the objects, in the order of their table; one batch of crops is in memory at a time."""
    total = len(objects.table)

    def crops() -> Iterator[NDArray[np.uint8]]:
        for done, (_, mask) in enumerate(objects.iter_masks(), start=1):
            window = crop_window(mask, scorer.config.crop_margin)
            pixels = plane.read(window, _reduction(window))
            yield crop_of_mask(pixels, window, mask, scorer.config.mask_background)
            if progress is not None:
                progress(done, total)

    return scorer(crops())


def choose_objects(
    objects: PaintableObjects,
    scores: NDArray[np.float64],
    threshold: float,
    points_xy: NDArray[np.float64],
    point_labels: NDArray[np.int64],
) -> NDArray[np.intp]:
    """Rows of the objects to keep: scored `threshold` or more, and what the points say of them.

    Raises
    ------
    PromptError
        If a positive point lies on no object.
    """
    keep = scores >= threshold
    dropped = np.zeros(len(scores), dtype=bool)
    for point, sign in zip(points_xy, point_labels, strict=True):
        rows = _rows_at(objects, point)
        if sign == 0:
            dropped[rows] = True
        elif len(rows):
            best = rows[np.argmax(scores[rows])]
            keep[rows] = False
            keep[best] = True
        else:
            raise PromptError(
                f"there is no object at the point ({point[0]:g}, {point[1]:g}) in (x, y); put it on one, or find more "
                "objects with lower thresholds."
            )
    return np.flatnonzero(keep & ~dropped)


def all_objects_path(output: Path) -> Path:
    """Where all objects are written: cells.all.ome.zarr beside cells.ome.zarr or cells.tif."""
    name = output.name
    for suffix in (".zarr", ".tiff", ".tif", ".ome"):
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return output.with_name(f"{name}.all.ome.zarr")


def _rows_at(objects: PaintableObjects, point_xy: NDArray[np.float64]) -> NDArray[np.intp]:
    """Rows of the objects that hold a point; whole numbers are pixel centres."""
    x, y = (int(v) for v in np.floor(point_xy + 0.5))
    pixel = Box(x, y, x + 1, y + 1)
    here = [label for label, mask in objects.masks_in(pixel) if mask.window(pixel).any()]
    return np.flatnonzero(np.isin(objects.table.label, np.array(here, dtype=np.uint64)))


def _reduction(window: Box) -> int:
    step = 1
    while max(window.size) > step * _LARGEST_CROP_PX and step < MAX_STEP:
        step *= 2
    return step


def _checked_points(
    points_xy: ArrayLike | None, point_labels: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    points = np.zeros((0, 2)) if points_xy is None else np.asarray(points_xy, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise PromptError(f"points must have shape (N, 2) as (x, y) pixels, got {points.shape}; one is [[x, y]].")
    labels = np.ones(len(points), np.int64) if point_labels is None else np.asarray(point_labels, dtype=np.int64)
    if labels.shape != (len(points),) or not np.isin(labels, (0, 1)).all():
        raise PromptError(f"point_labels must be {len(points)} values of 1 (on an object) or 0, got {labels.tolist()}.")
    return points, labels


def _check_output(output: Path, table: Path | None) -> None:
    if output.suffix.lower() in TIFF_SUFFIXES:
        if output.exists():
            raise OutputError(f"{output} already exists; choose another output name, or move it away.")
    elif output.name.lower().endswith(".zarr"):
        check_labels_path(output)
    else:
        raise OutputError(f"the output must be NAME.ome.zarr or NAME.tif, got {output}; change the end of the name.")
    if table is not None:
        check_table_path(table)


def _write(
    objects: SelectedObjects, scores: NDArray[np.float64], output: Path, table: Path | None, plane: Plane
) -> None:
    size = plane.source.pixel_size_um
    if output.suffix.lower() in TIFF_SUFFIXES:
        check_tiff_path(output, objects.image_size)
        write_label_tiff(objects, output, pixel_size_um=size, geo=plane.source.geo)
    else:
        write_labels(objects, output, pixel_size_um=size)
    if table is not None:
        write_table(objects.table, table, pixel_size_um=size, intensities={SCORE_COLUMN: scores})
