"""What the widget *Interactive segmentation* asks of annotation sessions: opening, journals, jobs with a model."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from napari_sam.annotate.answering import answer_boxes, answer_question, first_window
from napari_sam.annotate.embeddings import EmbeddingStore
from napari_sam.annotate.images import AnnotatedImage, Channels
from napari_sam.annotate.labels import SparseLabels
from napari_sam.annotate.objects import AnnotatedObject, Change, CurrentObject, PlaneMask
from napari_sam.annotate.patches import Patch
from napari_sam.annotate.policies import POLICIES, Policy
from napari_sam.annotate.prompts import BoxPrompt, Click, MaskPrompt, Plane, Prompt, Scribble
from napari_sam.annotate.questions import Answer, Question
from napari_sam.annotate.segmenter import Segmenter
from napari_sam.annotate.session import AnnotationSession, SessionConfig
from napari_sam.annotate.volumes import propagate
from napari_sam.annotate.windows import Window
from napari_sam.errors import AnnotationError, ImageError, RunInterrupted
from napari_sam.geometry import Box, Mask
from napari_sam.workflows.annotating.drawn import cut_parts
from napari_sam.workflows.annotating.preferences import user_data_dir
from napari_sam.workflows.annotating.sessions import make_segmenter, open_session, open_store
from napari_sam.workflows.stages import StageProgress

__all__ = [
    "JOURNAL_ENDING",
    "POLICIES",
    "AnnotatedObject",
    "AnnotationSession",
    "Answer",
    "Box",
    "BoxPrompt",
    "Change",
    "Click",
    "CurrentObject",
    "EmbeddingStore",
    "Mask",
    "MaskPrompt",
    "OpenedSession",
    "Patch",
    "Plane",
    "PlaneMask",
    "Policy",
    "Prompt",
    "Question",
    "Scribble",
    "Segmenter",
    "SessionConfig",
    "SparseLabels",
    "Window",
    "answer_question",
    "change_model",
    "cut_object",
    "default_journal",
    "first_window",
    "follow_object",
    "label_at",
    "masks_of_boxes",
    "open_interactive",
]

JOURNAL_ENDING = ".annotation.jsonl"


@dataclass(frozen=True, slots=True, eq=False)
class OpenedSession:
    """A session, and the model's view of its image."""

    session: AnnotationSession
    store: EmbeddingStore
    was_resumed: bool
    """Whether its journal was there already."""


def default_journal(name: str, shape: Sequence[int], image_path: str | os.PathLike[str] | None = None) -> Path:
    """Where the journal of an image is kept unless the user says otherwise.

    Beside the image's file if that folder can be written to, else in the user's data folder.

    Parameters
    ----------
    name : str
        Of the layer.
    shape : sequence of int
        Tells images of the same name apart.
    image_path : path, optional
        Where the image was read from, if it was.
    """
    plain = re.sub(r"[^\w.-]+", "_", name).strip("_.") or "image"
    if image_path is not None:
        path = Path(image_path).expanduser()
        if path.exists() and os.access(path.parent, os.W_OK):
            same = plain == path.name or plain == path.name.split(".")[0]
            return path.with_name(f"{path.name}{'' if same else '.' + plain}{JOURNAL_ENDING}")
    size = "x".join(str(int(n)) for n in shape)
    return user_data_dir() / "annotations" / f"{plain}-{size}{JOURNAL_ENDING}"


