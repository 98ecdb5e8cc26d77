"""Long work off the GUI thread: progress in napari's activity dock, a pause, and a stop that keeps what is finished."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from napari.qt.threading import FunctionWorker, create_worker
from napari.utils import progress
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QObject, QTimer, Signal, Slot

from napari_sam.errors import NapariSamError, RunInterrupted
from napari_sam.workflows.stages import StageProgress

Work = Callable[[StageProgress, Callable[[], bool]], Any]
"""A job: handed its progress callback, and a function that says whether it should stop (and waits during a pause)."""
_POLL_SECONDS = 0.1
"""How often a paused job looks whether napari has told it to stop."""
_SHOW_MS = 50
"""Signs of progress within this time are shown as one: a stage of many quick steps would keep the window drawing."""
_TURN_SECONDS = 0.0005
"""How long Python lets one thread run while another waits. Qt asks for Python's lock many times to handle one event,
and would wait for the 5 ms of Python's own setting each time."""


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
        Called with (stage, steps done, steps in all), the newest of them twenty times a second at most.
    done : callable
        Called with what `work` returned, unless the job was stopped.
    failed : callable
        Called with the exception of `work`, which napari's notifications show besides.
    closed : callable
        Called last, however the job ended.
    """

    _advanced = Signal()

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
        self._newest: tuple[str, int, int] | None = None
        self._newest_lock = threading.Lock()
        self._shown_at = -math.inf
        self._show_soon = QTimer(self)
        self._show_soon.setSingleShot(True)
        self._show_soon.timeout.connect(self._show_newest)
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
        _short_turns.begin()
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
            return self._work(self._note, self._should_stop)
        except RunInterrupted:
            return None

    def _note(self, stage: str, done: int, total: int) -> None:
        """Called on the thread of the work: the GUI thread is told once, however many steps come before it looks."""
        with self._newest_lock:
            is_waiting, self._newest = self._newest is not None, (stage, done, total)
        if not is_waiting:
            try:
                self._advanced.emit()
            except RuntimeError as gone:  # Qt has deleted this object: napari was closed meanwhile
                raise RunInterrupted("the window is gone; what is finished is kept.") from gone

    def _should_stop(self) -> bool:
        while not self.is_stopping and not self._may_go_on.wait(_POLL_SECONDS):
            pass
        return self.is_stopping

    @Slot()
    def _on_advanced(self) -> None:
        since_ms = 1000 * (time.monotonic() - self._shown_at)
        if since_ms >= _SHOW_MS:
            self._show_newest()
        else:
            self._show_soon.start(max(1, round(_SHOW_MS - since_ms)))

    def _tell_newest(self) -> tuple[str, int, int] | None:
        with self._newest_lock:
            newest, self._newest = self._newest, None
        if newest is not None:
            self._shown_at = time.monotonic()
            self._told(*newest)
        return newest

    @Slot()
    def _show_newest(self) -> None:
        newest = self._tell_newest()
        if newest is None or self._bar is None:  # whoever was told may have ended the job
            return
        stage, done, total = newest
        if stage != self._stage:
            # The bar's own estimate of the time left counts from here on, without what an earlier run has done.
            self._stage = stage
            self._bar.reset(total)
            self._bar.initial = done
        # Last, because napari's bar lets Qt handle events here, and the end of the job may be among them.
        self._bar.update(done - self._bar.n)

    @Slot(object)
    def _on_returned(self, result: Any) -> None:
        self._tell_newest()
        if not self.is_stopping:  # the stop may have come while this call was queued
            self._done(result)

    @Slot(object)
    def _on_errored(self, error: Exception) -> None:
        notification_manager.receive_error(type(error), error, error.__traceback__)
        self._failed(error)

    @Slot()
    def _on_finished(self) -> None:
        _short_turns.end()
        self._show_soon.stop()
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._closed()


class _ShortTurns:
    """Makes Python's threads take shorter turns while any job runs."""

    def __init__(self) -> None:
        self._running = 0
        self._usual = sys.getswitchinterval()

    def begin(self) -> None:
        if not self._running:
            self._usual = sys.getswitchinterval()
            sys.setswitchinterval(min(self._usual, _TURN_SECONDS))
        self._running += 1

    def end(self) -> None:
        self._running -= 1
        if not self._running:
            sys.setswitchinterval(self._usual)


_short_turns = _ShortTurns()
"""One for all jobs: Python has one setting for all threads."""


def error_text(error: Exception) -> str:
    """An error as a user reads it: our own messages as they are, others with their kind."""
    return str(error) if isinstance(error, NapariSamError) else f"{type(error).__name__}: {error}"


def _ignore(*_: Any) -> None:
    """A callback that does nothing."""
