"""One thread that asks the model: the newest question first, what the pointer is over next, the view's surroundings
last."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QObject, Signal, Slot

from napari_sam.errors import RunInterrupted

MOST_AHEAD_S = 3.0
"""A model that takes longer for one window is not asked ahead of time: a click would wait for that to end."""

Answer = Any
Question = Any
Ask = Callable[[Question, Callable[[], bool]], Answer]

AT_EXIT_S = 10.0
"""How long Python waits at its end for a model that is answering: torch aborts where its thread is cut off."""

_alive: weakref.WeakSet[Answerer] = weakref.WeakSet()


@atexit.register
def end_all() -> None:
    """Stop all threads that answer, and wait for them."""
    answerers = list(_alive)
    for answerer in answerers:
        answerer.stop()
    for answerer in answerers:
        answerer.join(AT_EXIT_S)


class Answerer(QObject):
    """Answers questions on its own thread and reports on the GUI's.

    Parameters
    ----------
    ask : callable
        (question, should_stop) -> answer; slow. Called on the thread.
    can_answer_at_once : callable
        Whether a question needs no slow work; only such questions of the pointer are answered.
    embed : callable
        Does the slow work of one window ahead of time.
    answered : callable
        Called on the GUI thread with (question, answer).
    hovered : callable
        Called with the answer to the pointer's question.
    failed : callable
        Called with (question, error).
    """

    _answered = Signal(object, object)
    _hovered = Signal(object, object)
    _failed = Signal(object, object)

    def __init__(
        self,
        ask: Ask,
        can_answer_at_once: Callable[[Question], bool],
        embed: Callable[[Any], None],
        *,
        answered: Callable[[Question, Answer], None],
        hovered: Callable[[Question, Answer], None],
        failed: Callable[[Question, Exception], None],
    ) -> None:
        super().__init__()
        self._ask, self._can_answer_at_once, self._embed = ask, can_answer_at_once, embed
        self._on = {"answered": answered, "hovered": hovered, "failed": failed}
        self._wake = threading.Condition()
        self._question: Question | None = None
        self._hover: Question | None = None
        self._windows: list[Any] = []
        self._busy_with: str = ""
        self._looks_ahead = True
        self._stopped = False
        # These slots belong to an object of the GUI thread, so Qt queues the calls there.
        self._answered.connect(self._tell_answered)
        self._hovered.connect(self._tell_hovered)
        self._failed.connect(self._tell_failed)
        self._thread = threading.Thread(target=self._work, name="napari-sam-answers", daemon=True)
        self._thread.start()
        _alive.add(self)

    def ask(self, question: Question) -> None:
        """Answer this next; what waits, or is being answered, is not asked any more."""
        with self._wake:
            self._question, self._hover = question, None
            self._wake.notify()

    def hover(self, question: Question | None) -> None:
        """Answer this when nothing is asked, if it can be done at once; None forgets the last one."""
        with self._wake:
            self._hover = question
            self._wake.notify()

    def look_ahead(self, windows: Sequence[Any]) -> None:
        """Embed these when there is nothing else to do; they replace those of the last call."""
        with self._wake:
            self._windows = list(windows) if self._looks_ahead else []
            self._wake.notify()

    @property
    def is_answering(self) -> bool:
        """Whether a question waits for its answer."""
        with self._wake:
            return self._question is not None or self._busy_with == "question"

    def stop(self) -> None:
        """End the thread as soon as the model lets it; nobody is called any more."""
        with self._wake:
            self._stopped = True
            self._on = {}
            self._wake.notify()

    def join(self, timeout_s: float) -> bool:
        """Wait until the thread has ended; whether it has."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            kind, what = task
            try:
                self._do(kind, what)
            except RunInterrupted:
                pass
            except Exception as error:
                # Whatever the model or the image says is shown where the user looks; the thread lives on.
                self._emit(self._failed, what, error)
            finally:
                with self._wake:
                    self._busy_with = ""
                del what, task

    def _do(self, kind: str, what: Any) -> None:
        if kind == "window":
            began = time.monotonic()
            self._embed(what)
            if time.monotonic() - began > MOST_AHEAD_S:
                self._looks_ahead = False
                self.look_ahead(())
        elif kind == "question":
            self._emit(self._answered, what, self._ask(what, lambda: self._is_superseded(what)))
        elif self._can_answer_at_once(what):
            self._emit(self._hovered, what, self._ask(what, lambda: self._is_superseded(what)))

    def _next(self) -> tuple[str, Any] | None:
        with self._wake:
            while not (self._stopped or self._question is not None or self._hover is not None or self._windows):
                self._wake.wait()
            if self._stopped:
                return None
            if self._question is not None:
                self._busy_with, question, self._question = "question", self._question, None
                return "question", question
            if self._hover is not None:
                self._busy_with, question, self._hover = "hover", self._hover, None
                return "hover", question
            self._busy_with = "window"
            return "window", self._windows.pop(0)

    def _is_superseded(self, question: Question) -> bool:
        with self._wake:
            return self._stopped or self._question is not None

    def _emit(self, signal: Any, *what: Any) -> None:
        # The object may be gone with its window by the time the model is done.
        try:
            signal.emit(*what)
        except RuntimeError:
            self._stopped = True

    @Slot(object, object)
    def _tell_answered(self, question: Question, answer: Answer) -> None:
        if "answered" in self._on:
            self._on["answered"](question, answer)

    @Slot(object, object)
    def _tell_hovered(self, question: Question, answer: Answer) -> None:
        if "hovered" in self._on:
            self._on["hovered"](question, answer)

    @Slot(object, object)
    def _tell_failed(self, question: Question, error: Exception) -> None:
        if "failed" in self._on:
            self._on["failed"](question, error)
