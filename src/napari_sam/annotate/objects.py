"""Values of a session: committed objects, and drafts of objects that are still being prompted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from napari_sam.annotate.prompts import Plane, Prompt
from napari_sam.geometry import Box, Mask

Origin = Literal["clicked", "prefilled", "painted"]
Verdict = Literal["accepted", "rejected", "fixed"]
Mode = Literal["assisted", "semi-automatic", "automatic", "review"]
MODES: tuple[Mode, ...] = get_args(Mode)
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True, slots=True)
class ObjectPart:
    """A committed object in one plane."""

    plane: Plane
    extent: Box
    """Holds all its pixels; it need not be tight after others took some of them."""
    area: int
    """Pixels it has in the labels now."""
    prompts: tuple[Prompt, ...] = ()
    view_step: int = 1
    mask_scores: tuple[float, ...] = ()
    """Predicted IoU of all masks the model offered."""
    predicted_iou: float = 1.0
    """Of the chosen mask; 1 for one that no model made."""
    stability_score: float = 1.0
    unsure: bool = False
    """Where it came from said so: it was nearly lost from plane to plane, or the border of a tile cuts it."""


@dataclass(frozen=True, slots=True)
class AnnotatedObject:
    """A committed object: its value in the labels and how it came to be."""

    label: int
    parts: tuple[ObjectPart, ...]
    """One a plane, in the order of the planes."""
    origin: Origin
    verdict: Verdict | None = None
    """What a person said in review."""
    rating: int | None = None
    """1 to 10, as in the paper's study of mask quality."""
    time: float = 0.0
    """When it was committed, in seconds since 1970."""

    @property
    def planes(self) -> tuple[Plane, ...]:
        return tuple(part.plane for part in self.parts)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        return tuple(prompt for part in self.parts for prompt in part.prompts)

    @property
    def area(self) -> int:
        """Pixels (voxels) in all planes."""
        return sum(part.area for part in self.parts)

    @property
    def predicted_iou(self) -> float:
        """Mean over the planes, weighted by area."""
        return sum(part.predicted_iou * part.area for part in self.parts) / max(1, self.area)

    @property
    def mask_scores(self) -> tuple[float, ...]:
        """Of the first plane that was prompted."""
        return next((part.mask_scores for part in self.parts if part.mask_scores), ())

    @property
    def is_verified(self) -> bool:
        """Whether a person has accepted it, as it was or after mending it."""
        return self.verdict in ("accepted", "fixed")

    def part(self, plane: Plane) -> ObjectPart | None:
        return next((part for part in self.parts if part.plane == plane), None)


@dataclass(frozen=True, slots=True)
class PlaneMask:
    """A mask in one plane: propagated from its neighbour, or found by an automatic run."""

    plane: Plane
    mask: Mask
    predicted_iou: float = 1.0
    unsure: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """A mask that a draft has without asking the model: propagated, or that of a reopened object."""

    mask: Mask
    score: float = 1.0
    unsure: bool = False
    after: int = 0
    """It holds for the first so many prompts; with another number of them the model has to be asked."""


@dataclass(frozen=True, slots=True)
class DraftPart:
    """A draft in one plane."""

    plane: Plane
    revision: int
    """Number of this set of prompts; answers are known by it."""
    prompts: tuple[Prompt, ...] = ()
    view_step: int = 1
    choice: int | None = None
    """Which of the model's masks; None takes the one with the best score."""
    given: Given | None = None
    earlier: tuple[tuple[int, int | None], ...] = ()
    """(revision, choice) of the sets with fewer prompts, the last one last, as far back as they are known."""

    @property
    def current_given(self) -> Given | None:
        """The given mask, if it is one for these prompts."""
        return self.given if self.given is not None and self.given.after == len(self.prompts) else None


@dataclass(frozen=True, slots=True)
class Draft:
    """An object that is being prompted; it becomes label `object_id` when it is committed."""

    object_id: int
    plane: Plane
    """Where the last act was."""
    parts: tuple[DraftPart, ...] = ()
    reopened: AnnotatedObject | None = None
    """The committed object this was, if it is being refined; its pixels stay in the labels until it is committed."""

    def part(self, plane: Plane | None = None) -> DraftPart | None:
        """Its part in a plane, by default that of the last act."""
        wanted = self.plane if plane is None else plane
        return next((part for part in self.parts if part.plane == wanted), None)

    def with_parts(self, *parts: DraftPart, plane: Plane) -> Draft:
        """It with some planes' parts replaced or added; the act was in `plane`."""
        new = {part.plane: part for part in (*self.parts, *parts)}
        return replace(self, plane=plane, parts=tuple(new[index] for index in sorted(new)))

    def without(self, plane: Plane) -> Draft:
        """It without its part in one plane."""
        return replace(self, parts=tuple(part for part in self.parts if part.plane != plane))


@dataclass(frozen=True, slots=True)
class Drafts:
    """All objects that are being prompted."""

    current: Draft | None = None
    parked: tuple[Draft, ...] = ()
    """Others, in the order of their numbers."""

    def __iter__(self) -> Iterator[Draft]:
        yield from self.parked if self.current is None else (self.current, *self.parked)

    def parking(self) -> Drafts:
        """The current one put among the others."""
        return Drafts(None, tuple(sorted(self, key=lambda draft: draft.object_id)))

    def without(self, object_ids: Collection[int]) -> Drafts:
        """Those whose number is not among `object_ids`."""
        current = self.current if self.current is None or self.current.object_id not in object_ids else None
        return Drafts(current, tuple(draft for draft in self.parked if draft.object_id not in object_ids))

    def find(self, object_id: int) -> Draft | None:
        return next((draft for draft in self if draft.object_id == object_id), None)


@dataclass(frozen=True, slots=True)
class CurrentObject:
    """What the user sees of a draft in the plane of its last act."""

    object_id: int
    plane: Plane
    prompts: tuple[Prompt, ...]
    masks: tuple[Mask, ...]
    """What can be chosen from; empty while the answer is awaited."""
    scores: tuple[float, ...]
    choice: int
    """Index into `masks`."""
    mask: Mask | None
    """The chosen one."""
    planes: Mapping[Plane, PlaneMask]
    """Its mask in every plane that has one."""
    is_reopened: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What an act changed: what a view must redraw."""

    boxes: tuple[tuple[Plane, Box], ...] = ()
    """Parts of the labels."""
    labels: tuple[int, ...] = ()
    """Objects that came, went or changed."""
    what: str = ""
    """The act in words, for a status line: "commit 3"."""
