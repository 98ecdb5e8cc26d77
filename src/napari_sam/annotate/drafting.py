"""Acts on objects that are being prompted, planned without changing anything; none of them touches the labels."""

from __future__ import annotations

from dataclasses import replace

from napari_sam.annotate.events import (
    Discarded,
    MaskChosen,
    NextObject,
    PromptAdded,
    PromptRemoved,
    Propagated,
    Reopened,
    WentTo,
)
from napari_sam.annotate.images import check_plane
from napari_sam.annotate.objects import Draft, DraftPart, Drafts, Given
from napari_sam.annotate.planning import check_mask, current, known_object, redrafted, step
from napari_sam.annotate.prompts import check_prompt
from napari_sam.annotate.state import SessionState, Step
from napari_sam.errors import AnnotationError


def add_prompt(state: SessionState, event: PromptAdded) -> Step:
    check_plane(event.plane, state.labels.shape)
    check_prompt(event.prompt, state.labels.frame_size)
    draft = state.drafts.current or Draft(event.object_id, event.plane)
    old = draft.part(event.plane) or DraftPart(event.plane, 0)
    new = replace(
        old,
        revision=state.next_revision,
        prompts=(*old.prompts, event.prompt),
        view_step=event.view_step,
        choice=None,
        earlier=(*old.earlier, (old.revision, old.choice)),
    )
    what = f"prompt for {draft.object_id}"
    return redrafted(state, draft.with_parts(new, plane=event.plane), what, revisions=1)


def remove_prompt(state: SessionState, event: PromptRemoved) -> Step:
    draft = current(state)
    old = draft.part()
    if old is None or not old.prompts:
        raise AnnotationError(f"object {draft.object_id} has no prompt to take away in this plane; discard it instead.")
    prompts = old.prompts[:-1]
    given = old.given if old.given is not None and old.given.after <= len(prompts) else None
    what = f"take away a prompt of {draft.object_id}"
    if not prompts and given is None:
        left = draft.without(old.plane)
        if not left.parts:
            return step(state, what, drafts=state.drafts.without([draft.object_id]))
        return redrafted(state, replace(left, plane=left.parts[0].plane), what)
    known = old.earlier[-1] if old.earlier else None
    revision, choice = known or (state.next_revision, None)
    new = replace(old, revision=revision, prompts=prompts, choice=choice, given=given, earlier=old.earlier[:-1])
    return redrafted(state, draft.with_parts(new, plane=old.plane), what, revisions=int(known is None))


def choose(state: SessionState, event: MaskChosen) -> Step:
    draft = current(state)
    part = draft.part()
    answer = None if part is None else state.shown(part)
    if part is None or answer is None:
        raise AnnotationError("there is no mask to choose from yet; wait for the answer, or add a prompt.")
    if not 0 <= event.index < len(answer.masks):
        raise AnnotationError(f"mask {event.index} does not exist: there are {len(answer.masks)}, numbered from 0.")
    what = f"choose mask {event.index + 1} of {draft.object_id}"
    return redrafted(state, draft.with_parts(replace(part, choice=event.index), plane=part.plane), what)


def propagate(state: SessionState, event: Propagated) -> Step:
    draft = current(state)
    parts: list[DraftPart] = []
    for found in event.found:
        check_mask(state, found)
        old = draft.part(found.plane)
        if old is None or not old.prompts:
            given = Given(found.mask, found.predicted_iou, found.unsure)
            parts.append(DraftPart(found.plane, state.next_revision + len(parts), given=given))
    what = f"propagate {draft.object_id} to {len(parts)} planes"
    return redrafted(state, draft.with_parts(*parts, plane=draft.plane), what, revisions=len(parts))


def next_object(state: SessionState, event: NextObject) -> Step:
    return step(state, f"put {current(state).object_id} aside", drafts=state.drafts.parking())


def go_to(state: SessionState, event: WentTo) -> Step:
    draft = state.drafts.find(event.object_id)
    if draft is None:
        known = ", ".join(str(d.object_id) for d in state.drafts) or "none"
        raise AnnotationError(f"no object {event.object_id} is being prompted; there are: {known}.")
    others = state.drafts.without([event.object_id]).parking()
    return step(state, f"go to {event.object_id}", drafts=Drafts(draft, others.parked))


def discard(state: SessionState, event: Discarded) -> Step:
    draft = current(state)
    return step(state, f"discard {draft.object_id}", drafts=state.drafts.without([draft.object_id]))


def reopen(state: SessionState, event: Reopened) -> Step:
    known = known_object(state, event.label)
    if state.drafts.find(event.label) is not None:
        raise AnnotationError(f"object {event.label} is open already; go to it.")
    parts = [
        DraftPart(
            part.plane,
            state.next_revision + i,
            part.prompts,
            part.view_step,
            given=Given(
                state.labels.mask_of(event.label, part.plane, part.extent),
                part.predicted_iou,
                after=len(part.prompts),
            ),
        )
        for i, part in enumerate(known.parts)
    ]
    draft = Draft(event.label, known.parts[0].plane, tuple(parts), reopened=known)
    drafts = Drafts(draft, state.drafts.parking().parked)
    return step(state, f"reopen {event.label}", drafts=drafts, revisions=len(parts))
