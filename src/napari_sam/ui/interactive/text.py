"""What the form of the interactive widget says, and reads: pure functions of a session's state."""

from __future__ import annotations

from collections.abc import Sequence

from napari_sam.errors import ImageError
from napari_sam.workflows.annotating.interactive import AnnotationSession, CurrentObject

SIZES = ("whole", "part", "subpart")


def object_text(current: CurrentObject | None, is_answering: bool, marked: Sequence[int]) -> str:
    """The current object in a line or two."""
    listed = f" Marked: {', '.join(map(str, marked))}." if marked else ""
    if current is None:
        return f"None. Ctrl + click on an object.{listed}"
    prompts = f"{len(current.prompts)} prompt{'' if len(current.prompts) == 1 else 's'}"
    again = ", reopened" if current.is_reopened else ""
    head = f"Object {current.object_id}{again}: {prompts}"
    if current.mask is None:
        return f"{head}; {'asking the model ...' if is_answering else 'no mask yet.'}{listed}"
    score = f"predicted IoU {current.scores[current.choice]:.2f}"
    if len(current.masks) == 1:
        return f"{head}; {score}, {current.mask.area} px.{listed}"
    names = mask_names([mask.area for mask in current.masks])
    offered = " · ".join(
        f"[{name} {score:.2f}]" if i == current.choice else f"{name} {score:.2f}"
        for i, (name, score) in enumerate(zip(names, current.scores, strict=True))
    )
    return f"{head}; {current.mask.area} px.\n{offered}{listed}"


def mask_names(areas: Sequence[int]) -> list[str]:
    """Whole, part and subpart for three masks, by their size; numbers for another count."""
    if len(areas) != len(SIZES):
        return [str(i + 1) for i in range(len(areas))]
    order = sorted(range(len(areas)), key=lambda i: -areas[i])
    return [SIZES[order.index(i)] for i in range(len(areas))]


def objects_text(session: AnnotationSession) -> str:
    """How much is annotated, and what undo would take back."""
    aside = len(session.parked)
    put = f", {aside} put aside" if aside else ""
    undo = f" Undo: {session.undo_text}." if session.undo_text else ""
    return f"{len(session.objects)} committed{put}.{undo}"


def channels_of(text: str, axes: str) -> tuple[int | str, ...] | None:
    """The channels that a user wrote: numbers or names with commas between; None if nothing.

    Raises
    ------
    ImageError
        If the image has no channels, or more than three are named.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        return None
    if "C" not in axes:
        raise ImageError(
            f"channels {text!r} were given, but the axes {axes} have no C; clear the field or name the axis."
        )
    if len(names) > 3:
        raise ImageError(f"at most three channels can be looked at together, got {len(names)}: {text}.")
    return tuple(int(name) if name.isdigit() else name for name in names)
