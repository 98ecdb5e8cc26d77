"""The interactive widget in a real napari window: real mouse and key events on the canvas, then the labels are read."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from ui.interactive_scenes import CTRL, NONE, SHIFT, WAIT_MS, Hands, ThresholdSegmenter, discs, labels_of, open_session

KEY = Qt.Key


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def hands(make_napari_viewer, qtbot, tmp_path) -> Hands:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(discs(), name="cells")
    return open_session(viewer, qtbot, tmp_path / "cells.jsonl")


def test_a_click_shows_a_mask_enter_commits_it_and_undo_takes_it_back(hands: Hands):
    hands.click(64, 64)
    assert hands.viewer.layers["current object"].data.sum() > 1000
    hands.key(KEY.Key_Return)
    assert labels_of(hands.viewer)[64, 64] == 1
    assert (labels_of(hands.viewer) == 1).sum() == 1257
    hands.key(KEY.Key_Z, CTRL)
    assert labels_of(hands.viewer).max() == 0
    assert hands.viewer.layers["current object"].data.sum() > 1000
    hands.key(KEY.Key_Z, CTRL | SHIFT)
    assert labels_of(hands.viewer)[64, 64] == 1


def test_the_mask_stays_while_the_next_answer_is_awaited(make_napari_viewer, qtbot, tmp_path):
    viewer, segmenter = make_napari_viewer(show=True), ThresholdSegmenter()
    viewer.add_image(discs(), name="cells")
    hands = open_session(viewer, qtbot, tmp_path / "cells.jsonl", segmenter)
    hands.click(64, 64)
    before = viewer.layers["current object"].data.copy()
    segmenter.go.clear()
    hands.click(70, 64, CTRL | SHIFT, wait=False)
    qtbot.wait(50)
    assert hands.widget.control.current.mask is None
    np.testing.assert_array_equal(viewer.layers["current object"].data, before)
    hands.key(KEY.Key_Escape)  # given up: nothing of it stays
    assert not np.any(viewer.layers["current object"].data)
    segmenter.go.set()


def test_a_click_draws_anew_only_what_it_changes(hands: Hands):
    layers = hands.viewer.layers
    names = ("current object", "cells prompts", "cells outlines")
    drawn = dict.fromkeys(names, 0)

    def count(event) -> None:
        drawn[event.source.name] += 1

    for name in names:
        layers[name].events.set_data.connect(count)
    hands.click(64, 64)
    first = dict(drawn)
    assert first["cells outlines"] == 0
    assert first["current object"] > 0
    hands.widget.control.show()  # nothing is new
    assert drawn == first
    hands.drag((180, 180), (204, 204))
    assert drawn["cells outlines"] > 0
    layers["cells"].translate = (5, 0)  # what lies on the image moves with it
    assert layers["current object"].data_to_world((0, 0))[0] > 5


def current_text(hands: Hands) -> str:
    return hands.widget.form.object_text.text()


def test_a_key_cycles_whole_part_and_subpart_with_their_scores_and_more_prompts_refine(hands: Hands):
    hands.click(64, 64)
    assert "[whole 0.90] · part 0.80 · subpart 0.70" in current_text(hands)
    whole = hands.widget.control.current.mask.area
    hands.key(KEY.Key_W)
    assert "[part 0.80]" in current_text(hands)
    assert hands.widget.control.current.mask.area < whole
    hands.click(70, 64, CTRL | SHIFT)
    points = hands.viewer.layers["cells prompts"]
    np.testing.assert_allclose(points.data, [[64, 64], [64, 70]], atol=1)
    np.testing.assert_allclose(points.face_color[:, :2], [[0.18, 0.83], [1, 0.3]], atol=0.01)
    assert hands.widget.control.current.mask.box.x1 <= 71
    hands.key(KEY.Key_Backspace)
    assert "[part 0.80]" in current_text(hands)
    hands.key(KEY.Key_Escape)
    assert hands.widget.control.current is None
    assert not np.any(hands.viewer.layers["current object"].data)


def test_boxes_scribbles_outlines_and_strokes_of_the_brush_are_prompts(hands: Hands):
    hands.key(KEY.Key_D)
    hands.drag((40, 40), (60, 70), (88, 88))
    hands.key(KEY.Key_Return)
    hands.key(KEY.Key_S)
    hands.drag((185, 64), (192, 64), (199, 66))
    hands.key(KEY.Key_Return)
    hands.key(KEY.Key_A)
    hands.drag((40, 165), (90, 165), (90, 215), (40, 215))
    hands.key(KEY.Key_Return)
    hands.key(KEY.Key_U)
    hands.drag((180, 192), (204, 192))
    assert hands.widget.form.tools["brush"].isChecked()
    hands.key(KEY.Key_Return)
    labels = labels_of(hands.viewer)
    assert [labels[64, 64], labels[64, 192], labels[192, 64], labels[192, 192]] == [1, 2, 3, 4]
    assert (labels == 1).sum() == (labels == 2).sum() == 1257
    assert (labels == 4).sum() > 100


def test_objects_are_reopened_cut_marked_merged_and_deleted_by_key(hands: Hands):
    for x, y in ((64, 64), (192, 64)):
        hands.click(x, y)
        hands.key(KEY.Key_Return)
    hands.point_at(64, 64)
    hands.key(KEY.Key_R)
    assert [prompt.xy for prompt in hands.widget.control.current.prompts] == [pytest.approx((64, 64), abs=1)]
    hands.key(KEY.Key_Escape)
    hands.key(KEY.Key_K)
    hands.drag((40, 64), (88, 64), wait=False)
    assert set(np.unique(labels_of(hands.viewer))) == {0, 1, 2, 3}
    for y in (56, 74):
        hands.point_at(64, y)
        hands.key(KEY.Key_G)
    assert "Marked: " in current_text(hands)
    hands.key(KEY.Key_J)
    labels = labels_of(hands.viewer)
    assert labels[56, 64] == labels[74, 64]
    hands.point_at(192, 64)
    hands.key(KEY.Key_Delete)
    assert labels_of(hands.viewer)[64, 192] == 0
    hands.key(KEY.Key_Delete)
    assert "no committed object under the pointer" in hands.widget.form.status.text()
    for _ in range(3):
        hands.key(KEY.Key_Z, CTRL)
    labels = labels_of(hands.viewer)
    assert (labels == 1).sum() == (labels == 2).sum() == 1257


def test_several_objects_are_prompted_and_committed_together(hands: Hands):
    hands.click(64, 64)
    hands.key(KEY.Key_N)
    hands.click(192, 192)
    assert len(hands.widget.control.session.parked) == 1
    assert "1 put aside" in hands.widget.form.objects_text.text()
    hands.key(KEY.Key_Return, SHIFT)
    labels = labels_of(hands.viewer)
    assert (labels[64, 64], labels[192, 192]) == (1, 2)


def test_enter_before_the_answer_commits_when_it_comes(make_napari_viewer, qtbot, tmp_path):
    viewer = make_napari_viewer(show=True)
    viewer.add_image(discs(), name="cells")
    segmenter = ThresholdSegmenter()
    hands = open_session(viewer, qtbot, tmp_path / "cells.jsonl", segmenter)
    segmenter.go.clear()
    hands.click(64, 64, wait=False)
    hands.key(KEY.Key_Return)
    assert labels_of(viewer).max() == 0
    segmenter.go.set()
    qtbot.waitUntil(lambda: labels_of(viewer)[64, 64] == 1, timeout=WAIT_MS)


def test_painting_with_naparis_brush_is_in_the_journal_and_undone_in_order(hands: Hands):
    hands.click(64, 64)
    hands.key(KEY.Key_Return)
    layer = hands.viewer.layers["cells objects"]
    layer.mode, layer.selected_label, layer.brush_size = "paint", 7, 12
    hands.drag((120, 120), (130, 120), modifiers=NONE, wait=False)
    painted = (labels_of(hands.viewer) == 7).sum()
    assert painted > 100
    assert hands.widget.control.session.objects[7].origin == "painted"
    layer.mode = "pan_zoom"
    hands.key(KEY.Key_Z, CTRL)
    assert (labels_of(hands.viewer) == 7).sum() == 0
    assert labels_of(hands.viewer)[64, 64] == 1
    hands.key(KEY.Key_Z, CTRL)
    assert labels_of(hands.viewer).max() == 0
    hands.key(KEY.Key_Z, CTRL | SHIFT)
    hands.key(KEY.Key_Z, CTRL | SHIFT)
    assert (labels_of(hands.viewer) == 7).sum() == painted


def test_plain_clicks_and_live_preview_are_switched_by_keys_and_dragging_still_pans(hands: Hands):
    hands.click(64, 64, NONE, wait=False)
    assert hands.widget.control.current is None
    hands.key(KEY.Key_T)
    before = tuple(hands.viewer.scene.camera.center)
    hands.drag((100, 100), (120, 120), modifiers=NONE, wait=False)
    assert tuple(hands.viewer.scene.camera.center) != before
    assert hands.widget.control.current is None
    hands.click(64, 64, NONE)
    assert hands.widget.control.current is not None
    hands.key(KEY.Key_Escape)
    hands.key(KEY.Key_Q)
    hands.point_at(192, 190)
    preview = hands.viewer.layers["current object"]
    hands.qtbot.waitUntil(lambda: np.count_nonzero(preview.data) == 1257, timeout=WAIT_MS)
    assert hands.widget.control.current is None


def test_keys_can_be_changed_and_all_are_given_back_when_the_session_ends(hands: Hands):
    viewer, widget = hands.viewer, hands.widget
    table = widget.form.shortcuts.table
    row = next(i for i in range(table.rowCount()) if table.item(i, 0).text() == "N")
    table.item(row, 0).setText("Enter")
    assert "already means 'Commit the current object" in widget.form.shortcuts.status.text()
    table.item(row, 0).setText("F9")
    hands.click(64, 64)
    hands.key(KEY.Key_F9)
    assert len(widget.control.session.parked) == 1
    image = viewer.layers["cells"]
    assert image.keymap
    widget.form.stop.click()
    assert not image.keymap
    assert not viewer.keymap
    assert [layer.name for layer in viewer.layers] == ["cells", "cells objects"]
    assert not viewer.mouse_drag_callbacks or all("Gestures" not in repr(f) for f in viewer.mouse_drag_callbacks)
