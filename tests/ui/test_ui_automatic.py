"""The widget in a real napari window: press, wait, look at the layers; the segmenter is a stand-in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_sam.errors import ImageError, RunInterrupted
from napari_sam.ui import AutomaticSegmentation

WAIT_MS = 10_000


class FakeSegment:
    """Threshold at half the maximum; waits before each of two tiles until the test says `go`."""

    def __init__(self, *, held: bool = False, error: Exception | None = None) -> None:
        self.go = threading.Event()
        self.began = threading.Event()
        if not held:
            self.go.set()
        self.error = error
        self.calls: list[tuple[Path, dict[str, Any]]] = []
        self.threads: list[int] = []

    def __call__(
        self,
        image: Any,
        output: Path,
        *,
        progress: Callable[[str, int, int], None],
        should_stop: Callable[[], bool],
        **options: Any,
    ) -> SimpleNamespace:
        self.calls.append((output, options))
        self.threads.append(threading.get_ident())
        self.began.set()
        for done in range(2):
            assert self.go.wait(WAIT_MS / 1000)
            if should_stop():
                raise RunInterrupted(f"stopped after {done} of 2 tiles")
            progress("tiles", done + 1, 2)
        if self.error is not None:
            raise self.error
        pixels = np.asarray(image)
        return SimpleNamespace(labels=(pixels > pixels.max() // 2).astype(np.uint32), table=[1, 2, 3])


def disc(side: int = 32) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return np.where((y - 16) ** 2 + (x - 16) ** 2 < 64, 200, 10).astype(np.uint8)


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


def open_widget(viewer: Any, segment: FakeSegment) -> AutomaticSegmentation:
    widget = AutomaticSegmentation(viewer, segment)
    viewer.window.add_dock_widget(widget, name="Automatic segmentation")
    return widget


def press_and_wait(widget: AutomaticSegmentation, qtbot: Any) -> None:
    widget.run.native.click()
    qtbot.waitUntil(lambda: widget.run.enabled, timeout=WAIT_MS)


def test_a_press_on_segment_adds_a_labels_layer_in_the_place_of_the_image(viewer, qtbot):
    image = viewer.add_image(disc(), name="cells", scale=(0.5, 0.5), translate=(7, 3))
    widget = open_widget(viewer, FakeSegment())
    press_and_wait(widget, qtbot)
    labels = viewer.layers["cells objects"]
    np.testing.assert_array_equal(labels.data, disc() > 100)
    np.testing.assert_array_equal(labels.extent.world, image.extent.world)
    assert widget.status.value == "3 objects in cells"


def test_the_work_runs_on_another_thread_and_the_window_stays_usable(viewer, qtbot):
    viewer.add_image(disc())
    segment = FakeSegment(held=True)
    widget = open_widget(viewer, segment)
    widget.run.native.click()
    qtbot.waitUntil(segment.began.is_set, timeout=WAIT_MS)
    assert (widget.run.enabled, widget.stop.enabled) == (False, True)
    viewer.add_points([[1, 1]])  # the GUI thread is free
    segment.go.set()
    qtbot.waitUntil(lambda: widget.run.enabled, timeout=WAIT_MS)
    assert segment.threads != [threading.get_ident()]


def test_progress_is_shown_in_the_activity_dock(viewer, qtbot):
    from napari.utils import progress

    viewer.add_image(disc())
    segment = FakeSegment(held=True)
    widget = open_widget(viewer, segment)
    widget.run.native.click()
    qtbot.waitUntil(segment.began.is_set, timeout=WAIT_MS)
    (bar,) = progress._all_instances
    assert "Segmenting" in bar.desc
    segment.go.set()
    qtbot.waitUntil(lambda: widget.run.enabled, timeout=WAIT_MS)
    assert (bar.n, bar.total) == (2, 2)
    assert not progress._all_instances


def test_the_form_says_which_stage_is_how_far(viewer, qtbot, monkeypatch):
    viewer.add_image(disc(), name="cells")
    widget = open_widget(viewer, FakeSegment())
    said: list[str] = []
    monkeypatch.setattr(AutomaticSegmentation, "_say", lambda _, text: said.append(text))
    press_and_wait(widget, qtbot)
    assert "Segmenting cells: tiles 1 of 2" in said


def test_stop_ends_the_job_adds_nothing_and_says_how_to_go_on(viewer, qtbot):
    viewer.add_image(disc())
    segment = FakeSegment(held=True)
    widget = open_widget(viewer, segment)
    widget.run.native.click()
    qtbot.waitUntil(segment.began.is_set, timeout=WAIT_MS)
    widget.stop.native.click()
    segment.go.set()
    qtbot.waitUntil(lambda: widget.run.enabled, timeout=WAIT_MS)
    assert len(viewer.layers) == 1
    assert "Stopped" in widget.status.value
    assert "goes on from here" in widget.status.value


def test_without_an_image_the_user_is_told_to_open_one(viewer, qtbot):
    widget = open_widget(viewer, FakeSegment())
    widget.run.native.click()
    assert "no image layer" in widget.status.value
    assert "open an image" in widget.status.value


def test_an_error_of_the_job_is_shown_and_the_button_works_again(viewer, qtbot, monkeypatch):
    from napari.utils.notifications import notification_manager

    told: list[BaseException] = []
    monkeypatch.setattr(notification_manager, "receive_error", lambda kind, error, trace: told.append(error))
    viewer.add_image(disc())
    widget = open_widget(viewer, FakeSegment(error=ImageError("this image is constant; choose another.")))
    press_and_wait(widget, qtbot)
    assert widget.status.value == "Failed: this image is constant; choose another."
    assert [str(error) for error in told] == ["this image is constant; choose another."]
    assert len(viewer.layers) == 1


def test_a_layer_deleted_while_the_job_runs_loses_nothing(viewer, qtbot):
    image = viewer.add_image(disc(), name="cells")
    segment = FakeSegment(held=True)
    widget = open_widget(viewer, segment)
    widget.run.native.click()
    qtbot.waitUntil(segment.began.is_set, timeout=WAIT_MS)
    viewer.layers.remove(image)
    segment.go.set()
    qtbot.waitUntil(lambda: widget.run.enabled, timeout=WAIT_MS)
    assert [layer.name for layer in viewer.layers] == ["cells objects"]


def test_model_preset_and_place_reach_the_segmenter(viewer, qtbot, tmp_path):
    viewer.add_image(disc())
    segment = FakeSegment()
    widget = open_widget(viewer, segment)
    widget.model.value, widget.preset.value, widget.output.value = "vit_b", "nuclei", tmp_path / "mine"
    press_and_wait(widget, qtbot)
    assert segment.calls == [(tmp_path / "mine.ome.zarr", {"model": "vit_b", "preset": "nuclei"})]


def test_left_as_it_opens_the_form_asks_for_the_built_in_model_and_a_temporary_place(viewer, qtbot):
    viewer.add_image(disc())
    segment = FakeSegment()
    press_and_wait(open_widget(viewer, segment), qtbot)
    ((output, options),) = segment.calls
    assert options == {"model": "nano", "preset": None}
    assert output.name == "labels.ome.zarr"
    assert output.parent.is_dir()


def test_closing_the_form_while_a_job_runs_ends_the_job_quietly(viewer, qtbot):
    viewer.add_image(disc())
    segment = FakeSegment(held=True)
    widget = open_widget(viewer, segment)
    widget.run.native.click()
    qtbot.waitUntil(segment.began.is_set, timeout=WAIT_MS)
    job = widget._job
    assert job is not None
    viewer.window.remove_dock_widget("all")
    widget.native.deleteLater()
    qtbot.waitUntil(lambda: job.is_stopping, timeout=WAIT_MS)
    segment.go.set()
    qtbot.waitUntil(lambda: not job._worker.is_running, timeout=WAIT_MS)
    assert len(viewer.layers) == 1
