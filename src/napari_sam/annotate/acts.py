"""What each act of the user changes, planned without changing it: one function an event, from a state to a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from napari_sam.annotate import drafting
from napari_sam.annotate.events import (
    Committed,
    Deleted,
    Discarded,
    Event,
    HandPainted,
    MaskChosen,
    Merged,
    NextObject,
    Prefilled,
    PromptAdded,
    PromptRemoved,
    Propagated,
    Reopened,
    Reviewed,
    Split,
    WentTo,
)
from napari_sam.annotate.images import check_plane
from napari_sam.annotate.objects import VERDICTS, AnnotatedObject, Draft, ObjectPart, PlaneMask
from napari_sam.annotate.patches import Patch
from napari_sam.annotate.planning import check_mask, iter_chosen, known_object, listed, refuse_open, step
from napari_sam.annotate.policies import Policy
from napari_sam.annotate.state import SessionState, Step
from napari_sam.errors import AnnotationError


def plan(state: SessionState, event: Event) -> Step:
    """What an act changes.

    Raises
    ------
    AnnotationError, PromptError, ConfigError
        If it cannot be done; nothing is changed in any case.
    """
    return _PLANS[type(event)](state, event)


def _commit(state: SessionState, event: Committed) -> Step:
    patches: list[Patch] = []
    made: dict[int, AnnotatedObject] = {}
    with _trying(state, patches):
        for label in event.labels:
            draft = state.drafts.find(label)
            masks = [] if draft is None else list(iter_chosen(state, draft))
            if draft is None or not masks:
                raise AnnotationError(f"object {label} has no mask yet; add a prompt and wait for the answer.")
            first = len(patches)
            if _paint(state, draft, masks, event.policy, patches):
                made[label] = _committed(state, draft, masks, event.time)
            else:
                _take_back(state, patches, first)
    if not made:
        raise AnnotationError(
            f"nothing of object {listed(event.labels)} is left under the policy {event.policy!r}: other objects have "
            "all its pixels. Choose another mask or the policy 'overwrite'."
        )
    return step(state, f"commit {listed(made)}", patches, made, event.time, state.drafts.without(made))


def _paint(state: SessionState, draft: Draft, masks: list[PlaneMask], policy: Policy, patches: list[Patch]) -> bool:
    """Give a draft its pixels, adding to `patches`; says whether it has any."""
    label = draft.object_id
    known = state.objects.get(label) if draft.reopened is not None else None
    for part in () if known is None else known.parts:  # its pixels so far are free for all
        old = state.labels.mask_of(label, part.plane, part.extent)
        patches.append(state.labels.paint(part.plane, old, 0))
    first = len(patches)
    patches.extend(state.labels.paint(found.plane, found.mask, label, policy) for found in masks)
    return not all(patch.is_empty for patch in patches[first:]) or any(_has(state, label, found) for found in masks)


def _has(state: SessionState, label: int, found: PlaneMask) -> bool:
    """Whether a label has pixels of a mask already: painted by hand while the object was being prompted."""
    box = found.mask.box
    return bool(((state.labels.window(found.plane, box) == label) & found.mask.window(box)).any())


def _take_back(state: SessionState, patches: list[Patch], first: int = 0) -> None:
    """Revert the patches from number `first` on, and forget them."""
    while len(patches) > first:
        state.labels.revert(patches.pop())


def _merge(state: SessionState, event: Merged) -> Step:
    kept = known_object(state, event.into)
    others = [known_object(state, label) for label in dict.fromkeys(event.labels) if label != event.into]
    if not others:
        raise AnnotationError(f"merging needs two or more objects, got {listed(event.labels)}; select another one.")
    refuse_open(state, [event.into, *(other.label for other in others)])
    patches = [
        state.labels.plan_paint(p.plane, state.labels.mask_of(other.label, p.plane, p.extent), event.into)
        for other in others
        for p in other.parts
    ]
    parts: dict[Any, ObjectPart] = {}
    for part in (part for known in (kept, *others) for part in known.parts):
        parts[part.plane] = _united(parts[part.plane], part) if part.plane in parts else part
    merged = replace(kept, parts=tuple(parts.values()), verdict=None, rating=None, time=event.time)
    what = f"merge {listed(event.labels)} into {event.into}"
    return step(state, what, patches, {event.into: merged}, event.time)


def _split(state: SessionState, event: Split) -> Step:
    known = known_object(state, event.label)
    refuse_open(state, [event.label])
    part = known.part(event.plane)
    if part is None:
        raise AnnotationError(f"object {event.label} is not in plane {event.plane}; it is in {known.planes}.")
    old = state.labels.window(event.plane, part.extent)
    new = old.copy()
    for mask, label in zip(event.masks, event.new_labels, strict=True):
        piece = (new == event.label) & mask.window(part.extent)
        if not piece.any():
            raise AnnotationError(
                f"a mask to split object {event.label} with has none of its pixels; draw over the object."
            )
        new[piece] = label
    patch = Patch.between(event.plane, part.extent, old, new)
    fields = replace(part, prompts=(), mask_scores=())
    made = {label: AnnotatedObject(label, (fields,), known.origin, time=event.time) for label in event.new_labels}
    made[event.label] = replace(known, verdict=None, rating=None)
    what = f"split {event.label} into {listed([event.label, *event.new_labels])}"
    return step(state, what, [patch], made, event.time)


def _delete(state: SessionState, event: Deleted) -> Step:
    known = [known_object(state, label) for label in dict.fromkeys(event.labels)]
    refuse_open(state, event.labels)
    patches = [
        state.labels.plan_paint(part.plane, state.labels.mask_of(gone.label, part.plane, part.extent), 0)
        for gone in known
        for part in gone.parts
    ]
    return step(state, f"delete {listed(event.labels)}", patches, {}, event.time)


def _paint_by_hand(state: SessionState, event: HandPainted) -> Step:
    for patch in event.patches:
        check_plane(patch.plane, state.labels.shape)
    labels = sorted({int(label) for patch in event.patches for label in np.unique(patch.new)})
    return step(state, f"paint {listed(labels)}", event.patches, {}, event.time)


def _prefill(state: SessionState, event: Prefilled) -> Step:
    patches: list[Patch] = []
    parts: dict[int, list[ObjectPart]] = {}
    with _trying(state, patches):
        for found, label in zip(event.found, event.labels, strict=True):
            check_mask(state, found)
            patch = state.labels.paint(found.plane, found.mask, label, event.policy)
            if not patch.is_empty:
                patches.append(patch)
                parts.setdefault(label, []).append(_part_of(found))
    made = {label: AnnotatedObject(label, tuple(own), "prefilled", time=event.time) for label, own in parts.items()}
    return step(state, f"prefill {len(made)} objects", patches, made, event.time)


def _review(state: SessionState, event: Reviewed) -> Step:
    known = known_object(state, event.label)
    if event.verdict is not None and event.verdict not in VERDICTS:
        raise AnnotationError(f"a verdict must be one of {', '.join(VERDICTS)}, got {event.verdict!r}.")
    if event.rating is not None and not 1 <= event.rating <= 10:
        raise AnnotationError(f"a rating must lie in 1 to 10, got {event.rating}; 10 is a perfect mask.")
    made = {event.label: replace(known, verdict=event.verdict, rating=event.rating)}
    return step(state, f"review {event.label}: {event.verdict or 'no verdict'}", (), made, event.time)


_PLANS: dict[type[Event], Callable[[SessionState, Any], Step]] = {
    PromptAdded: drafting.add_prompt,
    PromptRemoved: drafting.remove_prompt,
    MaskChosen: drafting.choose,
    Propagated: drafting.propagate,
    NextObject: drafting.next_object,
    WentTo: drafting.go_to,
    Discarded: drafting.discard,
    Committed: _commit,
    Reopened: drafting.reopen,
    Merged: _merge,
    Split: _split,
    Deleted: _delete,
    HandPainted: _paint_by_hand,
    Prefilled: _prefill,
    Reviewed: _review,
}


@contextmanager
def _trying(state: SessionState, patches: list[Patch]) -> Iterator[None]:
    """A block that applies what it adds to `patches`, to see what comes next; at its end all is as before."""
    try:
        yield
    finally:
        _take_back(state, list(patches))


def _committed(state: SessionState, draft: Draft, masks: list[PlaneMask], time: float) -> AnnotatedObject:
    """What is known of a draft besides its pixels."""
    origin = "clicked" if draft.reopened is None else draft.reopened.origin
    parts = []
    for found in masks:
        part = draft.part(found.plane)
        plain = _part_of(found)
        if part is not None:
            answer = state.shown(part)
            scores = answer.scores if answer is not None and part.prompts else ()
            plain = replace(plain, prompts=part.prompts, view_step=part.view_step, mask_scores=scores)
        parts.append(plain)
    return AnnotatedObject(draft.object_id, tuple(parts), origin, time=time)


def _part_of(found: PlaneMask) -> ObjectPart:
    mask = found.mask
    return ObjectPart(
        found.plane,
        mask.box,
        mask.area,
        predicted_iou=found.predicted_iou,
        stability_score=mask.stability_score,
        unsure=found.unsure,
    )


def _united(a: ObjectPart, b: ObjectPart) -> ObjectPart:
    """What two objects that become one have in one plane; their pixels are counted elsewhere."""
    iou, stability = min(a.predicted_iou, b.predicted_iou), min(a.stability_score, b.stability_score)
    return replace(a, prompts=(*a.prompts, *b.prompts), mask_scores=(), predicted_iou=iou, stability_score=stability)
