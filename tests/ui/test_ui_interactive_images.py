"""Sessions on images of every kind a layer can hold: where a click falls, and where the labels lie."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from qtpy.QtCore import Qt

from ui.interactive_scenes import CTRL, NONE, WAIT_MS, discs, labels_of, open_session

KEY = Qt.Key


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))


def test_labels_of_a_moved_stack_lie_on_their_plane_and_objects_are_followed_through_it(
    make_napari_viewer, qtbot, tmp_path
):
    viewer: Any = make_napari_viewer(show=True)
    stack = np.zeros((6, 256, 256), np.uint8)
    stack[1:5] = discs()
    image = viewer.add_image(stack, name="cells", scale=(2, 0.5, 0.5), translate=(10, 3, 4))
    viewer.dims.set_point(0, 16)  # plane 3
    hands = open_session(viewer, qtbot, tmp_path / "j.jsonl")
    hands.click(64, 192)
    hands.widget.form.propagate.click()
    qtbot.waitUntil(lambda: len(hands.widget.control.current.planes) == 4, timeout=WAIT_MS)
    assert "Followed into 3 planes" in hands.widget.form.status.text()
    preview = viewer.layers["current object"]
    np.testing.assert_allclose(preview.data_to_world((0, 0, 0)), image.data_to_world((1, 172, 44)))
    hands.key(KEY.Key_Return)
    labels = viewer.layers["cells objects"]
    assert np.array_equal(np.flatnonzero(np.asarray(labels.data).max(axis=(1, 2))), [1, 2, 3, 4])
    assert labels.data[3, 192, 64] == 1
    np.testing.assert_array_equal(labels.extent.world, image.extent.world)
    viewer.dims.order = (1, 0, 2)
    hands.click(64, 64, wait=False)
    assert "roll the axes back" in hands.widget.form.status.text()


def test_shapes_of_a_detector_are_segmented_as_one_act_in_a_rotated_rgb_image(make_napari_viewer, qtbot, tmp_path):
    viewer: Any = make_napari_viewer(show=True)
    image = viewer.add_image(np.stack([discs()] * 3, axis=-1), name="cells", rgb=True, rotate=30, scale=(2, 1))
    boxes = [np.array([[40, x], [40, x + 48], [88, x + 48], [88, x]]) for x in (40, 168)]
    viewer.add_shapes(boxes, name="detected", rotate=30, scale=(2, 1))
    hands = open_session(viewer, qtbot, tmp_path / "j.jsonl")
    form = hands.widget.form
    form.boxes.choose(viewer.layers["detected"])
    form.use_boxes.click()
    qtbot.waitUntil(lambda: len(hands.widget.control.session.objects) == 2, timeout=WAIT_MS)
    np.testing.assert_allclose(viewer.layers["cells objects"].extent.world, image.extent.world)
    hands.click(64, 192)
    hands.key(KEY.Key_Return)
    labels = labels_of(viewer)
    assert [labels[64, 64], labels[64, 192], labels[192, 64]] == [1, 2, 3]
    hands.key(KEY.Key_Z, CTRL)
    hands.key(KEY.Key_Z, CTRL)
    hands.key(KEY.Key_Z, CTRL)
    assert labels_of(viewer).max() == 0


def test_a_huge_lazy_pyramid_is_annotated_and_painted_in_a_window(make_napari_viewer, qtbot, tmp_path):
    viewer: Any = make_napari_viewer(show=True)
    tile = da.from_array(discs(), chunks=(256, 256), name="tile")
    level = da.tile(tile, (20, 20))  # 5120 x 5120
    levels = [level] + [level[:: 2**k, :: 2**k] for k in range(1, 4)]
    viewer.add_image(levels, name="cells", multiscale=True)
    hands = open_session(viewer, qtbot, tmp_path / "j.jsonl")
    labels = viewer.layers["cells objects"]
    assert labels.multiscale
    assert not labels.editable
    viewer.scene.camera.center, viewer.scene.camera.zoom = (2560 + 64, 2560 + 64), 2
    qtbot.wait(100)
    hands.click(2560 + 64, 2560 + 64)
    hands.key(KEY.Key_Return)
    assert labels.data[0][2560 + 64, 2560 + 64] == 1
    assert hands.widget.control.session.labels.n_chunks <= 4
    hands.widget.form.paint.click()
    window = viewer.layers["cells painting"]
    assert window.data.shape == (2048, 2048)
    hands.drag((2650, 2650), (2660, 2650), modifiers=NONE, wait=False)
    assert labels.data[0][2650, 2655] == 2
    hands.key(KEY.Key_Z, CTRL)
    assert labels.data[0][2650, 2655] == 0
    assert not (window.data == 2).any()


def test_channels_are_chosen_and_labels_have_no_channel_axis(make_napari_viewer, qtbot, tmp_path):
    viewer: Any = make_napari_viewer(show=True)
    pixels = np.stack([np.full((256, 256), 7, np.uint8), discs()])
    viewer.add_image(pixels, name="cells", axis_labels=("c", "y", "x"))
    hands = open_session(viewer, qtbot, tmp_path / "j.jsonl")
    assert hands.widget.form.axes.text() == "CYX"
    hands.widget.form.stop.click()
    hands.widget.form.channels.setText("1")
    hands.widget.form.journal.setText(str(tmp_path / "second.jsonl"))
    hands.widget.form.start.click()
    qtbot.waitUntil(lambda: hands.widget.control is not None, timeout=WAIT_MS)
    hands.click(64, 64)
    hands.key(KEY.Key_Return)
    assert viewer.layers["cells objects"].data.shape == (256, 256)
    assert (labels_of(viewer) == 1).sum() == 1257


@pytest.mark.parametrize(("labels", "axes"), [("zyxc", "ZYXC"), ("tcyx", "TCYX")])
def test_channels_may_be_any_axis_and_a_session_goes_on_with_them(make_napari_viewer, qtbot, tmp_path, labels, axes):
    viewer: Any = make_napari_viewer(show=True)
    pixels = np.stack([np.stack([discs()] * 3), np.full((3, 256, 256), 7, np.uint8)], axis=axes.index("C"))
    image = viewer.add_image(pixels, name="cells", axis_labels=tuple(labels), rgb=False)
    viewer.dims.set_point(0, 2)
    hands = open_session(viewer, qtbot, tmp_path / "j.jsonl")
    form, shown = hands.widget.form, f"cells (C{axes[0]}YX)"
    assert (form.axes.text(), form.image.layer) == (axes, image)
    hands.click(64, 192)
    hands.key(KEY.Key_Return)
    labels_layer = viewer.layers[f"{shown} objects"]
    assert labels_layer.data.shape == (3, 256, 256)
    assert [(np.asarray(labels_layer.data)[i] == 1).sum() for i in range(3)] == [0, 0, 1257]
    form.stop.click()
    form.start.click()
    qtbot.waitUntil(lambda: hands.widget.control is not None, timeout=WAIT_MS)
    assert "Continued with 1 objects" in form.status.text()
    assert [layer.name for layer in viewer.layers if layer.name.endswith("YX)")] == [shown]
