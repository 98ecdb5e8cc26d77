"""What planning an act needs: its step, and the checks that refuse it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from napari_sam.annotate.images import check_plane
from napari_sam.annotate.objects import AnnotatedObject, Draft, Drafts, PlaneMask
from napari_sam.annotate.patches import Patch
from napari_sam.annotate.state import SessionState, Step, settle
from napari_sam.errors import AnnotationError
from napari_sam.geometry import Mask


def step(
    state: SessionState,
    what: str,
    patches: Iterable[Patch] = (),
    made: dict[int, AnnotatedObject] | None = None,
    time: float = 0.0,
    drafts: Drafts | None = None,
    revisions: int = 0,
) -> Step:
    """The step of an act: what it paints, what is known of objects it makes or changes, and the drafts after it."""
    kept = tuple(patch for patch in patches if not patch.is_empty)
    before, after = settle(state, kept, made or {}, time)
    return Step(what, kept, before, after, None if drafts is None else (state.drafts, drafts), revisions)


def redrafted(state: SessionState, draft: Draft, what: str, revisions: int = 0) -> Step:
    """A step that changes the current draft, or starts it."""
    return step(state, what, drafts=replace(state.drafts, current=draft), revisions=revisions)


def iter_chosen(state: SessionState, draft: Draft) -> Iterator[PlaneMask]:
    """The chosen mask of each plane of a draft that has one."""
    for part in draft.parts:
        answer = state.chosen(part)
        if answer is not None and not answer.masks[0].is_empty:
            unsure = part.current_given is not None and part.current_given.unsure
            yield PlaneMask(part.plane, answer.masks[0], answer.scores[0], unsure)


def current(state: SessionState) -> Draft:
    """The current draft; AnnotationError without one."""
    if state.drafts.current is None:
        raise AnnotationError("no object is being prompted; click on one first.")
    return state.drafts.current


def known_object(state: SessionState, label: int) -> AnnotatedObject:
    """A committed object; AnnotationError if there is none of this label."""
    known = state.objects.get(label)
    if known is None:
        raise AnnotationError(
            f"there is no object {label}; there are {len(state.objects)}, and the highest number is "
            f"{max(state.objects, default=0)}."
        )
    return known


def refuse_open(state: SessionState, labels: Iterable[int]) -> None:
    for label in labels:
        if state.drafts.find(label) is not None:
            raise AnnotationError(f"object {label} is being refined; commit or discard it first.")


def check_mask(state: SessionState, found: PlaneMask) -> None:
    check_plane(found.plane, state.labels.shape)
    if found.mask.frame_size != state.labels.frame_size:
        raise AnnotationError(
            f"a mask must be in the frame {state.labels.frame_size} (H, W) of the plane, got {found.mask.frame_size}; "
            "see Mask.shifted."
        )


def listed(labels: Iterable[int]) -> str:
    numbers = [str(label) for label in labels]
    return ", ".join(numbers[:5]) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")


def check_answer(state: SessionState, masks: Iterable[Mask]) -> None:
    """Refuse an answer whose masks are of another frame than the image's planes."""
    for mask in masks:
        check_mask(state, PlaneMask((0,) * (len(state.labels.shape) - 2), mask))
