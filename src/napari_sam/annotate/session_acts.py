"""The acts of an annotation session: each is planned against the state, written to the journal, and only then done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from napari_sam.annotate import events as ev
from napari_sam.annotate.acts import plan
from napari_sam.annotate.objects import MODES, Change, Mode, PlaneMask, Verdict
from napari_sam.annotate.patches import Patch
from napari_sam.annotate.pieces import connected_pieces
from napari_sam.annotate.planning import check_answer, iter_chosen
from napari_sam.annotate.policies import Policy
from napari_sam.annotate.prompts import Plane, Prompt
from napari_sam.annotate.questions import Answer, Question
from napari_sam.annotate.state import is_unplanned
from napari_sam.annotate.view import SessionView
from napari_sam.errors import AnnotationError, ConfigError
from napari_sam.geometry import Mask

_ANSWERS_WITH_LOGITS = 8
"""Answers kept with their logits: enough for the current object and what an undo or two bring back."""


class SessionActs(SessionView):
    """What a user can do; :class:`AnnotationSession` adds how a session begins and ends."""

    _clock: Callable[[], float]

    def add_prompt(self, prompt: Prompt, plane: Plane = (), view_step: int = 1) -> Question:
        """Point at the current object, or at a new one; returns what is to be asked.

        Raises
        ------
        PromptError
            If the prompt lies outside the image.
        """
        self._record_edits()
        draft = self._state.drafts.current
        object_id = self.next_label if draft is None else draft.object_id
        self._do(ev.PromptAdded, object_id=object_id, prompt=prompt, plane=tuple(plane), view_step=view_step)
        part = self._current_part()
        if part is None:
            raise AnnotationError("the prompt is not there any more; sessions are used from one thread.")
        return self._question_of(part)

    def remove_last_prompt(self) -> Question | None:
        """Take the last prompt of the current plane away; returns what is to be asked, if that is not known."""
        self._do(ev.PromptRemoved)
        return self.question()

    def accept(self, answer: Answer) -> bool:
        """Take an answer, unless the prompts it answers are no longer there; says whether it was taken."""
        if self._state.part_of(answer.revision) is None:
            return False
        check_answer(self._state, answer.masks)
        masks = tuple(
            replace(mask, predicted_iou=score) for mask, score in zip(answer.masks, answer.scores, strict=True)
        )
        self._do(ev.Answered, revision=answer.revision, masks=masks, scores=answer.scores)
        self._answers[answer.revision] = replace(answer, masks=masks)
        while len(self._answers) > _ANSWERS_WITH_LOGITS:
            self._answers.popitem(last=False)
        return True

    def choose(self, index: int) -> Change:
        """Take one of the masks of an ambiguous prompt."""
        return self._do(ev.MaskChosen, index=index)

    def cycle(self) -> Change:
        """Take the next of the masks."""
        seen = self.current
        if seen is None or not seen.masks:
            raise AnnotationError("there is no mask to choose from yet; add a prompt and wait for the answer.")
        return self.choose((seen.choice + 1) % len(seen.masks))

    def propagated(self, found: Sequence[PlaneMask]) -> Change:
        """Take masks of the current object in further planes; planes that have prompts keep theirs."""
        return self._do(ev.Propagated, found=tuple(found))

    def next_object(self) -> Change:
        """Put the current object aside, so that the next prompt starts another one."""
        return Change() if self._state.drafts.current is None else self._do(ev.NextObject)

    def go_to(self, object_id: int) -> Change:
        """Make an object that was put aside the current one."""
        return self._do(ev.WentTo, object_id=object_id)

    def commit(self) -> Change:
        """Paint the current object into the labels.

        Raises
        ------
        AnnotationError
            If it has no mask yet, or nothing of it is left under the policy.
        """
        draft = self._state.drafts.current
        if draft is None:
            raise AnnotationError("there is nothing to commit; click on an object first.")
        return self._do(ev.Committed, labels=(draft.object_id,), policy=self._policy)

    def commit_all(self) -> Change:
        """Paint the current object and all that were put aside, as one act; those without a mask stay."""
        ready = sorted(d.object_id for d in self._state.drafts if any(iter_chosen(self._state, d)))
        if not ready:
            raise AnnotationError("there is nothing to commit; no object has a mask yet.")
        return self._do(ev.Committed, labels=tuple(ready), policy=self._policy)

    def discard(self) -> Change:
        """Give the current object up; one that was reopened stays as it was committed."""
        return self._do(ev.Discarded)

    def reopen(self, label: int) -> Change:
        """Go on with a committed object and its prompts; another current object is put aside."""
        return self._do(ev.Reopened, label=label)

    def merge(self, labels: Sequence[int]) -> Change:
        """Make several objects one, under the first label."""
        chosen = tuple(int(label) for label in labels)
        return self._do(ev.Merged, labels=chosen, into=chosen[0] if chosen else 0)

    def split(self, label: int, masks: Sequence[Mask] | None = None, plane: Plane | None = None) -> Change:
        """Make parts of an object objects of their own; what no mask covers keeps its label.

        Parameters
        ----------
        label : int
        masks : sequence of Mask, optional
            In the plane's frame, one a new object; where two overlap the first has the pixels. None takes the object's
            connected pieces, of which the largest keeps the label.
        plane : tuple of int, optional
            None takes the object's first plane.

        Raises
        ------
        AnnotationError
            If there is no such object, it is in one piece, or a mask has none of its pixels.
        """
        self._record_edits()
        known = self._state.objects.get(label)
        part = None if known is None else known.parts[0] if plane is None else known.part(plane)
        index = () if part is None and plane is None else part.plane if part is not None else plane
        if masks is None and part is not None:
            masks = connected_pieces(self.labels.mask_of(label, part.plane, part.extent))[1:]
            if not masks:
                raise AnnotationError(f"object {label} is in one piece; draw a mask over the part to be split off.")
        given = tuple(masks or ())
        numbers = tuple(range(self.next_label, self.next_label + len(given)))
        return self._do(ev.Split, label=label, plane=index, masks=given, new_labels=numbers)

    def delete(self, labels: Sequence[int]) -> Change:
        """Take objects out of the labels."""
        return self._do(ev.Deleted, labels=tuple(int(label) for label in labels))

    def record_painting(self, patches: Sequence[Patch] | None = None) -> Change:
        """Take note of what was painted with a viewer's own tools.

        Parameters
        ----------
        patches : sequence of Patch, optional
            None takes what was written into `labels` by index since the last act; that is taken before any other act
            too, so nothing is lost if this is never called.
        """
        if patches is not None:
            return self._do(ev.HandPainted, patches=tuple(patches))
        return self._record_edits()

    def prefill(
        self,
        masks: Sequence[Mask | Sequence[PlaneMask]],
        plane: Plane = (),
        policy: Policy = "keep_pixels",
    ) -> Change:
        """Commit masks that the model found by itself, for the user to complete or review, as one act.

        Parameters
        ----------
        masks : sequence
            One entry an object: its mask in `plane`, or its masks in several planes. Their predicted IoU is kept. An
            object of which the policy leaves nothing is left out.
        """
        self._record_edits()
        found: list[PlaneMask] = []
        labels: list[int] = []
        first = self.next_label
        for i, entry in enumerate(masks):
            own = [PlaneMask(plane, entry, entry.predicted_iou)] if isinstance(entry, Mask) else list(entry)
            found.extend(own)
            labels.extend([first + i] * len(own))
        return self._do(ev.Prefilled, found=tuple(found), labels=tuple(labels), policy=policy)

    def review(self, label: int, verdict: Verdict | None, rating: int | None = None) -> Change:
        """Say what a person thinks of an object, with a rating of 1 to 10 if wanted; its pixels stay."""
        return self._do(ev.Reviewed, label=int(label), verdict=verdict, rating=rating)

    def set_mode(self, mode: Mode) -> None:
        """Go to another mode of the data engine."""
        if mode not in MODES:
            raise ConfigError(f"mode must be one of {', '.join(MODES)}, got {mode!r}.")
        self._do(ev.ModeChanged, mode=mode)

    def set_model(self, name: str, fingerprint: str) -> None:
        """Say that another model answers from here on; answers still awaited from the old one are refused."""
        self._do(ev.ModelChanged, name=name, fingerprint=fingerprint)

    def undo(self) -> Change:
        """Take the last act back, across commits."""
        return self._do(ev.Undone)

    def redo(self) -> Change:
        """Do the act that was taken back last again."""
        return self._do(ev.Redone)

    def _do(self, kind: type[ev.Event], **fields: Any) -> Change:
        """Plan an act, write it down, do it: an act that cannot be done or written changes nothing."""
        self._record_edits()
        return self._perform(kind(time=self._now(), **fields))

    def _record_edits(self) -> Change:
        edits = self.labels.edits
        if not edits:
            return Change()
        change = self._perform(ev.HandPainted(patches=edits, time=self._now()))
        self.labels.take_edits()
        return change

    def _perform(self, event: ev.Event) -> Change:
        step = None if is_unplanned(event) else plan(self._state, event)
        if isinstance(event, ev.Undone | ev.Redone):
            self._state.check_history(event)
        if self._writer is not None:
            self._writer.append(event)
        return self._state.perform(event, step)

    def _now(self) -> float:
        return round(self._clock(), 3)
