"""A journal run again: the labels it comes to, without image, model or window."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from napari_sam.annotate.acts import plan
from napari_sam.annotate.config import SessionConfig
from napari_sam.annotate.events import Header, kind_of
from napari_sam.annotate.journal import JournalContent, read_journal
from napari_sam.annotate.labels import SparseLabels
from napari_sam.annotate.objects import AnnotatedObject
from napari_sam.annotate.state import SessionState
from napari_sam.errors import JournalError, NapariSamError


def new_labels(shape: tuple[int, ...], config: SessionConfig) -> SparseLabels:
    """Empty labels as a session keeps them."""
    return SparseLabels(shape, chunk_px=config.chunk_px, memory_bytes=config.max_memory_mb << 20, keeps_edits=True)


def run_journal(state: SessionState, content: JournalContent) -> None:
    """Do all that a journal says, from an empty state on."""
    state.model = (content.header.model, content.header.fingerprint)
    for number, event in enumerate(content.events, start=2):
        try:
            state.run(event, plan)
        except NapariSamError as error:
            raise JournalError(
                f"line {number} of the journal ({kind_of(type(event))}) does not follow from those before it: {error} "
                "It was edited, or another version wrote it."
            ) from error


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """What a journal comes to."""

    labels: SparseLabels
    objects: Mapping[int, AnnotatedObject]
    header: Header
    dropped: str
    """What was left out of the journal and why; empty if nothing was."""


def replay(
    journal: str | os.PathLike[str] | JournalContent, *, acts: int | None = None, config: SessionConfig | None = None
) -> Replayed:
    """The labels of a journal, byte for byte those of the session that wrote it; needs neither image nor model.

    Parameters
    ----------
    journal : path or JournalContent
        May be open in a session at the same time.
    acts : int, optional
        Only so many of its first events.
    config : SessionConfig, optional
        Memory and chunks of the labels.

    Raises
    ------
    JournalError
        If the journal is damaged before its end, or its events contradict each other.
    """
    content = journal if isinstance(journal, JournalContent) else read_journal(journal)
    content = content if acts is None else replace(content, events=content.events[:acts])
    labels = new_labels(tuple(content.header.image["shape"]), config or SessionConfig())
    labels.keeps_edits = False
    state = SessionState(labels)
    run_journal(state, content)
    return Replayed(labels, state.objects, content.header, content.dropped)
