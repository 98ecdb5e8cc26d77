"""The state of a session and how events change it. No files, no clock: a replay runs the events again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from napari_sam.annotate.events import Answered, Event, ModeChanged, ModelChanged, Redone, Undone
from napari_sam.annotate.labels import SparseLabels
from napari_sam.annotate.objects import AnnotatedObject, Change, DraftPart, Drafts, Given, Mode, ObjectPart
from napari_sam.annotate.patches import Patch
from napari_sam.annotate.prompts import Plane
from napari_sam.annotate.questions import Answer
from napari_sam.errors import AnnotationError
from napari_sam.geometry import Box

Objects = Mapping[int, AnnotatedObject | None]
"""What becomes of some objects; None for one that goes."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One act of the user, with all that is needed to take it back."""

    what: str
    """In words, for a menu: "commit 3"."""
    patches: tuple[Patch, ...] = ()
    before: Objects = field(default_factory=dict)
    after: Objects = field(default_factory=dict)
    drafts: tuple[Drafts, Drafts] | None = None
    """Before and after; None if the act does not concern them."""
    revisions: int = 0
    """How many new sets of prompts it made."""

    @property
    def change(self) -> Change:
        boxes = tuple((patch.plane, patch.box) for patch in self.patches if not patch.is_empty)
        return Change(boxes, tuple(sorted(self.after)), self.what)


class SessionState:
    """Labels, objects and drafts, and the acts that led there."""

    def __init__(self, labels: SparseLabels, mode: Mode = "assisted") -> None:
        self.labels = labels
        self.objects: dict[int, AnnotatedObject] = {}
        self.drafts = Drafts()
        self.answers: dict[int, Answer] = {}
        """By revision. They stay, so that undo finds a preview again without the model."""
        self.mode: Mode = mode
        self.model: tuple[str, str] = ("", "")
        self.next_revision = 1
        self.highest_label = 0
        """Of all that were ever committed: none of these numbers is given to another object."""
        self.done: list[Step] = []
        self.undone: list[Step] = []

    @property
    def next_label(self) -> int:
        """The number that the next new object gets."""
        return 1 + max([self.highest_label, *(draft.object_id for draft in self.drafts)])

    def part_of(self, revision: int) -> DraftPart | None:
        """The set of prompts of a revision, if it is still the one of an object that is being prompted."""
        return next((p for draft in self.drafts for p in draft.parts if p.prompts and p.revision == revision), None)

    def shown(self, part: DraftPart) -> Answer | None:
        """What is known of a part of a draft: the model's answer, or a mask that was given."""
        answer = self.answers.get(part.revision)
        if answer is not None and part.prompts:
            return answer
        given = part.current_given
        return None if given is None else Answer(part.revision, (given.mask,), (given.score,))

    def chosen(self, part: DraftPart) -> Answer | None:
        """The same with the one mask that is chosen."""
        answer = self.shown(part)
        if answer is None:
            return None
        index = answer.best if part.choice is None or part.choice >= len(answer.masks) else part.choice
        return answer.only(index)

    def run(self, event: Event, plan: Callable[[SessionState, Event], Step]) -> Change:
        """Do what an event says; `plan` says it of acts that can be undone."""
        return self.perform(event, None if is_unplanned(event) else plan(self, event))

    def perform(self, event: Event, step: Step | None) -> Change:
        """Do an event whose step is planned already."""
        if step is not None:
            self.undone.clear()
            self.done.append(step)
            self.next_revision += step.revisions
            return self._forward(step)
        if isinstance(event, Undone | Redone):
            self.check_history(event)
            return self._undo() if isinstance(event, Undone) else self._redo()
        if isinstance(event, Answered):
            self.answers[event.revision] = Answer(event.revision, event.masks, event.scores)
        elif isinstance(event, ModeChanged):
            self.mode = event.mode
        elif isinstance(event, ModelChanged):
            self.model = (event.name, event.fingerprint)
            self._renew_revisions()
        return Change()

    def check_history(self, event: Undone | Redone) -> None:
        """Refuse to take back, or to do again, what is not there."""
        if isinstance(event, Undone) and not self.done:
            raise AnnotationError("there is nothing to undo: this is how the session began.")
        if isinstance(event, Redone) and not self.undone:
            raise AnnotationError("there is nothing to do again: nothing was undone since the last act.")

    def _undo(self) -> Change:
        step = self.done.pop()
        for patch in reversed(step.patches):
            self.labels.revert(patch)
        self._put(step.before)
        if step.drafts is not None:
            self.drafts = step.drafts[0]
        self.undone.append(step)
        return replace(step.change, what=f"undo: {step.what}")

    def _redo(self) -> Change:
        step = self.undone.pop()
        self.done.append(step)
        return replace(self._forward(step), what=f"redo: {step.what}")

    def _forward(self, step: Step) -> Change:
        for patch in step.patches:
            self.labels.apply(patch)
        self._put(step.after)
        if step.drafts is not None:
            self.drafts = step.drafts[1]
        self.highest_label = max([self.highest_label, *step.after])
        return step.change

    def _put(self, objects: Objects) -> None:
        for label, known in objects.items():
            if known is None:
                self.objects.pop(label, None)
            else:
                self.objects[label] = known

    def _renew_revisions(self) -> None:
        """New numbers for all sets of prompts, so that what the old model still says is refused; masks stay."""
        renewed = []
        for draft in self.drafts:
            parts = []
            for part in draft.parts:
                answer = self.chosen(part)
                given = None if answer is None else Given(answer.masks[0], answer.scores[0], after=len(part.prompts))
                parts.append(replace(part, revision=self.next_revision, choice=None, given=given, earlier=()))
                self.next_revision += 1
            renewed.append(replace(draft, parts=tuple(parts)))
        has_current = self.drafts.current is not None
        self.drafts = Drafts(renewed[0], tuple(renewed[1:])) if has_current else Drafts(None, tuple(renewed))


