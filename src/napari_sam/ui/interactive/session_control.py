"""A session in a viewer: what keys and mouse mean, questions to the model and back, layers kept up to date."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_sam.errors import AnnotationError, NapariSamError
from napari_sam.ui.interactive.answerer import Answerer
from napari_sam.ui.interactive.attention import Attention
from napari_sam.ui.interactive.canvas import CanvasGestures, Gesture
from napari_sam.ui.interactive.marks import ASIDE, CURRENT, UNSURE, Marks, Preview, marks_of, outline_of, stroke_marks
from napari_sam.ui.interactive.painting import HandPainting
from napari_sam.ui.interactive.placing import PlacedImage
from napari_sam.ui.interactive.session_layers import SessionLayers, camera_of
from napari_sam.ui.interactive.shortcuts import KeyBindings
from napari_sam.ui.worker import error_text
from napari_sam.workflows.annotating.drawn import prompt_of_stroke
from napari_sam.workflows.annotating.interactive import (
    AnnotationSession,
    Answer,
    Change,
    Click,
    CurrentObject,
    EmbeddingStore,
    Question,
    answer_question,
    cut_object,
    first_window,
    label_at,
)

TOOLS = ("box", "scribble", "lasso", "brush", "knife")
MOVES = ("scale", "translate", "rotate", "shear", "affine")
"""Events of a layer that is put elsewhere."""
BRUSH_PX = 6.0
"""Radius of the mask brush, in pixels of the screen."""


class SessionControl:
    """One open session in one viewer; everything here happens on the GUI thread.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    placed : PlacedImage
    session : AnnotationSession
    store : EmbeddingStore
    say : callable
        Called with what the user should read now.
    changed : callable
        Called after anything that the form shows may have changed.
    """

    def __init__(
        self,
        viewer: Any,
        placed: PlacedImage,
        session: AnnotationSession,
        store: EmbeddingStore,
        *,
        say: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self.viewer, self.placed, self.session, self.store = viewer, placed, session, store
        self._say, self._changed = say, changed
        self.tool = TOOLS[0]
        self.marked: list[int] = []
        self._stroke = Marks()
        self._hovered: Answer | None = None
        self._shown_of: tuple[int, list[Preview]] = (0, [])
        self._commit_at: int | None = None
        self.layers = SessionLayers(viewer, placed, session.labels)
        self.keys = KeyBindings(self.act)
        self.gestures = CanvasGestures(
            viewer, placed, done=self._on_gesture, drawing=self._on_stroke, moved=self._on_moved, refused=say
        )
        self.answerer = self._new_answerer()
        self.painting = HandPainting(self)
        self.attention = Attention(self)
        self.keys.bind([viewer, placed.layer])
        for name in MOVES:
            placed.layer.events[name].connect(self._image_moved)
        self.ensure_layers()
        self._ask(session.question())
        self.show()

    # -- what the form reads -------------------------------------------------------------------------------------

    @property
    def current(self) -> CurrentObject | None:
        return self.session.current

    @property
    def is_answering(self) -> bool:
        return self.answerer.is_answering

    @property
    def view_step(self) -> int:
        """Reduction of the level the user looks at."""
        return self.placed.view_step(camera_of(self.viewer).zoom)

    # -- acts, called by keys and buttons ------------------------------------------------------------------------

    def act(self, name: str) -> None:
        """Do what a key or button stands for; what cannot be done is said and changes nothing."""
        if name.startswith("tool_"):
            self.choose_tool(name.removeprefix("tool_"))
        else:
            # Acts that need nothing of the viewer are the session's own.
            self.attempt(getattr(self, name, None) or getattr(self.session, name))

    def attempt(self, function: Callable[[], Change | None]) -> Change | None:
        """Do one act and show what it changed."""
        try:
            change = function()
        except NapariSamError as error:
            self._say(str(error))
            self._changed()
            return None
        if change is not None:
            self.ensure_layers()
            self.layers.redraw(change.boxes)
            self.painting.redraw(change)
            if change.what:
                self._say(f"{change.what[:1].upper()}{change.what[1:]}.")
        self.show()
        return change

    def commit(self) -> Change | None:
        seen = self.current
        if seen is not None and seen.mask is None and self.is_answering:
            # The user was quicker than the model: the object is committed when its mask comes.
            self._commit_at = self.session.revision
            self._say("Committed as soon as the mask is there ...")
            return None
        return self._then_ask(self.session.commit())

    def remove_last_prompt(self) -> None:
        self._ask(self.session.remove_last_prompt())

    def undo(self) -> Change:
        return self._then_ask(self.session.undo())

    def redo(self) -> Change:
        return self._then_ask(self.session.redo())

    def reopen(self) -> Change:
        return self._then_ask(self.session.reopen(self._label_at_pointer()))

    def delete(self) -> Change:
        return self.session.delete([self._label_at_pointer()])

    def mark(self) -> None:
        label = self._label_at_pointer()
        self.marked = [m for m in self.marked if m != label] if label in self.marked else [*self.marked, label]
        listed = ", ".join(map(str, self.marked)) or "none"
        self._say(f"Marked for merging: {listed}.")

    def merge(self) -> Change:
        known = [label for label in self.marked if label in self.session.objects]
        change = self.session.merge(known)
        self.marked = []
        return change

    def choose_tool(self, tool: str) -> None:
        self.tool = tool
        self._say(f"Ctrl + drag: {tool}.")
        self._changed()

    def toggle_plain_clicks(self) -> None:
        rules = self.gestures.rules
        rules.plain_clicks = not rules.plain_clicks
        self._say("A click is a prompt, with Shift a negative one." if rules.plain_clicks else "Ctrl + click prompts.")

    def toggle_live(self) -> None:
        self.attention.is_live = not self.attention.is_live
        self._hovered = None
        self._say("Live preview is on." if self.attention.is_live else "Live preview is off.")

    # -- the mouse -----------------------------------------------------------------------------------------------

    def _on_gesture(self, gesture: Gesture) -> None:
        self._stroke = Marks()
        self._commit_at = None
        if not gesture.is_click and self.tool == "knife":
            self.attempt(lambda: cut_object(self.session, gesture.plane, gesture.path_xy))
        else:
            self.attempt(lambda: self._prompt(gesture))

    def _prompt(self, gesture: Gesture) -> None:
        if gesture.is_click:
            prompt: Any = Click(gesture.path_xy[0], gesture.is_positive)
        else:
            prompt = prompt_of_stroke(
                self.tool,  # type: ignore[arg-type]
                gesture.path_xy,
                self.session.image.frame_size,
                positive=gesture.is_positive,
                brush_radius_px=BRUSH_PX * self.placed.pixels_per_world() / camera_of(self.viewer).zoom,
            )
        self.ensure_layers()
        self._hovered = None
        self._ask(self.session.add_prompt(prompt, gesture.plane, self.view_step))

    def _on_stroke(self, gesture: Gesture) -> None:
        self._stroke = stroke_marks(gesture.plane, self.tool, gesture.path_xy, gesture.is_positive)
        self.show(tell=False)

    def _on_moved(self, plane: tuple[int, ...], xy: tuple[float, float]) -> None:
        if self.current is None and self.attention.hover(plane, xy) is None and self._hovered is not None:
            self._hovered = None
            self.show(tell=False)

    def _label_at_pointer(self) -> int:
        at = self.gestures.pointer()
        label = 0 if at is None else label_at(self.session.labels, *at)
        if not label:
            raise AnnotationError("there is no committed object under the pointer; point at one, then press the key.")
        return label

    # -- questions and answers -----------------------------------------------------------------------------------

    def use_store(self, store: EmbeddingStore) -> None:
        """Let another model answer from here on."""
        self.answerer.stop()
        self.store = store
        self.session.set_model(store.segmenter.name, store.segmenter.fingerprint)
        self.answerer = self._new_answerer()
        self._ask(self.session.question())
        self.attention.look()
        self.show()

    def _new_answerer(self) -> Answerer:
        store = self.store
        return Answerer(
            lambda question, should_stop: answer_question(store, question, should_stop),
            lambda question: store.peek(first_window(store, question)) is not None,
            store.get,
            answered=self._on_answered,
            hovered=self._on_hovered,
            failed=self._on_failed,
        )

    def _ask(self, question: Question | None) -> None:
        if question is not None:
            self.answerer.ask(question)

    def _then_ask(self, change: Change) -> Change:
        self._ask(self.session.question())
        return change

    def _on_answered(self, question: Question, answer: Answer) -> None:
        try:
            taken = self.session.accept(answer)
        except NapariSamError as error:
            self._on_failed(question, error)
            return
        if taken and self._commit_at == answer.revision:
            self._commit_at = None
            self.act("commit")
        elif taken:
            self.show()

    def _on_hovered(self, question: Question, answer: Answer) -> None:
        if self.attention.is_live and self.current is None:
            self._hovered = answer
            self.show(tell=False)

    def _on_failed(self, question: Question, error: Exception) -> None:
        self._say(error_text(error))
        self._shown_of = (0, [])
        self.show()

    # -- layers --------------------------------------------------------------------------------------------------

    def ensure_layers(self) -> None:
        """Make the layers that are missing, and listen to them."""
        added = self.layers.ensure()
        self.keys.bind(added)
        self.painting.follow()

    def _image_moved(self, event: Any = None) -> None:
        self.layers.follow_image()
        self.show(tell=False)

    def show(self, *, tell: bool = True) -> None:
        """Show the objects that are not committed yet, and their prompts."""
        previews: list[Preview] = []
        marks = Marks()
        for seen in self.session.parked:
            previews += [Preview(plane, found.mask, ASIDE) for plane, found in seen.planes.items()]
            marks = marks + marks_of(seen.plane, seen.prompts)
            marks = marks if seen.mask is None else marks + outline_of(seen.plane, seen.mask.box)
        current = self.current
        if current is not None:
            previews += self._previews_of(current)
            marks = marks + marks_of(current.plane, current.prompts)
        elif self._hovered is not None:
            previews.append(Preview(self.attention.plane, self._hovered.masks[0]))
        self.layers.show(previews, marks + self._stroke)
        if tell:
            self._changed()

    def _previews_of(self, current: CurrentObject) -> list[Preview]:
        """Its masks; while the model is asked once more, those that were shown before, so that nothing flickers."""
        object_id, before = self._shown_of
        if current.mask is None and self.is_answering and object_id == current.object_id:
            return before
        found = [Preview(p, known.mask, UNSURE if known.unsure else CURRENT) for p, known in current.planes.items()]
        self._shown_of = current.object_id, found
        return found

    def close(self) -> None:
        """End it: nothing of it stays in the viewer but the layer of objects."""
        self.painting.close_window()
        self.end()
        self.layers.close()

    def end(self) -> None:
        """Stop listening and let go of the journal; layers are not touched, for when they or the viewer are going."""
        for name in MOVES:
            self.placed.layer.events[name].disconnect(self._image_moved)
        self.answerer.stop()
        self.attention.release()
        self.gestures.release()
        self.keys.release_all()
        self.painting.release()
        self.session.close(keep_labels=True)
