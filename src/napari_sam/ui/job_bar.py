"""One job at a time with a progress bar and a stop button in a form."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from qtpy.QtWidgets import QProgressBar, QPushButton

from napari_sam.ui.worker import Job, Work, error_text

SECONDS = ("training",)
"""Stages whose steps are seconds."""


class JobBar:
    """Runs work on another thread, and shows how far it is.

    Parameters
    ----------
    bar, stop : QProgressBar, QPushButton
        Shown while a job runs.
    say : callable
        Called with what the user should read.
    changed : callable
        Called after a job has begun or ended.
    """

    def __init__(
        self, bar: QProgressBar, stop: QPushButton, *, say: Callable[[str], None], changed: Callable[[], None]
    ) -> None:
        self._bar, self._stop_button, self._say, self._changed = bar, stop, say, changed
        self._job: Job | None = None
        stop.clicked.connect(lambda _checked: self.stop())
        self._show()

    @property
    def is_running(self) -> bool:
        return self._job is not None

    def run(self, work: Work, description: str, done: Callable[[Any], None]) -> None:
        """Begin a job, unless one is running; `done` gets its result."""
        if self._job is not None:
            self._say("A job is running; stop it, or wait for its end.")
            return
        self._say(f"{description} ...")
        self._bar.setRange(0, 0)
        self._job = Job(
            work,
            description=description,
            told=partial(self._advance, description),
            done=done,
            failed=lambda error: self._say(error_text(error)),
            closed=self._closed,
        )
        self._show()
        self._changed()
        self._job.start()

    def stop(self) -> None:
        """Ask the job to end; returns at once."""
        if self._job is not None:
            self._job.stop()
            self._say("Stopping ...")

    def abandon(self) -> None:
        """Stop, and call nobody back: the form is gone."""
        if self._job is not None:
            self._job.abandon()

    def _advance(self, description: str, stage: str, done: int, total: int) -> None:
        self._bar.setRange(0, total)
        self._bar.setValue(done)
        self._say(f"{description}: {stage} {done} of {total}{' s' if stage in SECONDS else ''}")

    def _closed(self) -> None:
        if self._job is not None and self._job.is_stopping:
            self._say("Stopped; what was finished is kept.")
        self._job = None
        self._show()
        self._changed()

    def _show(self) -> None:
        self._bar.setVisible(self._job is not None)
        self._stop_button.setVisible(self._job is not None)
