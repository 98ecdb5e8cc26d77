"""The pieces of the automatic widget that need no viewer: fields, sliders, regions, the time that is left."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import pytest
from napari.layers import Image, Shapes
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QWidget

from napari_sam.errors import ImageError
from napari_sam.predict.config import AutoMaskConfig
from napari_sam.tiling import TilingConfig
from napari_sam.ui.automatic.form import output_path
from napari_sam.ui.automatic.refilter import STEPS, RefilterPanel
from napari_sam.ui.automatic.region import shapes_corners, view_corners
from napari_sam.ui.automatic.remaining import RemainingTime
from napari_sam.ui.fold import Fold
from napari_sam.ui.form import ConfigForm, label_of
from napari_sam.workflows.refilter import ObjectFilterConfig


@dataclass
class Odd:
    """One field of each kind."""

    kind: Literal["a", "b"] = "a"
    """Which one."""
    size_px: int = 3
    """How large, in pixels."""
    part: float | None = None
    """How much of it."""
    is_on: bool = False
    """Whether."""


@pytest.mark.parametrize("config", [AutoMaskConfig, TilingConfig, Odd], ids=lambda config: config.__name__)
def test_a_form_gives_back_the_very_values_it_was_set_to(qapp, config):
    form = ConfigForm(config, [f.name for f in fields(config)])
    defaults = {f.name: f.default for f in fields(config)}  # 512 / 1500 among them, which the form rounds
    form.set_values(defaults)
    assert form.values() == defaults


def test_what_the_user_changes_is_read_with_its_type(qapp):
    form = ConfigForm(Odd, ["kind", "size_px", "part", "is_on"])
    form.fields["kind"].setCurrentText("b")
    form.fields["size_px"].setValue(40)
    form.fields["part"].setValue(0.25)
    form.fields["is_on"].setChecked(True)
    assert form.values() == {"kind": "b", "size_px": 40, "part": 0.25, "is_on": True}
    form.fields["part"].setValue(form.fields["part"].minimum())
    assert form.values()["part"] is None
    assert form.fields["part"].text() == "not set"


def test_each_field_says_its_published_name_its_text_and_its_unit(qapp):
    form = ConfigForm(Odd, ["size_px"])
    assert form.fields["size_px"].toolTip() == "<b>size_px</b><br>How large, in pixels."
    assert form.fields["size_px"].suffix() == " px"
    assert label_of("size_px") == "size"
    assert label_of("pred_iou_thresh") == "pred iou thresh"


def test_the_wheel_over_a_field_that_was_not_clicked_changes_nothing(qapp):
    form = ConfigForm(Odd, ["size_px"])
    before = form.fields["size_px"].value()
    wheel = QWheelEvent(
        QPointF(2, 2),
        QPointF(2, 2),
        QPoint(0, 0),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(form.fields["size_px"], wheel)
    assert form.fields["size_px"].value() == before


def test_a_fold_shows_its_parts_when_its_title_is_pressed(qapp):
    part = QWidget()
    fold = Fold("More", part)
    assert part.isHidden()
    fold.button.click()
    assert not part.isHidden()


FEATURES = {
    "label": np.arange(1, 6),
    "predicted_iou": np.array([0.5, 0.6, 0.7, 0.8, 0.9]),
    "stability_score": np.array([0.2, 0.4, 0.6, 0.8, 1.0]),
    "area_px": np.array([10, 100, 1000, 10_000, 100_000]),
}


@pytest.fixture
def panel(qapp):
    panel = RefilterPanel()
    panel.set_result(FEATURES)
    return panel


def test_sliders_all_the_way_out_keep_everything(panel):
    assert panel.limits() == ObjectFilterConfig()
    assert panel.count.text() == "5 of 5 objects are shown."


def test_the_sliders_span_the_values_of_the_result_and_sizes_go_in_ratios(panel):
    panel.predicted_iou.setValue(STEPS // 2)
    panel.area.setValue((STEPS // 4, STEPS * 3 // 4))
    limits = panel.limits()
    assert limits.min_predicted_iou == pytest.approx(0.7)
    assert (limits.min_area_px, limits.max_area_px) == (pytest.approx(100, abs=1), pytest.approx(10_000, abs=1))


def test_moving_a_slider_tells_once_when_it_rests(panel, qtbot):
    told = []
    panel.changed.connect(told.append)
    for position in (100, 200, 300):
        panel.stability_score.setValue(position)
    qtbot.waitUntil(lambda: bool(told), timeout=5000)
    assert [limits.min_stability_score for limits in told] == [pytest.approx(0.44)]


def test_limits_that_are_applied_hold_exactly_until_a_slider_is_moved(panel):
    wanted = ObjectFilterConfig(min_predicted_iou=0.6123, min_area_px=77, max_area_px=9999)
    told = []
    panel.changed.connect(told.append)
    panel.apply(wanted)
    assert told == [wanted]
    assert panel.limits() == wanted
    panel.predicted_iou.setValue(0)
    assert panel.limits().min_predicted_iou == 0
    assert (panel.limits().min_area_px, panel.limits().max_area_px) == (77, 9999)


def test_a_result_of_one_object_or_none_needs_no_sliders(panel):
    panel.set_result({name: column[:1] for name, column in FEATURES.items()})
    assert panel.limits() == ObjectFilterConfig()
    panel.set_result({name: column[:0] for name, column in FEATURES.items()})
    assert not panel.isEnabled()
    panel.set_result(None)
    assert panel.count.text() == "There is no result yet."


def image(**place) -> Image:
    return Image(np.zeros((50, 60)), name="cells", **place)


def test_shapes_are_moved_into_the_pixels_of_the_image():
    shapes = Shapes([[[10, 20], [10, 40], [30, 40], [30, 20]]], shape_type="polygon")
    (corners,) = shapes_corners(shapes, image(scale=(2, 2), translate=(4, 0)), (), (0, 0))
    np.testing.assert_allclose(corners, [[10, 3], [20, 3], [20, 13], [10, 13]])


def test_an_ellipse_becomes_its_outline():
    shapes = Shapes([[[0, 0], [0, 20], [10, 20], [10, 0]]], shape_type="ellipse")
    (corners,) = shapes_corners(shapes, image(), (), (0, 0))
    x, y = corners.T
    np.testing.assert_allclose(((x - 10) / 10) ** 2 + ((y - 5) / 5) ** 2, 1)


def test_of_a_stack_only_shapes_on_the_plane_shown_count():
    stack = Image(np.zeros((3, 50, 60)), name="stack", scale=(5, 1, 1))
    on_plane_1 = [[5, 0, 0], [5, 0, 9], [5, 9, 9]]
    shapes = Shapes([on_plane_1], shape_type="polygon", name="drawn")
    assert len(shapes_corners(shapes, stack, (1,), (5, 0, 0))) == 1
    with pytest.raises(ImageError, match="'drawn' has no rectangle, polygon or ellipse on the plane of 'stack'"):
        shapes_corners(shapes, stack, (2,), (10, 0, 0))
    flat = Shapes([[[0, 0], [0, 9], [9, 9]]], shape_type="polygon")
    assert len(shapes_corners(flat, stack, (2,), (10, 0, 0))) == 1


def test_lines_have_no_inside():
    with pytest.raises(ImageError, match="draw one, or choose another region"):
        shapes_corners(Shapes([[[0, 0], [9, 9]]], shape_type="line"), image(), (), (0, 0))


def test_the_view_is_known_in_full_resolution_pixels():
    layer = image()
    layer.corner_pixels = np.zeros((2, 2), int)
    assert view_corners(layer) is None  # out of sight
    layer.corner_pixels = np.array([[10, 20], [30, 40]])
    np.testing.assert_array_equal(view_corners(layer), [[19.5, 9.5], [40.5, 9.5], [40.5, 30.5], [19.5, 30.5]])
    pyramid = Image([np.zeros((64, 64)), np.zeros((16, 16))], multiscale=True)
    pyramid.corner_pixels = np.array([[1, 2], [3, 4]])
    pyramid._data_level = 1
    np.testing.assert_array_equal(view_corners(pyramid), [[7.5, 3.5], [19.5, 3.5], [19.5, 15.5], [7.5, 15.5]])


def test_the_time_left_follows_the_pace_of_the_stage_without_pauses_and_earlier_runs():
    now = [0.0]
    remaining = RemainingTime(lambda: now[0])
    assert remaining.as_text() == ""
    remaining.tell("tiles", 100, 200)  # of an earlier run
    assert remaining.as_text() == ""
    now[0] = 10.0
    remaining.tell("tiles", 110, 200)
    assert remaining.seconds == pytest.approx(90)
    assert remaining.as_text() == "about 1:30 left"
    remaining.pause()
    now[0] = 500.0
    assert remaining.seconds == pytest.approx(90)
    remaining.go_on()
    assert remaining.seconds == pytest.approx(90)
    remaining.tell("merge", 0, 5)
    assert remaining.seconds is None
    now[0] = 4100.0
    remaining.tell("merge", 1, 5)
    assert remaining.as_text() == "about 4:00:00 left"


@pytest.mark.parametrize(
    ("text", "name"),
    [("/a/mine", "mine.ome.zarr"), (" /a/mine.tif ", "mine.tif"), ("", "labels.ome.zarr")],
    ids=["bare", "with an end", "empty"],
)
def test_the_place_of_the_result_gets_an_end_and_is_never_missing(text, name):
    assert output_path(text).name == name
    assert output_path(text).parent.is_absolute()
