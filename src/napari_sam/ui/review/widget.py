"""The widget *Review*: prefilling, a queue of objects judged by key, random audits, and retraining."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from napari_sam.errors import ImageError, NapariSamError
from napari_sam.ui.interactive.arranging import placed_image
from napari_sam.ui.interactive.placing import PlacedImage, guess_axes
from napari_sam.ui.interactive.session_control import SessionControl
from napari_sam.ui.interactive.widget import InteractiveSegmentation
from napari_sam.ui.job_bar import JobBar
from napari_sam.ui.review.form import ReviewForm
from napari_sam.ui.review.jobs import open_work, prefill_work, retrain_work
from napari_sam.ui.review.round import Rounds
from napari_sam.ui.review.text import audit_text, gain_text, item_text, session_text
from napari_sam.workflows.annotating.data_engine import FoundMasks, PrefillReport, batches, prefill
from napari_sam.workflows.annotating.interactive import OpenedSession, Segmenter
from napari_sam.workflows.annotating.retraining import RetrainConfig, Retrained
from napari_sam.workflows.refilter import ObjectFilterConfig

if TYPE_CHECKING:
    import napari.viewer


class ReviewWidget(QWidget):
    """Reviews the session of *Interactive segmentation*, or the result of an automatic run as a session of its own.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    segmenter : Segmenter, optional
        Who answers where objects of a result are mended, instead of the model that is chosen in the form.
    """

    def __init__(self, viewer: napari.viewer.Viewer, segmenter: Segmenter | None = None) -> None:
        super().__init__()
        self._viewer, self._segmenter = viewer, segmenter
        self._own: SessionControl | None = None
        self._interactive: InteractiveSegmentation | None = None
        self.rounds: Rounds | None = None
        self.form = ReviewForm(viewer)
        self.jobs = JobBar(self.form.bar, self.form.stop, say=self.say, changed=self.refresh)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.form)
        self.say(self.form.model.fill())
        self._connect()
        self.refresh()
        # By object, not by method: this widget is half gone when Qt tells it.
        self.destroyed.connect(partial(_abandon, self.__dict__))

    @property
    def control(self) -> SessionControl | None:
        """The session under review: of a result that was opened here, else that of *Interactive segmentation*."""
        if self._own is not None:
            return self._own
        return None if self._interactive is None else self._interactive.control

    # -- sessions ------------------------------------------------------------------------------------------------

    def open_result(self, labels: str | Path) -> None:
        """Review the label image of an automatic run on the chosen image."""
        layer = self.form.image.layer
        if layer is None:
            self.say("Open the image that the result was made from first; it is shown below the objects.")
            return
        try:
            placed = placed_image(self._viewer, layer, guess_axes(layer))
        except ImageError as error:
            self.say(str(error))
            return
        self.close_result()
        work = open_work(placed, Path(labels), self._segmenter or self.form.model.name)
        self.jobs.run(work, f"Opening {Path(labels).name}", lambda opened: self._opened(opened, placed))

    def close_result(self) -> None:
        """End the review of a result; all of it is in its journal."""
        self._end_round()
        if self._own is not None:
            control, self._own = self._own, None
            control.close()
        self.refresh()

    def _opened(self, opened: OpenedSession, placed: PlacedImage) -> None:
        if placed.layer not in self._viewer.layers:
            opened.session.close()
            self.say(f"{placed.layer.name} was removed meanwhile; nothing is lost.")
            return
        self._own = SessionControl(
            self._viewer, placed, opened.session, opened.store, say=self.say, changed=self.refresh
        )
        begun = "Went on with" if opened.was_resumed else "Opened"
        self.say(f"{begun} {len(opened.session.objects)} objects; press Review.")
        self.refresh()

    def _look_for_session(self) -> None:
        """Follow the widget *Interactive segmentation*, if it is there by now."""
        if self._interactive is not None:
            return
        docked = [getattr(widget, "inside", widget) for widget in self._viewer.window.dock_widgets.values()]
        found = next((widget for widget in docked if isinstance(widget, InteractiveSegmentation)), None)
        if found is not None:
            self._interactive = found
            found.changed.connect(self.refresh)
            found.destroyed.connect(partial(_forget, self.__dict__))

    def _layer_removed(self, event: Any) -> None:
        if self._own is not None and event.value is self._own.placed.layer:
            control, self._own = self._own, None
            self._end_round(touch_layers=False)
            control.end()
            # The viewer may be in the middle of removing all layers: ours go when it is done.
            self._later(control.layers.close)
            self.say(f"{event.value.name} was removed and its review closed; all of it is in the journal.")
            self.refresh()

    # -- rounds --------------------------------------------------------------------------------------------------

    def _toggle_round(self) -> None:
        on = self.form.begin.isChecked()
        self._end_round()
        if on:
            self._begin(lambda rounds: rounds.queue(by_hand=self.form.by_hand.isChecked()))
        self.refresh()

    def _begin(self, start: Callable[[Rounds], Any]) -> None:
        """Begin a round of the session there is, or say why not."""
        self._look_for_session()
        control = self.control
        if control is None:
            self.say("Open a session in Interactive segmentation, or a result here, and press again.")
            self.refresh()
            return
        if self.rounds is None or self.rounds.control is not control:
            self._end_round()
            try:
                self.rounds = Rounds(control, self._verdict)
            except NapariSamError as error:
                self.say(str(error))
                return
        rounds = self.rounds
        self._attempt(lambda: start(rounds))

    def _end_round(self, *, touch_layers: bool = True) -> None:
        if self.rounds is not None:
            rounds, self.rounds = self.rounds, None
            rounds.close(touch_layers=touch_layers)
            if not touch_layers and rounds.view is not None:
                self._later(rounds.view.close)

    def _later(self, do: Callable[[], None]) -> None:
        """Do something when Qt comes back to its events, unless this widget is gone by then."""
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.timeout.connect(do)
        timer.timeout.connect(timer.deleteLater)
        timer.start(0)

    def _verdict(self, name: str) -> None:
        rounds = self.rounds
        if rounds is None or rounds.round is None:
            self.say("Press Review first.")
            return
        self._attempt(lambda: rounds.judge(name, self.form.rating.currentData()))

    def _next_place(self) -> None:
        rounds = self.rounds
        if rounds is not None:
            self._attempt(lambda: rounds.count_place(self.form.missed.value()))
            self.form.missed.setValue(0)

    def _delete_rejected(self) -> None:
        control = self.control
        known = {} if control is None else control.session.objects
        labels = [label for label in known if known[label].verdict == "rejected"]
        if control is not None and labels:
            control.attempt(lambda: control.session.delete(labels))
        else:
            self.say("No object is rejected.")

    def _attempt(self, do: Callable[[], str | None]) -> None:
        try:
            text = do()
        except NapariSamError as error:
            text = str(error)
        if text:
            self.say(text)
        self.refresh()

    # -- jobs ----------------------------------------------------------------------------------------------------

    def prefill(self) -> None:
        """Find masks in the plane that is shown, and make objects of them."""
        self._look_for_session()
        control, form = self.control, self.form
        if control is None:
            self.say("Masks become objects of a session: start one in Interactive segmentation first.")
            return
        mode = form.mode.currentData()
        limits = ObjectFilterConfig(
            min_predicted_iou=form.min_iou.value() if mode == "semi-automatic" else 0.0,
            min_stability_score=form.min_stability.value() if mode == "semi-automatic" else 0.0,
        )
        plane = control.placed.locate(self._viewer.dims.point)[0]
        work = prefill_work(control, form.model.name, mode, plane, limits)
        self.jobs.run(work, "Finding masks", lambda found: self._pour(control, batches(found), []))

    def _pour(self, control: SessionControl, left: list[FoundMasks], done: list[PrefillReport]) -> None:
        """Prefill a batch, let the window work, go on with the next."""
        if control is not self.control:
            self.say("The session was closed meanwhile; its next prefilling finds the masks at once.")
        elif left:
            try:
                done.append(prefill(control.session, left[0]))
            except NapariSamError as error:
                self.say(str(error))
                return
            if control.layers.objects is not None:
                control.layers.objects.refresh(extent=False, thumbnail=False)
            self._later(lambda: self._pour(control, left[1:], done))
        else:
            control.show()
            prefilled = sum(report.prefilled for report in done)
            cut = sum(report.cut for report in done)
            self.say(f"{prefilled} of {done[0].found} masks became objects; a seam cuts {cut}.")
            self.refresh()

    def retrain(self) -> None:
        """Let the chosen model go on learning from what is verified."""
        self._look_for_session()
        control = self.control
        if control is None:
            self.say("There is no session whose objects could teach; open one first.")
            return
        config = RetrainConfig(minutes=self.form.minutes.value(), held_back=self.form.held_back.value())
        try:
            work = retrain_work(control, self.form.model.name, config)
        except NapariSamError as error:
            self.say(str(error))
            return
        self.jobs.run(work, "Retraining", self._retrained)

    def _retrained(self, result: Retrained) -> None:
        self.form.retrain_text.setText(gain_text(result))
        self.say(f"{result.path.name} is among the models now.")
        for choice in (self.form.model, *([self._interactive.form.model] if self._interactive else [])):
            choice.offer(str(result.path))

    def _mark_complete(self) -> None:
        control = self.control
        box = None if control is None else control.attention.view_box()
        if control is None or box is None:
            self.say("There is no session, or nothing of its image in view.")
            return
        plane = control.placed.locate(self._viewer.dims.point)[0]
        self._begin(lambda rounds: rounds.mark_complete(plane, box))

    # -- the form ------------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        self.form.status.setText(text)

    def refresh(self) -> None:
        """Show how things stand."""
        form, control = self.form, self.control
        if self.rounds is not None and self.rounds.control is not control:
            self._end_round(touch_layers=False)
        said = None if self.rounds is None else self.rounds.follow()
        if said:
            self.say(said)
        rounds = self.rounds
        form.session_text.setText(session_text(control))
        form.object_text.setText("" if rounds is None else item_text(rounds))
        form.audit_text.setText("" if control is None or rounds is None else audit_text(rounds))
        form.missed_row.setVisible(rounds is not None and rounds.place is not None)
        is_on = rounds is not None and rounds.round is not None
        form.begin.setChecked(is_on)
        form.begin.setText("End review" if is_on else "Review")
        for button in form.verdicts.values():
            button.setEnabled(rounds is not None and rounds.item is not None and not rounds.is_fixing)
        total = 0 if rounds is None or rounds.round is None else len(rounds.round.labels)
        form.done.setVisible(total > 0)
        form.done.setRange(0, max(total, 1))
        form.done.setValue(rounds.round.done if rounds is not None and rounds.round is not None else 0)
        for button in (form.open, form.prefill, form.retrain):
            button.setEnabled(not self.jobs.is_running)

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        self._look_for_session()
        self.refresh()

    def _connect(self) -> None:
        form = self.form
        form.open.clicked.connect(lambda _checked: self._browse())
        form.begin.clicked.connect(lambda _checked: self._toggle_round())
        form.audit.clicked.connect(lambda _: self._begin(lambda rounds: rounds.audit(form.audit_count.value())))
        form.places.clicked.connect(lambda _: self._begin(lambda rounds: rounds.audit_places(form.audit_count.value())))
        form.next_place.clicked.connect(lambda _checked: self._next_place())
        form.delete_rejected.clicked.connect(lambda _checked: self._delete_rejected())
        form.prefill.clicked.connect(lambda _checked: self.prefill())
        form.complete.clicked.connect(lambda _checked: self._mark_complete())
        form.retrain.clicked.connect(lambda _checked: self.retrain())
        for name, button in form.verdicts.items():
            button.clicked.connect(lambda _checked, name=name: self._verdict(name))
        self._on_removed = self._layer_removed
        self._viewer.layers.events.removed.connect(self._on_removed)

    def _browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Label image of an automatic run (NAME.ome.zarr)")
        if chosen:
            self.open_result(chosen)


def _forget(state: dict[str, Any], *_: object) -> None:
    """The widget *Interactive segmentation* is gone, with its session."""
    state["_interactive"] = None
    if state["rounds"] is not None:
        state["rounds"].close(touch_layers=False)
        state["rounds"] = None


def _abandon(state: dict[str, Any], *_: object) -> None:
    """End what the widget began, when it is gone: with its dock, or with the whole window."""
    state["jobs"].abandon()
    state["form"].image.release()
    state["_viewer"].layers.events.removed.disconnect(state["_on_removed"])
    if state["rounds"] is not None:
        state["rounds"].close(touch_layers=False)
    if state["_own"] is not None:
        state["_own"].end()
        state["_own"].layers.close()
