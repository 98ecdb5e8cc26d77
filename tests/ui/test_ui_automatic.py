"""The automatic widget in a real napari window: form to result, and whatever may happen on the way."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from napari.layers import Labels, Shapes

from napari_sam.predict.config import AutoMaskConfig
from ui.ui_runs import WAIT_MS, Calls, HeldModel, open_widget, picture, run, wait_until_idle


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def model(monkeypatch):
    return HeldModel(monkeypatch)


@pytest.fixture
def held(monkeypatch):
    return HeldModel(monkeypatch, free=False)


def begin(widget, held, qtbot, tiles=0):
    """Press Segment, wait until the first tile is begun, let some go."""
    widget.run.click()
    qtbot.waitUntil(lambda: held.began == 1, timeout=WAIT_MS)
    held.let(tiles)
    qtbot.waitUntil(lambda: held.began == tiles + 1 or widget.run.isEnabled(), timeout=WAIT_MS)


def wait_for_the_thread(job, qtbot):
    qtbot.waitUntil(lambda: not job._worker.is_running, timeout=WAIT_MS)


def test_a_press_on_segment_adds_labels_with_features_in_the_place_of_the_image(viewer, model, qtbot):
    image = viewer.add_image(picture(), rgb=True, name="cells", scale=(0.5, 0.5), translate=(7, 3))
    widget = open_widget(viewer)
    run(widget, qtbot)
    labels = viewer.layers["cells objects"]
    np.testing.assert_array_equal(labels.data > 0, picture()[..., 0] > 0)
    np.testing.assert_array_equal(labels.extent.world, image.extent.world)
    assert widget.status.text() == "16 objects in cells."
    assert {"label", "predicted_iou", "stability_score", "area_px"} <= set(labels.features)
    assert labels.data.dtype == np.uint16  # of more bits napari looks each pixel up before it draws it
    row = labels.features[labels.features["index"] == labels.data[5, 5]]
    assert row["area_px"].item() == 16
    assert [layer.name for layer in viewer.layers] == ["cells", "cells objects"]


def test_the_work_runs_on_another_thread_and_the_window_stays_usable(viewer, held, qtbot):
    viewer.add_image(picture(), rgb=True)
    widget = open_widget(viewer)
    begin(widget, held, qtbot)
    assert (widget.run.isEnabled(), widget.pause.isEnabled(), widget.stop.isEnabled()) == (False, True, True)
    viewer.add_points([[1, 1]])  # the GUI thread is free
    held.let(4)
    wait_until_idle(widget, qtbot)
    assert threading.get_ident() not in held.threads


def test_tiles_appear_as_they_are_finished_and_give_way_to_the_result(viewer, held, qtbot):
    viewer.add_image(picture(), rgb=True, name="cells")
    widget = open_widget(viewer)
    begin(widget, held, qtbot, tiles=1)
    qtbot.waitUntil(lambda: "cells preview" in viewer.layers, timeout=WAIT_MS)
    preview = viewer.layers["cells preview"]
    assert len(np.unique(preview.data)) == 5  # the four squares of the first tile, and nothing
    assert not preview.editable
    held.let(3)
    wait_until_idle(widget, qtbot)
    assert "cells preview" not in viewer.layers
    assert viewer.layers["cells objects"] is preview  # napari is held up by layers that come and go
    assert preview.editable
    assert viewer.layers.selection.active is preview


def test_the_tiles_in_view_come_first(viewer, model, qtbot, monkeypatch):
    viewer.add_image(picture(), rgb=True, name="cells")
    widget = open_widget(viewer)
    lower_right = np.array([[100.0, 100], [120, 100], [120, 120], [100, 120]])
    monkeypatch.setattr("napari_sam.ui.automatic.widget.view_corners", lambda image: lower_right)
    run(widget, qtbot)
    np.testing.assert_array_equal(model.seen[0], picture()[32:, 32:])


def test_progress_is_shown_in_the_dock_and_in_the_widget(viewer, held, qtbot):
    from napari.utils import progress

    viewer.add_image(picture(), rgb=True, name="cells")
    widget = open_widget(viewer)
    begin(widget, held, qtbot, tiles=2)
    (bar,) = progress._all_instances
    qtbot.waitUntil(lambda: bar.n == 2, timeout=WAIT_MS)
    assert bar.total == 4
    assert "Segmenting cells" in bar.desc
    assert (widget.progress.value(), widget.progress.maximum()) == (2, 4)
    assert "tiles" in widget.progress.format()
    assert "left" in widget.progress.format()
    held.let(2)
    wait_until_idle(widget, qtbot)
    assert not progress._all_instances


def test_pause_holds_the_run_and_continue_ends_it_with_the_same_result(viewer, held, qtbot):
    viewer.add_image(picture(), rgb=True, name="cells")
    widget = open_widget(viewer)
    begin(widget, held, qtbot)
    widget.pause.click()
    assert widget.pause.text() == "Continue"
    held.let(4)
    qtbot.waitUntil(lambda: widget.progress.value() == 1, timeout=WAIT_MS)
    qtbot.wait(300)
    assert held.began == 1
    assert "Paused" in widget.status.text()
    widget.pause.click()
    wait_until_idle(widget, qtbot)
    assert widget.status.text() == "16 objects in cells."


def test_stop_keeps_what_is_finished_and_a_new_widget_goes_on_from_there(viewer, held, qtbot, tmp_path):
    viewer.add_image(picture(), rgb=True, name="cells")
    widget = open_widget(viewer)
    widget.settings.output.setText(str(tmp_path / "mine"))
    begin(widget, held, qtbot, tiles=2)
    widget.stop.click()
    held.let(1)
    wait_until_idle(widget, qtbot)
    assert "goes on from here" in widget.status.text()
    assert [layer.name for layer in viewer.layers] == ["cells"]
    again = open_widget(viewer)
    again.settings.output.setText(str(tmp_path / "mine"))
    held.let(1)
    run(again, qtbot)
    assert held.began == 4
    assert again.result.outcome.result.report.tiles_reused == 3
    assert again.status.text() == "16 objects in cells."


def test_a_paused_run_can_be_stopped(viewer, held, qtbot):
    viewer.add_image(picture(), rgb=True)
    widget = open_widget(viewer)
    begin(widget, held, qtbot)
    widget.pause.click()
    held.let(1)
    widget.stop.click()
    wait_until_idle(widget, qtbot)
    assert "Stopped" in widget.status.text()


def test_failed_tiles_are_red_and_a_press_on_retry_mends_them(viewer, model, qtbot):
    model.fail = {1, 4}
    viewer.add_image(picture(), rgb=True, name="cells", scale=(2, 2))
    widget = open_widget(viewer)
    run(widget, qtbot)
    red = viewer.layers["cells failed tiles"]
    assert isinstance(red, Shapes)
    assert len(red.data) == 2
    assert "cannot be had" in red.features["reason"][0]
    np.testing.assert_array_equal(red.edge_color[0], [1, 0, 0, 1])
    np.testing.assert_array_equal(red.data[0].max(axis=0), [63.5, 63.5])
    assert "2 tiles failed" in widget.status.text()
    assert not widget.retry.isHidden()
    model.fail = set()
    widget.retry.click()
    wait_until_idle(widget, qtbot)
    assert model.began == 6
    assert [layer.name for layer in viewer.layers] == ["cells", "cells objects"]
    assert widget.retry.isHidden()
    np.testing.assert_array_equal(viewer.layers["cells objects"].data > 0, picture()[..., 0] > 0)


def test_without_an_image_the_user_is_told_to_open_one(viewer, model, qtbot):
    widget = open_widget(viewer)
    widget.run.click()
    assert "no image layer" in widget.status.text()
    assert "open an image" in widget.status.text()


def test_a_setting_out_of_range_is_named_and_nothing_begins(viewer, model, qtbot):
    viewer.add_image(picture(), rgb=True)
    widget = open_widget(viewer)
    widget.settings.advanced.set_values({"box_nms_thresh": 3.0})
    widget.run.click()
    assert "box_nms_thresh must lie in [0, 1], got 3.0" in widget.status.text()
    assert widget.run.isEnabled()


def test_an_error_of_the_job_is_shown_and_the_button_works_again(viewer, model, qtbot, monkeypatch, tmp_path):
    from napari.utils.notifications import notification_manager

    told = []
    monkeypatch.setattr(notification_manager, "receive_error", lambda kind, error, trace: told.append(str(error)))
    viewer.add_image(picture(), rgb=True)
    widget = open_widget(viewer)
    widget.settings.output.setText(str(tmp_path / "labels.txt"))
    run(widget, qtbot)
    assert "must be NAME.ome.zarr or NAME.tif" in widget.status.text()
    assert "must be NAME.ome.zarr or NAME.tif" in told[0]
    assert len(viewer.layers) == 1


def test_layers_deleted_renamed_and_switched_during_a_run_lose_nothing(viewer, held, qtbot):
    image = viewer.add_image(picture(), rgb=True, name="cells")
    other = viewer.add_image(picture()[:64], rgb=True, name="other")
    widget = open_widget(viewer)
    widget.settings.image.choose(image)
    begin(widget, held, qtbot, tiles=1)
    qtbot.waitUntil(lambda: "cells preview" in viewer.layers, timeout=WAIT_MS)
    image.name = "renamed"
    assert widget.settings.image.currentText() == "renamed"
    widget.settings.image.choose(other)
    viewer.layers.remove(viewer.layers["cells preview"])
    viewer.layers.remove(image)
    held.let(3)
    wait_until_idle(widget, qtbot)
    assert [layer.name for layer in viewer.layers] == ["other", "cells objects"]
    assert viewer.layers["cells objects"].data.shape == (128, 128)
    assert widget.settings.image.layer is other


def test_the_settings_shown_reach_the_run(viewer, model, qtbot, tmp_path):
    viewer.add_image(picture(), rgb=True)
    calls = Calls()
    widget = open_widget(viewer, calls)
    widget.settings.preset.setCurrentText("nuclei")
    assert widget.settings.advanced.values()["mask_nms_thresh"] == 0.4
    widget.settings.basic.set_values({"pred_iou_thresh": 0.125})
    widget.settings.output.setText(str(tmp_path / "mine"))
    run(widget, qtbot)
    (call,) = calls
    assert call["output"] == tmp_path / "mine.ome.zarr"
    assert call["model"] == "nano"
    assert isinstance(call["automatic"], AutoMaskConfig)
    assert (call["automatic"].pred_iou_thresh, call["automatic"].max_mask_fraction) == (0.125, 0.25)
    assert call["tiling"].core_px == 64


def test_only_the_shapes_of_a_layer_are_segmented(viewer, model, qtbot):
    viewer.add_image(picture(), rgb=True, name="cells", scale=(2, 2))
    viewer.add_shapes([[[0, 0], [0, 128], [128, 128], [128, 0]]], shape_type="rectangle", name="here")  # world pixels
    widget = open_widget(viewer)
    widget.settings.region.setCurrentText("shapes layer")
    run(widget, qtbot)
    found = viewer.layers["cells objects"].data > 0
    expected = (picture()[..., 0] > 0) & (np.indices((128, 128)).max(axis=0) < 64)
    np.testing.assert_array_equal(found, expected)
    assert model.began == 1


def test_closing_the_dock_during_a_run_ends_it_quietly_and_leaves_nothing_alive(viewer, held, qtbot):
    viewer.add_image(picture(), rgb=True, name="cells")
    widget = open_widget(viewer)
    begin(widget, held, qtbot, tiles=1)
    qtbot.waitUntil(lambda: "cells preview" in viewer.layers, timeout=WAIT_MS)
    job, watched = widget._job, weakref.ref(widget)
    counts = [len(emitter.callbacks) for emitter in emitters(viewer)]
    viewer.window.remove_dock_widget(widget)
    del widget
    held.let(3)
    wait_for_the_thread(job, qtbot)
    del job
    qtbot.wait(50)
    gc.collect()
    assert watched() is None
    assert [layer.name for layer in viewer.layers] == ["cells"]
    assert all(len(e.callbacks) < n for e, n in zip(emitters(viewer), counts, strict=True))
    viewer.layers[0].name = "renamed"  # nobody is left to stumble over this
    viewer.layers.clear()


def emitters(viewer):
    """Where the widget listens."""
    return [viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers[0].events.name]


def test_closing_the_viewer_during_a_run_ends_the_run_and_the_next_viewer_goes_on(
    make_napari_viewer, held, qtbot, tmp_path
):
    viewer = make_napari_viewer()
    viewer.add_image(picture(), rgb=True, name="cells")
    widget = open_widget(viewer)
    widget.settings.output.setText(str(tmp_path / "mine"))
    begin(widget, held, qtbot, tiles=1)
    job = widget._job
    viewer.close()
    held.let(1)
    wait_for_the_thread(job, qtbot)
    qtbot.wait(50)
    assert held.began == 2
    del widget, job, viewer
    second = make_napari_viewer()
    second.add_image(picture(), rgb=True, name="cells")
    again = open_widget(second)
    again.settings.output.setText(str(tmp_path / "mine"))
    held.let(2)
    run(again, qtbot)
    assert held.began == 4
    assert again.status.text() == "16 objects in cells."


def test_of_a_stack_the_plane_shown_is_segmented(viewer, model, qtbot):
    stack = np.stack([np.zeros_like(picture()), picture()])
    viewer.add_image(stack, rgb=True, name="stack", scale=(3, 1, 1))
    viewer.dims.set_point(0, 3)
    widget = open_widget(viewer)
    run(widget, qtbot)
    labels = viewer.layers["stack objects"]
    assert isinstance(labels, Labels)
    assert labels.data.shape == (1, 128, 128)
    assert tuple(labels.translate) == (3, 0, 0)


def test_all_planes_of_a_stack_become_objects_with_one_label_in_each(viewer, model, qtbot):
    stack = np.stack([picture()] * 3)
    stack[2, :64] = 0
    viewer.add_image(stack, rgb=True, name="stack", scale=(3, 1, 1), translate=(6, 0, 0))
    viewer.dims.set_point(0, 9)
    widget = open_widget(viewer)
    assert widget.settings.linking.isHidden()
    widget.settings.all_planes.setChecked(True)
    run(widget, qtbot)
    labels = viewer.layers["stack objects"]
    np.testing.assert_array_equal(labels.data > 0, stack[..., 0] > 0)
    np.testing.assert_array_equal(labels.data[0], labels.data[1])
    np.testing.assert_array_equal(labels.data[2, 64:], labels.data[0, 64:])
    assert (tuple(labels.scale), tuple(labels.translate)) == ((3, 1, 1), (6, 0, 0))
    assert widget.status.text() == "16 objects in stack, linked over 3 planes."
    row = labels.features[labels.features["index"] == labels.data[0, 5, 5]]
    assert row["area_px"].item() == 2 * 16
    widget.refilter.keep.click()
    assert "save the layer instead" in widget.status.text()


def test_a_single_plane_offers_no_linking(viewer, model, qtbot):
    viewer.add_image(picture(), rgb=True, name="flat")
    widget = open_widget(viewer)
    widget.settings.all_planes.setChecked(True)
    assert widget.settings.all_planes.isHidden()
    assert not widget.settings.is_stack
    run(widget, qtbot)
    assert viewer.layers["flat objects"].data.shape == (128, 128)
