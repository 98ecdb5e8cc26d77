"""The result of an automatic run as an annotation session, to be reviewed and mended."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_sam.annotate.segmenter import Segmenter
from napari_sam.errors import ImageError
from napari_sam.workflows.annotating.data_engine import prefill, read_masks
from napari_sam.workflows.annotating.interactive import JOURNAL_ENDING, OpenedSession, open_interactive
from napari_sam.workflows.file_layers import plain_stem
from napari_sam.workflows.stages import StageProgress


def review_journal(labels: str | os.PathLike[str]) -> Path:
    """Where the review of a result is kept: beside it, as NAME.review.annotation.jsonl."""
    path = Path(labels)
    return path.with_name(f"{plain_stem(path)}.review{JOURNAL_ENDING}")


def open_review(
    pixels: Any,
    labels: str | os.PathLike[str],
    model: str | Segmenter,
    *,
    axes: str,
    journal: Path | None = None,
    progress: StageProgress = lambda stage, done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> OpenedSession:
    """A session on the result of an automatic run, or the one that was begun on it. Slow.

    Parameters
    ----------
    pixels : array, or list of arrays
        The image (or its pyramid), of two dimensions besides channels.
    labels : path
        Of the run's label image; its table lies beside it. Neither is changed.
    model : str or Segmenter
        Answers where an object is mended.
    axes : str
        One letter for each axis of the pixels.
    journal : Path, optional
        By default beside the labels, see :func:`review_journal`.

    Raises
    ------
    ImageError
        If image and labels do not fit, or the table is missing.
    JournalError, OutputError, CheckpointError, RunInterrupted
        As :func:`napari_sam.workflows.annotating.interactive.open_interactive` does.
    """
    place = review_journal(labels) if journal is None else journal
    opened = open_interactive(pixels, place, model, axes=axes, progress=progress, should_stop=should_stop)
    session = opened.session
    try:
        if session.image.n_leading:
            raise ImageError(
                f"a result is reviewed on the one plane it is of, and {session.image.name} has "
                f"{session.image.n_planes} planes; take that plane as a layer of its own."
            )
        # Also where the journal is there: who was interrupted right after it was begun has no objects yet.
        if not session.objects and not session.can_undo:
            found = read_masks(labels, session.image.frame_size, progress=progress, should_stop=should_stop)
            prefill(session, found)
            session.set_mode("review")
    except BaseException:
        session.close()
        raise
    return opened
