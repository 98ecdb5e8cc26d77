"""The automatic widget with worker processes, in a real window: the same labels, and pause, stop and going on."""

from __future__ import annotations

import numpy as np
import pytest

import napari_sam
from napari_sam.ui import AutomaticSegmentation
from napari_sam.workflows import SegmentConfig
from ui.ui_runs import WAIT_MS, Calls, HeldModel, open_widget, picture, run, wait_until_idle
from workflows.workflows_scenes import KEEP_ALL, scene, tiny_checkpoint


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


def test_workers_left_open_and_no_scheduler_is_what_the_form_offers(viewer, qtbot, monkeypatch):
    HeldModel(monkeypatch)
    viewer.add_image(picture(), rgb=True)
    calls = Calls()
    widget = open_widget(viewer, calls)
    run(widget, qtbot)
    assert calls[0]["config"] == SegmentConfig(axes="YXS")


def test_what_is_written_of_workers_reaches_the_run_or_is_refused_before_it(viewer, qtbot):
    viewer.add_image(picture(), rgb=True)
    widget = open_widget(viewer)
    widget.settings.working.set_values({"scheduler": "tcp://here:8786", "torch_threads": 1})
    config = widget.settings.request().config
    assert (config.workers, config.scheduler, config.torch_threads) == (None, "tcp://here:8786", 1)
    widget.settings.working.set_values({"workers": 2})
    widget.run.click()
    assert "the cluster at tcp://here:8786 has workers of its own" in widget.status.text()
    widget.settings.working.set_values({"workers": 0, "scheduler": None})
    widget.run.click()
    assert "workers must be at least 1, got 0" in widget.status.text()


def test_a_run_of_two_processes_pauses_stops_and_is_ended_by_one_with_the_same_labels(viewer, qtbot, tmp_path):
    checkpoint = tiny_checkpoint(tmp_path / "tiny.safetensors")

    def segment(image, output, *, model, **options):
        return napari_sam.segment(image, output, checkpoint, device="cpu", **(options | {"automatic": KEEP_ALL}))

    viewer.add_image(scene((512, 512)), rgb=True, name="cells")
    widget = AutomaticSegmentation(viewer, segment)
    viewer.window.add_dock_widget(widget, name="Automatic segmentation")
    settings = widget.settings
    settings.tiling.set_values({"core_px": 64, "halo_px": 16, "max_object_px": 0})
    settings.output.setText(str(tmp_path / "mine"))
    settings.working.set_values({"workers": 2, "torch_threads": 1})
    widget.run.click()
    qtbot.waitUntil(lambda: widget.progress.value() >= 1, timeout=WAIT_MS)
    widget.pause.click()
    qtbot.wait(600)  # the tiles that the processes had already
    before = widget.progress.value()
    qtbot.wait(300)
    assert widget.progress.value() == before < 64
    widget.pause.click()
    qtbot.waitUntil(lambda: widget.progress.value() > before, timeout=WAIT_MS)
    widget.pause.click()
    widget.stop.click()
    wait_until_idle(widget, qtbot)
    assert "goes on from here" in widget.status.text()
    settings.working.set_values({"workers": 1})
    run(widget, qtbot)
    mended = widget.result.outcome
    assert mended.result.report.tiles_reused > before
    assert not list(tmp_path.rglob("*.npy"))
    alone = napari_sam.segment(
        viewer.layers["cells"].data,
        tmp_path / "alone.ome.zarr",
        checkpoint,
        device="cpu",
        automatic=KEEP_ALL,
        tiling=settings.request().tiling,
        config=SegmentConfig(torch_threads=1),
    )
    assert len(alone.table) == len(mended.result.table) > 3
    np.testing.assert_array_equal(alone.labels, mended.result.labels)
