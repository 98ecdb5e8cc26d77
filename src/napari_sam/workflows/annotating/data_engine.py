"""The modes of the data engine: automatic masks become objects of a session, for the user to complete or review.

Assisted manual: the user clicks, nothing is prefilled. Semi-automatic: masks the model is sure of are prefilled and the
user adds the rest. Automatic: all of its masks are prefilled. Then comes review (paper, section 4).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.objects import Mode, PlaneMask
from napari_sam.annotate.prompts import Plane
from napari_sam.annotate.segmenter import Segmenter
from napari_sam.annotate.session import AnnotationSession
from napari_sam.errors import ConfigError, ImageError, RunInterrupted
from napari_sam.export import read_table
from napari_sam.geometry import Box, Mask
from napari_sam.images import open_image
from napari_sam.model import SamModel, load_model
from napari_sam.predict import AutoMaskConfig
from napari_sam.workflows.annotating.sessions import SamSegmenter
from napari_sam.workflows.file_layers import find_table, plain_stem
from napari_sam.workflows.refilter import ObjectFilterConfig
from napari_sam.workflows.segmentation import segment
from napari_sam.workflows.settings import SegmentConfig, SegmentPaths
from napari_sam.workflows.stages import StageProgress

CONFIDENT = ObjectFilterConfig(min_predicted_iou=0.85, min_stability_score=0.8)
"""What is prefilled in the semi-automatic mode: of nano's masks of generated nuclei, about the better half."""
EVERYTHING = ObjectFilterConfig()
"""What is prefilled in the automatic mode."""
MOST_COVERED = 0.5
"""A mask of which more than this share belongs to other objects already is one of theirs, and is not prefilled."""

BATCH = 16
"""Masks that are prefilled in one go where a window waits."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundMasks:
    """Masks of an automatic run that are to become objects of a session."""

    masks: tuple[PlaneMask, ...]
    """In the order of the run's table; `unsure` are those that the border of a tile cuts."""
    total: int
    """Objects the run found, before the thresholds."""
    mode: Mode

    @property
    def cut(self) -> int:
        """How many of the masks a seam cuts."""
        return sum(mask.unsure for mask in self.masks)


@dataclass(frozen=True, slots=True)
class PrefillReport:
    """What became of the masks of an automatic run."""

    found: int
    """Objects the run found."""
    passed: int
    """Of these, those within the thresholds."""
    prefilled: int
    """Of these, those that became objects; the others were annotated before."""
    cut: int
    """Of the passed ones, those that the seam of tiles cuts: the first to be reviewed."""


def prefill_automatic(
    session: AnnotationSession,
    model: str | os.PathLike[str] | SamModel = "nano",
    thresholds: ObjectFilterConfig | None = None,
    *,
    mode: Mode = "semi-automatic",
    plane: Plane = (),
    automatic: AutoMaskConfig | Mapping[str, Any] | None = None,
    preset: str | None = None,
    device: str = "auto",
    progress: StageProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> PrefillReport:
    """Segment a plane of a session's image automatically and prefill what the model is sure of.

    Parameters
    ----------
    session : AnnotationSession
        Gets the objects, as one act that can be undone, and the mode.
    model : str, path or SamModel
        See :func:`napari_sam.load_model`.
    thresholds : ObjectFilterConfig, optional
        By default CONFIDENT in the semi-automatic mode and everything in the automatic one.
    mode : "semi-automatic" or "automatic"
    plane : tuple of int
        For stacks.
    automatic, preset, device, progress, should_stop
        See :func:`napari_sam.segment`.

    Returns
    -------
    PrefillReport

    Raises
    ------
    ConfigError, ImageError, OutputError, RunInterrupted
        As `segment` does; the tiles that are finished by then are used by the next call.
    """
    found = find_automatic(
        session.image,
        model,
        thresholds,
        mode=mode,
        plane=plane,
        output=automatic_output(session, model, plane),
        automatic=automatic,
        preset=preset,
        device=device,
        progress=progress,
        should_stop=should_stop,
    )
    return prefill(session, found)


def automatic_output(
    session: AnnotationSession, model: str | os.PathLike[str] | SamModel, plane: Plane = ()
) -> Path | None:
    """Where the automatic run of a session is kept: beside its journal; None (a temporary folder) without one."""
    if session.journal is None:
        return None
    name = model.name if isinstance(model, SamModel) else Path(model).stem
    index = "".join(f"-{i}" for i in plane)
    stem = session.journal.name.removesuffix(".jsonl").removesuffix(".annotation")
    return session.journal.with_name(f"{stem}.automatic-{name}{index}.ome.zarr")


def find_automatic(
    image: AnnotatedImage,
    model: str | os.PathLike[str] | SamModel | Segmenter,
    thresholds: ObjectFilterConfig | None = None,
    *,
    mode: Mode = "semi-automatic",
    plane: Plane = (),
    output: Path | None = None,
    automatic: AutoMaskConfig | Mapping[str, Any] | None = None,
    preset: str | None = None,
    device: str = "auto",
    progress: StageProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> FoundMasks:
    """The slow half of :func:`prefill_automatic`, for another thread: it touches no session.

    Parameters
    ----------
    output : Path, optional
        NAME.ome.zarr in which the run is kept; a stopped run goes on there. A temporary folder if left out.
    """
    if mode not in ("semi-automatic", "automatic"):
        raise ConfigError(f"masks are prefilled in the modes semi-automatic and automatic, got {mode!r}.")
    limits = thresholds or (CONFIDENT if mode == "semi-automatic" else EVERYTHING)
    loaded = _loaded(model, device)
    with ExitStack() as stack:
        if output is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="napari-sam-"))
            output = Path(folder) / "automatic.ome.zarr"
        table = table_path(output)
        segment(
            _input_of(image),
            output,
            loaded,
            preset=preset,
            automatic=automatic,
            config=_plane_config(image, plane),
            paths=SegmentPaths(table=table),
            progress=progress,
            should_stop=should_stop,
        )
        return read_masks(output, image.frame_size, limits, plane=plane, mode=mode)


