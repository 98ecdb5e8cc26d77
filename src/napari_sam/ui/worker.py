"""Long work off the GUI thread: progress in napari's activity dock, a pause, and a stop that keeps what is finished."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from napari.qt.threading import FunctionWorker, create_worker
from napari.utils import progress
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QObject, Signal, Slot

from napari_sam.errors import NapariSamError, RunInterrupted
from napari_sam.workflows.stages import StageProgress

Work = Callable[[StageProgress, Callable[[], bool]], Any]
"""A job: handed its progress callback, and a function that says whether it should stop (and waits during a pause)."""
_POLL_SECONDS = 0.1
"""How often a paused job looks whether napari has told it to stop."""


class Job(QObject):
    """One long function on another thread.

    Make it, and call `start` and `stop`, on the GUI thread; `told`, `done`, `failed` and `closed` are called there too.

    Parameters
    ----------
    work : Work
        Called on another thread. Where it stops because it was told to, it raises RunInterrupted.
    description : str
        What the activity dock says.
    told : callable
        Called with each (stage, steps done, steps in all).
    done : callable
        Called with what `work` returned, unless the job was stopped.
    failed : callable
        Called with the exception of `work`, which napari's notifications show besides.
    closed : callable
        Called last, however the job ended.
    """

    _advanced = Signal(str, int, int)

    def __init__(
        self,
        work: Work,
        *,
        description: str,
        told: Callable[[str, int, int], None],
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
        closed: Callable[[], None],
    ) -> None:
        super().__init__()
        self._work = work
        self._description = description
        self._told, self._done, self._failed, self._closed = told, done, failed, closed
        self._bar: progress | None = None
        self._stage = ""
        self._may_go_on = threading.Event()
        self._may_go_on.set()
        self._worker: FunctionWorker[Any] = create_worker(self._run, _ignore_errors=True)
        # These slots belong to an object of the GUI thread, so Qt queues the calls there.
        self._advanced.connect(self._on_advanced)
        self._worker.returned.connect(self._on_returned)
        self._worker.errored.connect(self._on_errored)
        self._worker.finished.connect(self._on_finished)

    @property
    def is_stopping(self) -> bool:
        """Whether the job was asked to stop, by `stop` or by napari (its task list, the window closing)."""
        return bool(self._worker.abort_requested)

    @property
    def is_paused(self) -> bool:
        """Whether the job waits, or will at its next sign of progress."""
        return not self._may_go_on.is_set()

    def start(self) -> None:
        """Begin; returns at once."""
        self._bar = progress(total=0, desc=self._description)
        self._worker.start()

    def pause(self) -> None:
        """Ask the work to wait at its next sign of progress; returns at once."""
        self._may_go_on.clear()

    def go_on(self) -> None:
        """End the pause."""
        self._may_go_on.set()

    def stop(self) -> None:
        """Ask the work to end at its next sign of progress, paused or not; returns at once."""
        self._worker.quit()
        self._may_go_on.set()

    def abandon(self) -> None:
        """Stop, and call nobody back: the widget that asked is gone."""
        self.stop()
        self._told = self._done = self._failed = self._closed = _ignore

    def _run(self) -> Any:
        try:
            return self._work(self._advanced.emit, self._should_stop)
        except RunInterrupted:
            return None

    def _should_stop(self) -> bool:
        while not self.is_stopping and not self._may_go_on.wait(_POLL_SECONDS):
            pass
        return self.is_stopping

    @Slot(str, int, int)
    def _on_advanced(self, stage: str, done: int, total: int) -> None:
        if self._bar is None:
            return
        self._told(stage, done, total)
        if self._bar is None:  # whoever was told may have ended the job
            return
        if stage != self._stage:
            # The bar's own estimate of the time left counts from here on, without what an earlier run has done.
            self._stage = stage
            self._bar.reset(total)
            self._bar.initial = done
        # Last, because napari's bar lets Qt handle events here, and the end of the job may be among them.
        self._bar.update(done - self._bar.n)

    @Slot(object)
    def _on_returned(self, result: Any) -> None:
        if not self.is_stopping:  # the stop may have come while this call was queued
            self._done(result)

    @Slot(object)
    def _on_errored(self, error: Exception) -> None:
        notification_manager.receive_error(type(error), error, error.__traceback__)
        self._failed(error)

    @Slot()
    def _on_finished(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._closed()


def error_text(error: Exception) -> str:
    """An error as a user reads it: our own messages as they are, others with their kind."""
    return str(error) if isinstance(error, NapariSamError) else f"{type(error).__name__}: {error}"


def _ignore(*_: Any) -> None:
    """A callback that does nothing."""
