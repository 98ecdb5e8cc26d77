"""The thread that asks the model, at the end of the program."""

from __future__ import annotations

import threading

import pytest

from napari_sam.ui.interactive import answerer as answering
from napari_sam.ui.interactive.answerer import Answerer, end_all


@pytest.fixture
def slow(qapp):
    """An answerer that is embedding a window; the event lets it finish."""
    begun, may_end = threading.Event(), threading.Event()

    def embed(window):
        begun.set()
        may_end.wait(10)

    made = Answerer(
        lambda question, stop: None,
        lambda question: False,
        embed,
        answered=lambda *_: None,
        hovered=lambda *_: None,
        failed=lambda *_: None,
    )
    made.look_ahead([1, 2, 3])
    assert begun.wait(10)
    yield made, may_end
    may_end.set()
    made.stop()


def test_python_waits_at_its_end_for_the_window_that_is_being_embedded(slow):
    made, may_end = slow
    threading.Timer(0.2, may_end.set).start()
    end_all()
    assert made.join(0)


def test_it_does_not_wait_for_ever(slow, monkeypatch):
    made, _ = slow
    monkeypatch.setattr(answering, "AT_EXIT_S", 0.05)
    end_all()
    assert not made.join(0)
