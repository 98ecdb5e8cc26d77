"""The widget *Interactive segmentation*: opens and closes sessions, and shows how the open one stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QFileDialog, QSizePolicy, QVBoxLayout, QWidget

from napari_sam.errors import AnnotationError, ImageError, NapariSamError
from napari_sam.ui.interactive.arranging import placed_image
from napari_sam.ui.interactive.form import InteractiveForm
from napari_sam.ui.interactive.placing import PlacedImage, guess_axes
from napari_sam.ui.interactive.session_control import SessionControl
from napari_sam.ui.interactive.session_jobs import change_model_work, follow_work, open_work, segment_boxes_work
from napari_sam.ui.interactive.session_layers import SessionLayers
from napari_sam.ui.interactive.text import channels_of, object_text, objects_text
from napari_sam.ui.worker import Job, Work, error_text
from napari_sam.workflows.annotating.interactive import OpenedSession, Segmenter, default_journal

if TYPE_CHECKING:
    import napari.viewer


class InteractiveSegmentation(QWidget):
    """Click on objects of an image layer; what is committed lies in a Labels layer and in a journal.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    segmenter : Segmenter, optional
        Who answers, instead of the model that is chosen in the form.
    """

    changed = Signal()
    """Something of the session changed, or it was opened or closed; the widget *Review* follows it."""

    def __init__(self, viewer: napari.viewer.Viewer, segmenter: Segmenter | None = None) -> None:
        super().__init__()
        self._viewer = viewer
        self._segmenter = segmenter
        self.control: SessionControl | None = None
        self._job: Job | None = None
        self._tidy = QTimer(self)
        self._tidy.setSingleShot(True)
        self._tidy.timeout.connect(self._tidy_up)
        self._left_over: SessionLayers | None = None
        self._model_in_use = ""
        self.form = InteractiveForm(viewer, self._rebind)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.form, stretch=1)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self.say(self.form.model.fill())
        self._connect()
        self._image_chosen()
        self.refresh()
        # By object, not by method: this widget is half gone when Qt tells it.
        self.destroyed.connect(partial(_abandon, self.__dict__))

    # -- opening and closing -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin a session on the chosen image, or continue the one of the journal."""
        if self._job is not None:
            return
        try:
            placed = self._placed()
            channels = channels_of(self.form.channels.text(), placed.axes)
        except NapariSamError as error:
            self.say(str(error))
            return
        self.close_session()
        journal = Path(self.form.journal.text()).expanduser()
        self._model_in_use = self.form.model.name
        work = open_work(placed, journal, self._segmenter or self._model_in_use, channels)
        self._run(work, f"Opening {placed.layer.name}", lambda opened: self._opened(opened, placed))

    def close_session(self) -> None:
        """End the session; all of it is in its journal, and the layer of objects stays."""
        if self.control is not None:
            journal = self.control.session.journal
            control, self.control = self.control, None
            control.close()
            self.say(f"Closed. All of it is in {journal}; Continue goes on from there.")
        self.refresh()

    def _opened(self, opened: OpenedSession, placed: PlacedImage) -> None:
        if placed.layer not in self._viewer.layers:
            opened.session.close()
            self.say(f"{placed.layer.name} was removed while it was opened; nothing is lost.")
            return
        self.control = SessionControl(
            self._viewer, placed, opened.session, opened.store, say=self.say, changed=self.refresh
        )
        for policy, row in ((self.form.policy.itemData(i), i) for i in range(self.form.policy.count())):
            if policy == opened.session.policy:
                self.form.policy.setCurrentIndex(row)
        count = len(opened.session.objects)
        begun = f"Continued with {count} objects." if opened.was_resumed else "Ctrl + click on an object."
        self.say(" ".join(text for text in (begun, opened.session.warning) if text))
        self.refresh()
        _focus_canvas(self._viewer)

    def _placed(self) -> PlacedImage:
        layer = self.form.image.layer
        if layer is None:
            raise ImageError("there is no image layer to annotate; open an image first (File > Open, or a sample).")
        if not self.form.journal.text().strip():
            raise AnnotationError("the journal needs a place; choose a file, or the image again for the usual one.")
        return placed_image(self._viewer, layer, self.form.axes.text().strip().upper())

    def _image_chosen(self) -> None:
        """Offer the image's axes and journal, and say so if there is an earlier session."""
        layer = self.form.image.layer
        self.form.start.setEnabled(layer is not None and self._job is None)
        if layer is None:
            return
        self.form.axes.setText(guess_axes(layer))
        path = layer.source.path
        self.form.journal.setText(str(default_journal(layer.name, layer.level_shapes[0], path)))

    def _show_journal(self) -> bool:
        """Whether the journal is there already."""
        journal = Path(self.form.journal.text() or "nowhere").expanduser()
        exists = journal.is_file() and journal.stat().st_size > 0
        self.form.start.setText("Continue" if exists else "Start")
        self.form.journal.setToolTip(f"{journal}\nEverything you do is written here at once.")
        return exists

    def _journal_changed(self) -> None:
        if self._show_journal() and self.control is None:
            self.say("There is an earlier session of this image; Continue goes on where it ended.")

    def _layer_removed(self, event: Any) -> None:
        control = self.control
        if control is None or event.value is not control.placed.layer:
            return
        # The viewer may be in the middle of removing all layers: ours are taken away when it is done.
        self.control = None
        control.end()
        self._left_over = control.layers
        self._tidy.start(0)
        self.say(f"{event.value.name} was removed and its session closed; all of it is in the journal.")
        self.refresh()

    def _tidy_up(self) -> None:
        if self._left_over is not None:
            left_over, self._left_over = self._left_over, None
            left_over.close()

    # -- jobs ----------------------------------------------------------------------------------------------------

    def segment_boxes(self) -> None:
        """Segment each box of the chosen Shapes or Labels layer."""
        control, layer = self.control, self.form.boxes.layer
        if control is None or layer is None:
            self.say("Choose a Shapes or Labels layer that has boxes or objects.")
            return
        try:
            work = segment_boxes_work(control, layer)
        except NapariSamError as error:
            self.say(str(error))
            return
        self._run(work, f"Boxes of {layer.name}", lambda found: self._prefill(control, found))

    def _prefill(self, control: SessionControl, found: list[Any]) -> None:
        if control is self.control and found:
            control.attempt(lambda: control.session.prefill(found, policy=control.session.policy))
        elif control is self.control:
            self.say("None of the boxes holds an object.")

    def follow_object(self) -> None:
        """Follow the current object through the neighbouring planes."""
        control = self.control
        if control is None:
            return
        try:
            work = follow_work(control)
        except NapariSamError as error:
            self.say(str(error))
            return
        revision = control.session.revision
        self._run(work, "Following the object", lambda found: self._followed(control, revision, found))

    def _followed(self, control: SessionControl, revision: int, found: list[Any]) -> None:
        if control is not self.control or control.session.revision != revision:
            self.say("The object was changed meanwhile; follow it again.")
        elif not found:
            self.say("The object ends in this plane.")
        else:
            control.attempt(lambda: control.session.propagated(found))
            unsure = [".".join(map(str, mask.plane)) for mask in found if mask.unsure]
            told_unsure = f"; look at {', '.join(unsure)}" if unsure else ""
            self.say(f"Followed into {len(found)} planes{told_unsure}.")

    def _model_chosen(self) -> None:
        control = self.control
        if control is None or self._segmenter is not None or self._job is not None:
            return
        name = self.form.model.name
        if name == self._model_in_use:
            return
        # Also when it cannot be loaded: then the choice stands and the former model goes on answering.
        self._model_in_use = name
        work = change_model_work(control, name)
        self._run(work, f"Loading {name}", lambda store: self._use_store(control, store))

    def _use_store(self, control: SessionControl, store: Any) -> None:
        if control is self.control:
            control.use_store(store)
            self.say(f"{store.segmenter.name} answers from here on.")

    def _run(self, work: Work, description: str, done: Callable[[Any], None]) -> None:
        if self._job is not None:
            self.say("A job is running; stop it, or wait for its end.")
            return
        self.say(f"{description} ...")
        self._job = Job(
            work,
            description=description,
            told=lambda stage, count, total: self.say(f"{description}: {stage} {count} of {total}"),
            done=done,
            failed=lambda error: self.say(error_text(error)),
            closed=self._job_closed,
        )
        self.refresh()
        self._job.start()

    def _stop_job(self) -> None:
        if self._job is not None:
            self._job.stop()

    def _job_closed(self) -> None:
        if self._job is not None:
            if self._job.is_stopping:
                self.say("Stopped.")
            # Qt keeps a finished job for a while; it is not to keep this widget.
            self._job.abandon()
        self._job = None
        self.refresh()
        self._model_chosen()

    # -- the form ------------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        self.form.status.setText(text)

    def refresh(self) -> None:
        """Show how things stand."""
        form, control = self.form, self.control
        form.set_running(control is not None)
        form.start.setEnabled(self._job is None and form.image.layer is not None)
        form.stop_job.setEnabled(self._job is not None)
        form.use_boxes.setEnabled(self._job is None)
        if control is None:
            form.object_text.setText("")
            form.objects_text.setText("")
            self._show_journal()
            self.changed.emit()
            return
        session = control.session
        form.object_text.setText(object_text(session.current, control.is_answering, control.marked))
        form.objects_text.setText(objects_text(session))
        form.acts["undo"].setEnabled(session.can_undo)
        form.acts["redo"].setEnabled(session.can_redo)
        form.propagate.setEnabled(session.image.n_leading > 0 and self._job is None)
        form.tools[control.tool].setChecked(True)
        form.plain_clicks.setChecked(control.gestures.rules.plain_clicks)
        form.live.setChecked(control.attention.is_live)
        self.changed.emit()

    def _connect(self) -> None:
        form = self.form
        form.image.chosen.connect(self._image_chosen)
        form.axes.textChanged.connect(lambda axes: form.channels.setEnabled("C" in axes.upper()))
        form.journal.textChanged.connect(lambda _text: self._journal_changed())
        form.browse.clicked.connect(lambda _checked: self._browse())
        form.model.currentIndexChanged.connect(lambda _row: self._model_chosen())
        form.start.clicked.connect(lambda _checked: self.start())
        form.stop.clicked.connect(lambda _checked: self.close_session())
        form.policy.currentIndexChanged.connect(lambda _row: self._set_policy())
        form.paint.clicked.connect(lambda _checked: self._with_control(lambda c: c.attempt(c.painting.open_window)))
        form.use_boxes.clicked.connect(lambda _checked: self.segment_boxes())
        form.propagate.clicked.connect(lambda _checked: self.follow_object())
        form.stop_job.clicked.connect(lambda _checked: self._stop_job())
        form.plain_clicks.clicked.connect(lambda _on: self._with_control(lambda c: c.act("toggle_plain_clicks")))
        form.live.clicked.connect(lambda _on: self._with_control(lambda c: c.act("toggle_live")))
        for act, button in form.acts.items():
            button.clicked.connect(lambda _checked, act=act: self._with_control(lambda c: c.act(act)))
        for tool, button in form.tools.items():
            button.clicked.connect(lambda _checked, tool=tool: self._with_control(lambda c: c.choose_tool(tool)))
        self._on_removed = self._layer_removed
        self._viewer.layers.events.removed.connect(self._on_removed)

    def _with_control(self, do: Callable[[SessionControl], Any]) -> None:
        if self.control is not None:
            do(self.control)

    def _set_policy(self) -> None:
        if self.control is not None:
            self.control.session.policy = self.form.policy.currentData()

    def _rebind(self, keys: Mapping[str, str]) -> None:
        if self.control is not None:
            self.control.keys.rebind(keys)

    def _browse(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(
            self,
            "Journal of the session",
            self.form.journal.text(),
            "Journals (*.jsonl)",
            options=QFileDialog.Option.DontConfirmOverwrite,
        )
        if chosen:
            self.form.journal.setText(chosen)


def _focus_canvas(viewer: Any) -> None:
    """Let keys go to the canvas; napari offers no public way."""
    window = getattr(viewer.window, "_qt_viewer", None)
    if window is not None:
        window.canvas.native.setFocus()


def _abandon(state: dict[str, Any], *_: object) -> None:
    """End what the widget began, when it is gone: with its dock, or with the whole window."""
    if state["_job"] is not None:
        state["_job"].abandon()
    form, viewer, control = state["form"], state["_viewer"], state["control"]
    form.image.release()
    form.boxes.release()
    viewer.layers.events.removed.disconnect(state["_on_removed"])
    if control is not None:
        control.end()
        control.layers.close()
    # The connections that are left hold this, and with it the session, for as long as Qt likes.
    state.clear()
