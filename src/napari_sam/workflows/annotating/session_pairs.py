"""What is verified in an annotation session, as images with known labels."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.review import Place
from napari_sam.annotate.session import AnnotationSession, replay
from napari_sam.workflows.annotating.review import read_record
from napari_sam.workflows.annotating.verified import SPARSE, Verified, teach_all, write_pairs


def verified_of(
    session: AnnotationSession | str | os.PathLike[str],
    image: AnnotatedImage | None = None,
    complete: Sequence[Place] | None = None,
) -> Verified:
    """What is verified now, in a session or in its journal; quick for a session.

    Parameters
    ----------
    session : AnnotationSession or path
        A session is asked on its own thread; a path is replayed.
    image : AnnotatedImage, optional
        Of a journal whose image is no file.
    complete : sequence of Place, optional
        Where every object is labelled; by default what the audit of places found, kept beside the journal.

    Raises
    ------
    JournalError
        If the journal is damaged, or its image is not there.
    """
    if isinstance(session, AnnotationSession):
        places = read_record(session.journal).complete if complete is None else tuple(complete)
        return Verified(session.image, session.labels, dict(session.objects), places)
    journal = Path(session)
    replayed = replay(journal)
    places = read_record(journal).complete if complete is None else tuple(complete)
    opened = AnnotatedImage.from_record(replayed.header.image, image)
    return Verified(opened, replayed.labels, dict(replayed.objects), places)


def write_session_pairs(journal: str | os.PathLike[str], folder: Path, frame_px: int) -> tuple[str, ...]:
    """What is verified in a journal as pairs below `folder`, which is made anew; returns the groups that are sparse.

    Parameters
    ----------
    journal : path
        Of a session whose image is a file.
    folder : Path
    frame_px : int
        Side of the model's frame.

    Raises
    ------
    TrainingError
        If nothing is verified.
    JournalError
        If the journal is damaged, or its image is not there.
    """
    known = verified_of(journal)
    try:
        windows = teach_all(known, frame_px)
        shutil.rmtree(folder, ignore_errors=True)
        return (SPARSE,) if write_pairs(known, windows, folder)[SPARSE] else ()
    finally:
        known.labels.close()