def is_unplanned(event: Event) -> bool:
    """Whether an event is none of the acts that can be undone."""
    return isinstance(event, Answered | ModeChanged | ModelChanged | Undone | Redone)


def settle(
    state: SessionState, patches: tuple[Patch, ...], made: Mapping[int, AnnotatedObject], time: float
) -> tuple[Objects, Objects]:
    """What becomes of the objects when patches are applied: (before, after) of all that change.

    Areas follow from the patches; an object without pixels is gone; a label that nobody knows was painted by hand.

    Parameters
    ----------
    made : mapping
        What is known, besides their pixels, of objects that are new or changed.
    """
    areas: dict[int, dict[Plane, tuple[int, Box]]] = {}
    for label in made:
        areas[label] = _areas_of(state.objects.get(label))
    for patch in patches:
        for label, (lost, gained) in patch.area_changes().items():
            known = areas.setdefault(label, _areas_of(state.objects.get(label)))
            area, extent = known.get(patch.plane, (0, patch.box))
            known[patch.plane] = (area - lost + gained, extent.joined(patch.box) if gained else extent)
    before = {label: state.objects.get(label) for label in areas}
    after = {label: _remade(label, made.get(label) or before[label], areas[label], time) for label in areas}
    return before, after


def _areas_of(known: AnnotatedObject | None) -> dict[Plane, tuple[int, Box]]:
    return {} if known is None else {part.plane: (part.area, part.extent) for part in known.parts}


def _remade(
    label: int, known: AnnotatedObject | None, areas: Mapping[Plane, tuple[int, Box]], time: float
) -> AnnotatedObject | None:
    base = known or AnnotatedObject(label, (), "painted", time=time)
    parts = []
    for plane, (area, extent) in sorted(areas.items()):
        if area > 0:
            part = base.part(plane) or ObjectPart(plane, extent, area)
            parts.append(replace(part, area=area, extent=extent))
    return replace(base, parts=tuple(parts)) if parts else None
