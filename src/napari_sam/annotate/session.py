"""An annotation session: how it begins, goes on where a journal ends, and is closed; its acts are in `session_acts`.

No window, no thread, no model: questions go out, answers come in. Acts are called from one thread; the labels may be
read from others.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType

from napari_sam.annotate import events as ev
from napari_sam.annotate.config import SessionConfig
from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.journal import JournalWriter
from napari_sam.annotate.policies import Policy
from napari_sam.annotate.questions import Answer
from napari_sam.annotate.replaying import Replayed, new_labels, replay, run_journal
from napari_sam.annotate.session_acts import SessionActs
from napari_sam.annotate.state import SessionState

__all__ = ["AnnotationSession", "Replayed", "SessionConfig", "replay"]


class AnnotationSession(SessionActs):
    """Labels of one image in the making. Close it, or use it as a context, so that its journal is free again."""

    def __init__(
        self,
        image: AnnotatedImage,
        journal: str | os.PathLike[str] | None = None,
        *,
        config: SessionConfig | None = None,
        model: str = "",
        fingerprint: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin a session.

        Parameters
        ----------
        image : AnnotatedImage
        journal : path, optional
            Written as the user acts; must not exist yet. Without one, nothing outlives the program.
        config : SessionConfig, optional
        model, fingerprint : str
            Of the segmenter that answers.
        clock : function
            The time in seconds since 1970.

        Raises
        ------
        JournalError, OutputError
            If the journal exists already, or cannot be written.
        """
        config = config or SessionConfig()
        self._set_up(image, config, clock)
        self._state.model = (model, fingerprint)
        header = ev.Header(
            version=ev.JOURNAL_VERSION,
            image=image.to_record(),
            model=model,
            fingerprint=fingerprint,
            config={"policy": config.policy},
            time=self._now(),
        )
        if journal is not None:
            self._writer = JournalWriter.create(journal, header, sync=config.sync_journal)

    def _set_up(self, image: AnnotatedImage, config: SessionConfig, clock: Callable[[], float]) -> None:
        self.image = image
        self.config = config
        self.warning = ""
        """What was left out of a journal that was resumed; empty if nothing was."""
        self._clock = clock
        self._policy: Policy = config.policy
        self._state = SessionState(new_labels(image.shape, config))
        self._writer = None
        self._answers: OrderedDict[int, Answer] = OrderedDict()

    @classmethod
    def resume(
        cls,
        journal: str | os.PathLike[str],
        image: AnnotatedImage | None = None,
        *,
        config: SessionConfig | None = None,
        clock: Callable[[], float] = time.time,
    ) -> AnnotationSession:
        """Go on with a session where its journal ends; undo goes back to its beginning.

        Parameters
        ----------
        journal : path
        image : AnnotatedImage, optional
            The image it is of, if it is open already; needed for arrays. None opens the file again.

        Raises
        ------
        JournalError
            If the journal is damaged before its end, open in another session, or of another image.
        """
        config = config or SessionConfig()
        writer, content = JournalWriter.resume(journal, sync=config.sync_journal)
        try:
            session = cls.__new__(cls)
            session._set_up(AnnotatedImage.from_record(content.header.image, image), config, clock)
            session._state.labels.keeps_edits = False
            run_journal(session._state, content)
            session._state.labels.keeps_edits = True
            session._writer = writer
            session.warning = content.dropped
        except BaseException:
            writer.close()
            raise
        return session

    def close(self, *, keep_labels: bool = False) -> None:
        """Write what was painted last, and let go of the journal and the temporary folder.

        With `keep_labels` the labels can be read on, for a layer that shows them; their folder goes with them.
        """
        if self.labels.has_edits and self._writer is not None:
            self._record_edits()
        if self._writer is not None:
            self._writer.close()
        if not keep_labels:
            self.labels.close()

    def __enter__(self) -> AnnotationSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
