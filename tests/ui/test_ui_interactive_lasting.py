"""What must not go wrong: layers that vanish, a program that dies, models that change, a window that closes."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QApplication

from napari_sam.ui.interactive import widget as interactive
from ui.interactive_scenes import WAIT_MS, Hands, ThresholdSegmenter, discs, labels_of, open_session, start

KEY = Qt.Key


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def viewer(make_napari_viewer) -> Any:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(discs(), name="cells")
    return viewer


def answering_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "napari-sam-answers"]


def test_layers_that_are_deleted_or_renamed_come_back_and_nothing_is_lost(viewer, qtbot, tmp_path):
    hands = open_session(viewer, qtbot, tmp_path / "j.jsonl")
    hands.click(64, 64)
    hands.key(KEY.Key_Return)
    viewer.layers["cells"].name = "renamed"
    for name in ("cells objects", "current object", "cells prompts", "cells outlines"):
        viewer.layers.remove(name)
    hands.click(192, 64)
    hands.key(KEY.Key_Return)
    names = {layer.name for layer in viewer.layers}
    assert {"renamed", "cells objects", "current object", "cells prompts", "cells outlines"} <= names
    assert labels_of(viewer)[64, 64] == 1
    assert labels_of(viewer)[64, 192] == 2


def test_an_image_deleted_while_the_model_works_ends_the_session_and_continue_brings_all_back(viewer, qtbot, tmp_path):
    segmenter = ThresholdSegmenter()
    hands = open_session(viewer, qtbot, tmp_path / "j.jsonl", segmenter)
    hands.click(64, 64)
    hands.key(KEY.Key_Return)
    segmenter.go.clear()
    hands.click(192, 64, wait=False)
    viewer.layers.remove("cells")
    segmenter.go.set()
    qtbot.waitUntil(lambda: not answering_threads(), timeout=WAIT_MS)
    qtbot.wait(50)
    assert hands.widget.control is None
    assert [layer.name for layer in viewer.layers] == ["cells objects"]
    assert labels_of(viewer)[64, 64] == 1
    # napari 0.9.2 with Mesa's software renderer crashes if an image is added below labels that outlived theirs.
    viewer.layers.clear()
    viewer.add_image(discs(), name="cells")
    hands.widget.form.journal.setText(str(tmp_path / "j.jsonl"))
    assert hands.widget.form.start.text() == "Continue"
    start(hands)
    hands.wait_for_answer()
    assert labels_of(viewer)[64, 64] == 1
    assert len(hands.widget.control.current.prompts) == 1
    hands.key(KEY.Key_Return)
    assert labels_of(viewer)[64, 192] == 2


def test_a_session_that_was_never_closed_is_offered_again(viewer, qtbot, tmp_path, monkeypatch):
    hands = open_session(viewer, qtbot, tmp_path / "j.jsonl")
    hands.click(64, 64)
    hands.key(KEY.Key_Return)
    lines = (tmp_path / "j.jsonl").read_bytes()
    # What a kill leaves behind: all lines, the last perhaps torn, and no lock that anyone holds.
    (tmp_path / "killed.jsonl").write_bytes(lines + b'{"n": 4, "event": "unfin')
    hands.widget.form.stop.click()
    hands.widget.form.journal.setText(str(tmp_path / "killed.jsonl"))
    assert "earlier session" in hands.widget.form.status.text()
    start(hands)
    assert "Continued with 1 objects" in hands.widget.form.status.text()
    assert "not complete and is left out" in hands.widget.form.status.text()
    assert labels_of(viewer)[64, 64] == 1


def test_answers_of_a_former_model_are_refused_and_the_new_one_is_asked(viewer, qtbot, tmp_path):
    slow, other = ThresholdSegmenter(), ThresholdSegmenter("threshold-2")
    hands = open_session(viewer, qtbot, tmp_path / "j.jsonl", slow)
    slow.go.clear()
    hands.click(64, 64, wait=False)
    control = hands.widget.control
    store = interactive.SessionControl.use_store
    from napari_sam.workflows.annotating.interactive import change_model

    store(control, change_model(control.session, other))
    qtbot.waitUntil(lambda: control.current.mask is not None, timeout=WAIT_MS)
    assert other.decoded == 1
    slow.go.set()
    qtbot.waitUntil(lambda: len(answering_threads()) == 1, timeout=WAIT_MS)
    assert control.session.model == ("threshold", "threshold-2")


def test_a_model_that_fails_is_told_and_the_next_click_is_answered(viewer, qtbot, tmp_path, monkeypatch):
    segmenter = ThresholdSegmenter()
    hands = open_session(viewer, qtbot, tmp_path / "j.jsonl", segmenter)
    with monkeypatch.context() as patched:
        patched.setattr(segmenter, "decode", lambda *_: 1 / 0)
        hands.click(64, 64, wait=False)
        qtbot.waitUntil(lambda: "ZeroDivisionError" in hands.widget.form.status.text(), timeout=WAIT_MS)
    hands.key(KEY.Key_Backspace)
    hands.click(64, 64)
    assert hands.widget.control.current.mask.area == 1257


def test_errors_of_opening_are_told_in_the_form(viewer, qtbot, tmp_path, monkeypatch):
    from napari.utils.notifications import notification_manager

    monkeypatch.setattr(notification_manager, "receive_error", lambda *_: None)
    (tmp_path / "bad.jsonl").write_text("no journal\n")
    widget = interactive.InteractiveSegmentation(viewer, ThresholdSegmenter())
    viewer.window.add_dock_widget(widget, name="Interactive segmentation")
    widget.form.journal.setText(str(tmp_path / "bad.jsonl"))
    widget.form.start.click()
    qtbot.waitUntil(lambda: "is no journal of napari-sam" in widget.form.status.text(), timeout=WAIT_MS)
    qtbot.waitUntil(widget.form.start.isEnabled, timeout=WAIT_MS)
    widget.form.axes.setText("ZYX")
    widget.form.start.click()
    assert "must be 2 different letters" in widget.form.status.text()
    viewer.layers.clear()
    assert not widget.form.start.isEnabled()


def test_a_closed_dock_leaves_no_widget_thread_or_callback_and_the_journal_free(viewer, qtbot, tmp_path):
    hands = open_session(viewer, qtbot, tmp_path / "j.jsonl")
    hands.click(64, 64)
    alive = {
        "widget": weakref.ref(hands.widget),
        "control": weakref.ref(hands.widget.control),
        "session": weakref.ref(hands.widget.control.session),
        "answerer": weakref.ref(hands.widget.control.answerer),
    }
    viewer.window.remove_dock_widget("all")
    hands.widget.deleteLater()
    del hands
    qtbot.waitUntil(lambda: not answering_threads(), timeout=WAIT_MS)
    qtbot.wait(50)
    for _ in range(3):
        # What connects a button to a function goes after the button, in a turn of its own.
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
        gc.collect()
    held = {name: gc.get_referrers(ref()) for name, ref in alive.items() if ref() is not None}
    assert not held, str(held)[:3000]
    assert [layer.name for layer in viewer.layers] == ["cells", "cells objects"]
    callbacks = [*viewer.mouse_drag_callbacks, *viewer.mouse_move_callbacks]
    assert not [f for f in callbacks if "napari_sam" in getattr(f, "__module__", "")]
    for emitter in (viewer.layers.events.removed, viewer.layers.events.inserted, viewer.scene.camera.events.zoom):
        assert not [callback for callback in emitter.callbacks if "napari_sam" in repr(callback)]
    again = open_session(viewer, qtbot, tmp_path / "j.jsonl")
    assert again.widget.control.current.mask.area == 1257


def test_the_window_is_closed_while_the_model_works(make_napari_viewer, qtbot, tmp_path):
    viewer = make_napari_viewer(show=True)
    viewer.add_image(discs(), name="cells")
    segmenter = ThresholdSegmenter()
    hands = open_session(viewer, qtbot, tmp_path / "j.jsonl", segmenter)
    segmenter.go.clear()
    hands.click(64, 64, wait=False)
    viewer.close()
    segmenter.go.set()
    qtbot.waitUntil(lambda: not answering_threads(), timeout=WAIT_MS)
    assert "prompt_added" in (tmp_path / "j.jsonl").read_text()


def test_the_built_in_model_answers_a_click_on_a_disc(viewer, qtbot, tmp_path):
    widget = interactive.InteractiveSegmentation(viewer)
    viewer.window.add_dock_widget(widget, name="Interactive segmentation")
    widget.form.journal.setText(str(tmp_path / "j.jsonl"))
    widget.form.model.setCurrentIndex(widget.form.model.findData("nano"))
    hands = Hands(viewer, widget, qtbot)
    start(hands)
    hands.click(64, 64)
    hands.key(KEY.Key_Return)
    found = labels_of(viewer) > 0
    disc = np.zeros_like(found)
    disc[:128, :128] = discs()[:128, :128] > 100
    assert (found & disc).sum() / (found | disc).sum() > 0.7
