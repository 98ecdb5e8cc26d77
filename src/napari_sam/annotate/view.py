"""What a viewer reads of a session."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.journal import JournalWriter
from napari_sam.annotate.labels import SparseLabels
from napari_sam.annotate.objects import AnnotatedObject, CurrentObject, Draft, DraftPart, Mode
from napari_sam.annotate.planning import iter_chosen
from napari_sam.annotate.policies import Policy, check_policy
from napari_sam.annotate.prompts import Plane, Prompt, check_prompt
from napari_sam.annotate.questions import Answer, Question
from napari_sam.annotate.state import SessionState


class SessionView:
    """The readable side of a session; :class:`AnnotationSession` adds the acts."""

    image: AnnotatedImage
    _state: SessionState
    _policy: Policy
    _writer: JournalWriter | None
    _answers: OrderedDict[int, Answer]

    @property
    def labels(self) -> SparseLabels:
        """The committed objects, as a label image of the image's shape."""
        return self._state.labels

    @property
    def objects(self) -> Mapping[int, AnnotatedObject]:
        """The committed objects by label."""
        return MappingProxyType(self._state.objects)

    @property
    def current(self) -> CurrentObject | None:
        """The object that is being prompted."""
        draft = self._state.drafts.current
        return None if draft is None else self._seen(draft)

    @property
    def parked(self) -> tuple[CurrentObject, ...]:
        """Objects that were put aside uncommitted, in the order of their numbers."""
        return tuple(self._seen(draft) for draft in self._state.drafts.parked)

    @property
    def prompted_planes(self) -> tuple[Plane, ...]:
        """The planes in which the current object has prompts of its own."""
        draft = self._state.drafts.current
        return () if draft is None else tuple(part.plane for part in draft.parts if part.prompts)

    @property
    def revision(self) -> int:
        """Of the current object's prompts in the plane of the last act; 0 without any."""
        part = self._current_part()
        return part.revision if part is not None and part.prompts else 0

    @property
    def can_undo(self) -> bool:
        return bool(self._state.done) or self.labels.has_edits

    @property
    def can_redo(self) -> bool:
        return bool(self._state.undone) and not self.labels.has_edits

    @property
    def undo_text(self) -> str:
        """What an undo takes back: "commit 3"; empty if there is nothing."""
        return self._state.done[-1].what if self._state.done else ""

    @property
    def mode(self) -> Mode:
        return self._state.mode

    @property
    def model(self) -> tuple[str, str]:
        """Name and fingerprint of the model that answers."""
        return self._state.model

    @property
    def policy(self) -> Policy:
        """What a commit does where others are; set it at any time."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        check_policy(policy)
        self._policy = policy

    @property
    def next_label(self) -> int:
        """The number that the next new object gets."""
        painted = (int(patch.new.max()) for patch in self.labels.edits)
        return max([self._state.next_label, *(label + 1 for label in painted)])

    @property
    def journal(self) -> Path | None:
        return None if self._writer is None else self._writer.path

    def question(self) -> Question | None:
        """What is to be asked about the current object; None if its mask is known or it has no prompts."""
        part = self._current_part()
        if part is None or not part.prompts or self._state.shown(part) is not None:
            return None
        return self._question_of(part)

    def hover_question(self, prompt: Prompt, plane: Plane = (), view_step: int = 1) -> Question:
        """What would be asked if `prompt` were added; its answer is for a preview and is never accepted."""
        check_prompt(prompt, self.image.frame_size)
        draft = self._state.drafts.current
        part = None if draft is None else draft.part(plane)
        former = None if part is None else self._chosen(part)
        earlier = () if part is None else part.prompts
        object_id = self.next_label if draft is None else draft.object_id
        return Question(0, object_id, plane, (*earlier, prompt), view_step, former)

    def _current_part(self) -> DraftPart | None:
        draft = self._state.drafts.current
        return None if draft is None else draft.part()

    def _question_of(self, part: DraftPart) -> Question:
        draft = self._state.drafts.current
        object_id = 0 if draft is None else draft.object_id
        former = None
        if part.earlier:
            revision, choice = part.earlier[-1]
            former = self._chosen(replace(part, revision=revision, choice=choice, prompts=part.prompts[:-1]))
        return Question(part.revision, object_id, part.plane, part.prompts, part.view_step, former)

    def _chosen(self, part: DraftPart) -> Answer | None:
        """The chosen mask of a part, with logits where they are still known."""
        chosen = self._state.chosen(part)
        full = self._answers.get(part.revision)
        if chosen is None or full is None or not part.prompts:
            return chosen
        return full.only(full.best if part.choice is None else part.choice)

    def _seen(self, draft: Draft) -> CurrentObject:
        part = draft.part()
        answer = None if part is None else self._state.shown(part)
        planes = MappingProxyType({found.plane: found for found in iter_chosen(self._state, draft)})
        choice = 0
        if part is not None and answer is not None:
            choice = answer.best if part.choice is None else part.choice
        return CurrentObject(
            draft.object_id,
            draft.plane,
            () if part is None else part.prompts,
            () if answer is None else answer.masks,
            () if answer is None else answer.scores,
            choice,
            None if answer is None else answer.masks[choice],
            planes,
            draft.reopened is not None,
        )