def table_path(labels: Path) -> Path:
    """Where the table of `NAME.ome.zarr` is: beside it, under one of the usual names; NAME.csv if there is none."""
    return find_table(labels) or labels.with_name(f"{plain_stem(labels)}.csv")


def read_masks(
    labels: str | os.PathLike[str],
    frame_size: tuple[int, int],
    thresholds: ObjectFilterConfig = EVERYTHING,
    *,
    plane: Plane = (),
    mode: Mode = "automatic",
    table: str | os.PathLike[str] | None = None,
    progress: StageProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> FoundMasks:
    """The objects of an automatic run from its label image and table on disk, one box at a time.

    Parameters
    ----------
    labels : path
        NAME.ome.zarr or NAME.tif.
    frame_size : (H, W)
        Of the image that they are of.
    table : path, optional
        By default the one beside the labels.

    Raises
    ------
    ImageError
        If labels or table are missing, or the labels are of another size.
    """
    path = Path(labels)
    columns = read_table(table_path(path) if table is None else table)
    pixels = open_image(path).plane()
    if pixels.shape != frame_size:
        raise ImageError(
            f"the labels {path.name} have {pixels.shape} rows and columns, the image {frame_size}; choose the image "
            "that they were made from."
        )
    rows = np.flatnonzero(thresholds.keeps(columns)).tolist()
    masks = []
    for count, row in enumerate(rows):
        if should_stop is not None and should_stop():
            raise RunInterrupted("reading the result was stopped; nothing was changed.")
        box = Box(*(int(columns[name][row]) for name in ("x0", "y0", "x1", "y1")))
        iou, stability = float(columns["predicted_iou"][row]), float(columns["stability_score"][row])
        shown = pixels.read_raw(box)[..., 0] == columns["label"][row]
        mask = Mask.from_window(shown, box, frame_size, predicted_iou=iou, stability_score=stability)
        masks.append(PlaneMask(plane, mask, iou, bool(columns["touches_seam"][row])))
        if progress is not None:
            progress("objects", count + 1, len(rows))
    return FoundMasks(tuple(masks), len(columns["label"]), mode)


def prefill(session: AnnotationSession, found: FoundMasks) -> PrefillReport:
    """The quick half of :func:`prefill_automatic`: the masks as objects of a session, as one act."""
    new = unannotated(session, found.masks)
    before = len(session.objects)
    if new:
        session.prefill([[mask] for mask in new])
    session.set_mode(found.mode)
    return PrefillReport(found.total, len(found.masks), len(session.objects) - before, found.cut)


def batches(found: FoundMasks, size: int = BATCH) -> list[FoundMasks]:
    """The same in parts, at least one, for a window that has to draw in between; each becomes an act of its own."""
    masks = found.masks
    return [replace(found, masks=masks[i : i + size]) for i in range(0, max(1, len(masks)), size)]


def unannotated(session: AnnotationSession, masks: Sequence[PlaneMask]) -> list[PlaneMask]:
    """The masks that are no object yet: at most MOST_COVERED of their pixels belong to others."""
    labels = session.labels
    new = []
    for found in masks:
        inside = found.mask.window(found.mask.box)
        taken = np.count_nonzero(labels.window(found.plane, found.mask.box)[inside])
        if taken <= MOST_COVERED * found.mask.area:
            new.append(found)
    return new


def _loaded(model: str | os.PathLike[str] | SamModel | Segmenter, device: str) -> SamModel:
    if isinstance(model, SamModel):
        return model
    if isinstance(model, SamSegmenter):
        return model.model
    if isinstance(model, str | os.PathLike):
        return load_model(model, device)
    raise ConfigError(f"automatic masks need one of this package's models, got {type(model).__name__}; name one.")


def _input_of(image: AnnotatedImage) -> Any:
    """What `segment` opens: the file, whose identity outlives this program, or the arrays."""
    path = image.to_record()["path"]
    return path if path is not None else list(image.source.levels)


def _plane_config(image: AnnotatedImage, plane: Plane) -> SegmentConfig:
    image.plane(plane)
    at = dict(zip(image.leading_axes, plane, strict=True))
    size = image.pixel_size_um
    return SegmentConfig(
        t=at.get("T", 0),
        z=at.get("Z", 0),
        channels=image.channels,
        axes=image.source.axes,
        series=int(image.to_record()["series"]),
        pixel_size_um=None if size is None else size[0],
    )