def open_interactive(
    pixels: Any,
    journal: Path,
    model: str | Segmenter,
    *,
    axes: str,
    channels: Channels = None,
    config: SessionConfig | None = None,
    device: str = "auto",
    progress: StageProgress = lambda stage, done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> OpenedSession:
    """Begin a session, or go on with the one of a journal. Slow: it loads the model and samples the image.

    Parameters
    ----------
    pixels : array, or list of arrays
        The image, or the levels of its pyramid.
    journal : Path
        Resumed where it exists.
    model : str or Segmenter
        A name or path as `load_model` takes it.
    axes : str
        One letter for each axis of the pixels.
    channels : see AnnotatedImage.open

    Raises
    ------
    ImageError, CheckpointError, JournalError, OutputError, RunInterrupted
    """
    progress("reading the image", 0, 3)
    image = AnnotatedImage.open(pixels, axes=axes, channels=channels)
    _stop_if(should_stop)
    progress("loading the model", 1, 3)
    segmenter = make_segmenter(model, device) if isinstance(model, str) else model
    _stop_if(should_stop)
    progress("reading the journal", 2, 3)
    was_resumed = journal.is_file() and journal.stat().st_size > 0
    session = open_session(image, journal, segmenter=segmenter, config=config)
    if should_stop():
        session.close()
        _stop_if(should_stop)
    return OpenedSession(session, open_store(segmenter, session.image), was_resumed)


def change_model(session: AnnotationSession, model: str | Segmenter, device: str = "auto") -> EmbeddingStore:
    """The view of a session's image by another model. Slow; tell the session of it (`set_model`) afterwards."""
    segmenter = make_segmenter(model, device) if isinstance(model, str) else model
    return open_store(segmenter, session.image)


def masks_of_boxes(
    store: EmbeddingStore,
    boxes: Sequence[tuple[Plane, tuple[float, float, float, float]]],
    view_step: int,
    progress: StageProgress,
    should_stop: Callable[[], bool],
) -> list[list[PlaneMask]]:
    """The object of each of many boxes in any planes, as `AnnotationSession.prefill` takes them; none for some."""
    planes: dict[Plane, list[tuple[float, float, float, float]]] = {}
    for plane, box in boxes:
        planes.setdefault(plane, []).append(box)
    found: list[list[PlaneMask]] = []
    done = 0
    for plane, theirs in sorted(planes.items()):
        masks: dict[int, Mask] = {}
        for index, answer in answer_boxes(store, plane, theirs, view_step=view_step, should_stop=should_stop):
            masks[index] = answer.masks[answer.best]
            done += 1
            progress("boxes", done, len(boxes))
        found.extend(
            [PlaneMask(plane, masks[i], masks[i].predicted_iou)] for i in sorted(masks) if not masks[i].is_empty
        )
    return found


def follow_object(
    store: EmbeddingStore,
    current: CurrentObject,
    corrected: Collection[Plane],
    progress: StageProgress,
    should_stop: Callable[[], bool],
) -> list[PlaneMask]:
    """The current object in the neighbouring planes, both ways, until it ends or meets a plane the user corrected."""
    if current.mask is None:
        raise ImageError("there is no mask to follow yet; click on the object and wait for the answer.")
    found = []
    depth = store.image.shape[-3] if store.image.n_leading else 1
    for mask in propagate(store, current.plane, current.mask, corrected=corrected, should_stop=should_stop):
        found.append(PlaneMask(mask.plane, mask.mask, mask.predicted_iou, mask.unsure))
        progress("planes", len(found), depth)
    return found


def label_at(labels: SparseLabels, plane: Plane, xy: tuple[float, float]) -> int:
    """The label of the pixel at a point; 0 where nothing is labelled, and outside."""
    index = (*plane, round(xy[1]), round(xy[0]))
    inside = len(index) == labels.ndim and all(0 <= i < n for i, n in zip(index, labels.shape, strict=True))
    return int(labels[index]) if inside else 0


def cut_object(session: AnnotationSession, plane: Plane, path_xy: Sequence[tuple[float, float]]) -> Change:
    """Cut the object that a line runs over most; the largest part keeps its label.

    Raises
    ------
    AnnotationError
        If the line meets no object, or does not cut it.
    """
    met = [label for label in (label_at(session.labels, plane, xy) for xy in _along(path_xy)) if label]
    if not met:
        raise AnnotationError("the cut meets no committed object; draw it across one.")
    label = max(sorted(set(met)), key=met.count)
    known = session.objects.get(label)
    part = None if known is None else known.part(plane)
    mask = session.labels.mask_of(label, plane, None if part is None else part.extent)
    return session.split(label, cut_parts(mask, path_xy)[1:], plane)


def _along(path_xy: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points along a line, a pixel apart or less."""
    points = [path_xy[0]]
    for (x0, y0), (x1, y1) in pairwise(path_xy):
        count = int(max(abs(x1 - x0), abs(y1 - y0))) + 1
        points += [(x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count) for i in range(1, count + 1)]
    return points


def _stop_if(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise RunInterrupted("opening the session was stopped; nothing was written.")
