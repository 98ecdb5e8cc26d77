"""The widget *Review* in a real napari window: keys on the canvas give verdicts, objects are mended, audits counted."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_sam.ui.review.round import Rounds
from napari_sam.ui.review.widget import ReviewWidget
from napari_sam.workflows.annotating.data_engine import FoundMasks, batches
from napari_sam.workflows.annotating.interactive import Box, Mask, PlaneMask
from napari_sam.workflows.annotating.retraining import Judgement, Retrained
from napari_sam.workflows.annotating.review import read_record
from ui.interactive_scenes import WAIT_MS, Hands, ThresholdSegmenter, discs, open_session

KEY = Qt.Key
CENTRES = ((64, 64), (192, 64), (64, 192), (192, 192))


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))


def squares_on_discs():
    """A square mask on each disc, worse from one to the next; a seam cuts the second."""
    masks = []
    for i, (x, y) in enumerate(CENTRES):
        window = Box(x - 10, y - 10, x + 10, y + 10)
        mask = Mask.from_window(np.ones((20, 20), bool), window, (256, 256), predicted_iou=0.9 - 0.1 * i)
        masks.append([PlaneMask((), mask, mask.predicted_iou, unsure=i == 1)])
    return masks


@pytest.fixture
def hands(make_napari_viewer, qtbot, tmp_path) -> Hands:
    """An interactive session with four prefilled objects, and the review beside it."""
    viewer = make_napari_viewer(show=True)
    viewer.add_image(discs(), name="cells")
    hands = open_session(viewer, qtbot, tmp_path / "cells.jsonl")
    control = hands.widget.control
    control.attempt(lambda: control.session.prefill(squares_on_discs()))
    hands.review = ReviewWidget(viewer)
    viewer.window.add_dock_widget(hands.review, name="Review")
    hands.settle()
    return hands


def verdicts(hands):
    return {label: known.verdict for label, known in hands.widget.control.session.objects.items()}


def begin(hands):
    hands.review.form.begin.click()
    hands.canvas.native.setFocus()
    hands.settle()


def shown_at(hands):
    """(x, y) of the image in the middle of the canvas."""
    y, x = hands.viewer.scene.camera.center[-2:]
    return round(x), round(y)


def test_keys_judge_one_object_after_the_other_and_the_view_follows(hands: Hands):
    form = hands.review.form
    assert form.session_text.text() == "cells: 4 objects; none reviewed."
    begin(hands)
    assert form.status.text() == "4 objects to review; 1 cut by a seam come first."
    assert form.object_text.text() == "Object 2 · predicted IoU 0.80 · stability 1.00 · cut by a seam"
    assert shown_at(hands) == (192, 64)
    form.rating.setCurrentIndex(7)
    hands.key(KEY.Key_A)
    form.rating.setCurrentIndex(0)
    assert hands.widget.control.session.objects[2].rating == 7
    assert shown_at(hands) == (192, 192)  # of the others, the most doubtful
    hands.key(KEY.Key_R)
    hands.key(KEY.Key_S)
    assert verdicts(hands) == {1: None, 2: "accepted", 3: None, 4: "rejected"}
    assert form.object_text.text().startswith("Object 1")
    assert (form.done.value(), form.done.maximum()) == (2, 4)
    hands.key(KEY.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert form.object_text.text().startswith("Object 4")
    hands.key(KEY.Key_R)
    hands.key(KEY.Key_A)
    assert form.object_text.text() == "All 4 objects of this round were looked at; 1 skipped."
    assert "under review" not in hands.viewer.layers
    form.delete_rejected.click()
    assert set(verdicts(hands)) == {1, 2, 3}
    assert form.session_text.text() == "cells: 3 objects; 2 accepted."


def test_an_object_is_mended_with_prompts_and_is_fixed_when_it_is_committed(hands: Hands):
    begin(hands)
    hands.key(KEY.Key_F)
    assert "being mended" in hands.review.form.object_text.text()
    hands.click(192, 64)
    hands.key(KEY.Key_Return)
    assert hands.review.form.status.text() == "Object 2 is fixed."
    session = hands.widget.control.session
    assert verdicts(hands)[2] == "fixed"
    assert int((np.asarray(session.labels) == 2).sum()) == 1257  # the whole disc
    hands.key(KEY.Key_F)
    hands.key(KEY.Key_Escape)
    assert hands.review.form.status.text() == "Object 4 was left as it was."
    assert verdicts(hands)[4] is None
    assert hands.review.form.object_text.text().startswith("Object 4")


def test_keys_mean_what_they_did_before_when_the_review_ends(hands: Hands):
    begin(hands)
    hands.review.form.begin.click()
    hands.canvas.native.setFocus()
    hands.settle()
    hands.key(KEY.Key_A)
    assert hands.widget.form.tools["lasso"].isChecked()
    assert verdicts(hands) == dict.fromkeys((1, 2, 3, 4))
    begin(hands)
    hands.widget.close_session()
    hands.settle()
    assert hands.review.rounds is None
    assert not [key for key in hands.viewer.keymap if str(key) in ("A", "R", "F", "S")]
    assert hands.review.form.session_text.text().startswith("No session yet")
    hands.review.form.begin.click()
    assert "Open a session" in hands.review.form.status.text()


def test_an_audit_tells_precision_and_recall_with_intervals_and_is_kept(hands: Hands):
    form, session = hands.review.form, hands.widget.control.session
    form.audit_count.setValue(5)
    form.audit.click()
    assert form.status.text() == "4 objects drawn at random; verdicts given before count too."
    for name in ("accept", "accept", "accept", "reject"):
        form.verdicts[name].click()
    assert form.audit_text.text() == "Precision 75.0% (30.1% to 95.4%; 3 of 4)"
    form.places.click()
    assert form.missed_row.isVisible()
    for missed in (1, 0, 0, 0, 0):
        form.missed.setValue(missed)
        form.next_place.click()
    record = read_record(session.journal)
    assert [count.missed for count in record.counts] == [1, 0, 0, 0, 0]
    assert record.complete == tuple(dict.fromkeys(count.place for count in record.counts[1:]))
    assert f"Recall {record.recall()}" in form.audit_text.text()
    assert not form.missed_row.isVisible()


def test_masks_are_prefilled_in_parts_and_a_retraining_is_told_and_selectable(hands: Hands, tmp_path, monkeypatch):
    form, control = hands.review.form, hands.widget.control
    control.attempt(lambda: control.session.delete([1, 2, 3, 4]))
    found = [part for parts in squares_on_discs() for part in parts]
    monkeypatch.setattr("napari_sam.ui.review.jobs.find_automatic", lambda *a, **k: found_masks(found, k["mode"]))
    monkeypatch.setattr("napari_sam.ui.review.widget.batches", partial(batches, size=3))
    form.prefill.click()
    hands.qtbot.waitUntil(lambda: "became objects" in form.status.text(), timeout=WAIT_MS)
    assert form.status.text() == "4 of 9 masks became objects; a seam cuts 1."
    assert len(control.session.objects) == 4
    asked = []
    path = tmp_path / "nano-cells.safetensors"
    path.touch()
    before, after = Judgement(0.7, 0.8, 9), Judgement(0.8, 0.85, 9)
    made = Retrained(path, before, after, (0.02, 0.15), 21, {"sparse": 2, "exhaustive": 0})
    monkeypatch.setattr("napari_sam.ui.review.jobs.retrain", lambda *a, **k: (asked.append(k), made)[1])
    form.minutes.setValue(2.5)
    form.retrain.click()
    hands.qtbot.waitUntil(lambda: form.retrain_text.text() != "", timeout=WAIT_MS)
    assert (asked[0]["config"].minutes, asked[0]["model"]) == (2.5, "nano")
    assert "one click 0.700 → 0.800, box 0.800 → 0.850. Better. Gain of one click +0.020 to +0.150" in (
        form.retrain_text.text()
    )
    assert form.model.findData(str(path)) >= 0
    assert hands.widget.form.model.findData(str(path)) >= 0


def found_masks(masks, mode):
    return FoundMasks(tuple(masks), 9, mode)


def test_too_little_to_retrain_on_is_said_and_nothing_breaks(hands: Hands, monkeypatch):
    from napari.utils.notifications import notification_manager

    monkeypatch.setattr(notification_manager, "receive_error", lambda *_: None)
    hands.review.form.retrain.click()
    hands.qtbot.waitUntil(lambda: "training needs 5 at least" in hands.review.form.status.text(), timeout=WAIT_MS)


def test_a_result_on_disk_is_reviewed_as_a_session_of_its_own(make_napari_viewer, qtbot, tmp_path):
    labels = write_result(tmp_path)
    viewer = make_napari_viewer(show=True)
    viewer.add_image(discs(), name="cells")
    widget = ReviewWidget(viewer, ThresholdSegmenter())
    viewer.window.add_dock_widget(widget, name="Review")

    def is_open():
        return widget.control is not None and not widget.jobs.is_running

    for expected in (None, "accepted"):
        widget.open_result(labels)
        qtbot.waitUntil(is_open, timeout=WAIT_MS)
        session = widget.control.session
        assert session.objects[1].verdict == expected
        assert np.asarray(viewer.layers["cells objects"].data)[64, 64] == 1
        widget.form.begin.click()
        if expected is None:
            widget.form.verdicts["accept"].click()
        widget.close_result()
    widget.open_result(labels)
    qtbot.waitUntil(is_open, timeout=WAIT_MS)
    widget.form.begin.click()
    assert isinstance(widget.rounds, Rounds)
    viewer.layers.remove("cells")
    qtbot.wait(50)
    assert widget.control is None
    assert "was removed and its review closed" in widget.form.status.text()


def write_result(folder):
    """One object, as an automatic run writes it."""
    from napari_sam.export import write_table
    from napari_sam.tiling import MergedObjects
    from napari_sam.tiling.labels import write_labels

    masks = [squares_on_discs()[0][0].mask]
    objects = MergedObjects.from_masks(masks, (256, 256))
    write_labels(objects, folder / "run.ome.zarr")
    write_table(objects.table, folder / "run.csv")
    return folder / "run.ome.zarr"


def test_nothing_of_the_widget_is_left_when_its_dock_is_closed(hands: Hands):
    begin(hands)
    review = hands.review
    hands.viewer.window.remove_dock_widget(review)
    review.deleteLater()
    hands.qtbot.wait(50)
    hands.canvas.native.setFocus()
    hands.key(KEY.Key_A)
    assert hands.widget.form.tools["lasso"].isChecked()
    hands.click(64, 64)
    assert hands.widget.control.current.mask is not None
