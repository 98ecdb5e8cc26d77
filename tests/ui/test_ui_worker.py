"""Jobs on another thread: what they tell is shown without holding the window up."""

from __future__ import annotations

import sys
import threading

import pytest

from napari_sam.errors import RunInterrupted
from napari_sam.ui.worker import Job

WAIT_MS = 60_000


class Heard:
    """What a job said, on the GUI thread."""

    def __init__(self, work):
        self.told, self.done, self.failed, self.is_closed = [], [], [], False
        self.job = Job(
            work,
            description="a test",
            told=lambda *step: self.told.append(step),
            done=self.done.append,
            failed=self.failed.append,
            closed=self._close,
        )

    def _close(self):
        self.is_closed = True

    def start(self):
        self.job.start()
        return self


def test_many_quick_steps_are_shown_as_few_and_the_last_is_among_them(qtbot):
    def work(progress, should_stop):
        for step in range(1, 5001):
            progress("tiles", step, 5000)
        return "all"

    heard = Heard(work).start()
    qtbot.waitUntil(lambda: heard.is_closed, timeout=WAIT_MS)
    assert heard.told[-1] == ("tiles", 5000, 5000)
    assert len(heard.told) < 500
    assert heard.told == sorted(heard.told)
    assert heard.done == ["all"]


def test_a_stopped_job_is_closed_and_never_done(qtbot):
    def work(progress, should_stop):
        while not should_stop():
            progress("tiles", 1, 2)
        raise RunInterrupted("stopped")

    heard = Heard(work).start()
    qtbot.waitUntil(lambda: bool(heard.told), timeout=WAIT_MS)
    heard.job.stop()
    qtbot.waitUntil(lambda: heard.is_closed, timeout=WAIT_MS)
    assert heard.done == heard.failed == []


def test_python_changes_threads_more_often_while_any_job_runs(qtbot):
    usual = sys.getswitchinterval()
    go = threading.Event()
    jobs = [Heard(lambda progress, should_stop: go.wait(60)).start() for _ in range(2)]
    assert sys.getswitchinterval() < usual
    go.set()
    qtbot.waitUntil(lambda: all(heard.is_closed for heard in jobs), timeout=WAIT_MS)
    assert sys.getswitchinterval() == usual


def test_the_work_of_a_job_that_went_with_the_window_is_stopped(qtbot):
    job = Heard(lambda progress, should_stop: None).job
    with qtbot.waitSignal(job.destroyed, timeout=WAIT_MS):
        job.deleteLater()
    with pytest.raises(RunInterrupted, match="the window is gone; what is finished is kept"):
        job._note("tiles", 1, 2)
