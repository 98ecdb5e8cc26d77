"""The automatic widget on channels: wherever their axis is, all of them are looked at, and labels lie on the planes."""

from __future__ import annotations

import numpy as np
import pytest
from napari.utils.notifications import notification_manager

from ui.ui_runs import Calls, HeldModel, open_widget, picture, run, wait_until_idle


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def model(monkeypatch):
    return HeldModel(monkeypatch)


def colours(axes: str, channel: int = 0) -> np.ndarray:
    """Three channels, of which only one shows the squares; two planes, of which only the second one does."""
    pixels = np.zeros((3, 2, *picture().shape[:2]), np.uint8)
    pixels[channel, 1] = picture()[..., 0]
    return pixels.transpose(["CZYX".index(axis) for axis in axes])


def test_channels_between_others_are_segmented_together_on_the_plane_shown(viewer, model, qtbot):
    image = viewer.add_image(colours("ZCYX"), name="cells", axis_labels=tuple("zcyx"), scale=(5, 1, 2, 2))
    calls = Calls()
    widget = open_widget(viewer, calls)
    assert widget.settings.axes.text() == "ZCYX"
    viewer.dims.set_point([0, 1], [5, 2])  # plane 1, and a channel where nothing is to be seen
    widget.settings.region.setCurrentText("current view")
    run(widget, qtbot)
    assert widget.status.text() == "16 objects in cells (CZYX)."
    (call,) = calls
    assert (call["config"].axes, call["config"].channels) == ("CYX", None)
    assert call["roi"] is not None
    labels = viewer.layers["cells (CZYX) objects"]
    assert labels.data.shape == (1, *picture().shape[:2])
    np.testing.assert_array_equal(labels.data[0] > 0, picture()[..., 0] > 0)
    shown = viewer.layers["cells (CZYX)"]
    np.testing.assert_allclose(labels.data_to_world((0, 7, 9)), shown.data_to_world((0, 1, 7, 9))[1:])
    assert not image.visible


def test_channels_that_come_last_are_guessed_and_chosen(viewer, model, qtbot):
    viewer.add_image(colours("ZYXC", 2)[1], name="cells", rgb=False)
    calls = Calls()
    widget = open_widget(viewer, calls)
    assert widget.settings.axes.text() == "YXC"
    widget.settings.channels.setText("2")
    run(widget, qtbot)
    assert widget.status.text() == "16 objects in cells (CYX)."
    assert calls[0]["config"].channels == (2,)
    assert viewer.layers["cells (CYX) objects"].data.shape == picture().shape[:2]
    widget.run.click()
    wait_until_idle(widget, qtbot)
    assert sum(layer.name == "cells (CYX)" for layer in viewer.layers) == 1


def test_planes_of_channels_are_linked_along_depth_and_not_along_channels(viewer, model, qtbot):
    viewer.add_image(np.concatenate([colours("CZYX")[:, 1:]] * 2, axis=1), name="cells", axis_labels=tuple("czyx"))
    widget = open_widget(viewer)
    widget.settings.all_planes.setChecked(True)
    run(widget, qtbot)
    assert widget.status.text() == "16 objects in cells, linked over 2 planes."
    assert viewer.layers["cells objects"].data.shape == (2, *picture().shape[:2])


def test_axes_are_asked_for_only_where_there_are_more_than_two_and_channels_where_there_are_any(viewer, qtbot):
    viewer.add_image(picture(), rgb=True, name="colour")
    settings = open_widget(viewer).settings
    assert (settings.axes.isHidden(), settings.channels.isHidden(), settings.all_planes.isHidden()) == (True,) * 3
    viewer.add_image(np.zeros((3, 64, 64)), name="stack")
    settings.image.choose(viewer.layers["stack"])
    assert (settings.axes.isHidden(), settings.channels.isHidden(), settings.all_planes.isHidden()) == (
        False,
        True,
        False,
    )
    settings.axes.setText("cyx")
    assert (settings.channels.isHidden(), settings.all_planes.isHidden()) == (False, True)


@pytest.mark.parametrize(
    ("axes", "channels", "told"),
    [
        ("ZZX", "", "must be 3 different letters of TCZYX with Y and X among them, got 'ZZX'"),
        ("ZYX", "1", "the axes ZYX have no C"),
        ("CYX", "9", "has no channel 9"),
        ("CYX", "", "has 4 channels"),
    ],
)
def test_what_cannot_be_meant_is_said(viewer, model, qtbot, monkeypatch, axes, channels, told):
    monkeypatch.setattr(notification_manager, "receive_error", lambda *_: None)  # of errors on the other thread
    viewer.add_image(np.zeros((4, 64, 64), np.uint8), name="cells")
    widget = open_widget(viewer)
    widget.settings.axes.setText(axes)
    widget.settings.channels.setText(channels)
    run(widget, qtbot)
    assert told in widget.status.text()
    assert len(viewer.layers) == 1
