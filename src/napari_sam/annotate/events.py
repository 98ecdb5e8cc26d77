"""Every act of a session as a value that can be written down: a journal is a list of these.

A replay needs no model: what it said is an event too. Numbers that the session chose (labels, revisions) stand in the
events where others could be chosen, so that a later version replays an older journal to the same labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from napari_sam.annotate.encoding import decode, encode
from napari_sam.annotate.objects import Mode, PlaneMask, Verdict
from napari_sam.annotate.patches import Patch
from napari_sam.annotate.policies import Policy
from napari_sam.annotate.prompts import Plane, Prompt
from napari_sam.errors import JournalError, NapariSamError
from napari_sam.geometry import Mask

JOURNAL_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events."""

    time: float = 0.0
    """Seconds since 1970."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON object, of which :func:`event_from_dict` makes the event again."""
        return {"event": kind_of(type(self))} | {
            field.name: encode(getattr(self, field.name)) for field in fields(self)
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Header(Event):
    """The first line of a journal: what the session is about."""

    version: int
    image: dict[str, Any]
    """As `AnnotatedImage.to_record` makes it: all that is needed to open the image again, its normalisation too."""
    model: str
    fingerprint: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptAdded(Event):
    """A prompt for the current object; the first one starts it."""

    object_id: int
    prompt: Prompt
    plane: Plane
    view_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRemoved(Event):
    """The last prompt of the current object taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Event):
    """What the model said to one set of prompts. Not an act of the user: it is undone with the prompt it answers."""

    revision: int
    masks: tuple[Mask, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskChosen(Event):
    """One of the model's masks chosen for the current object."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Propagated(Event):
    """Masks of the current object in further planes; planes with prompts of their own keep theirs."""

    found: tuple[PlaneMask, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NextObject(Event):
    """The current object put aside, uncommitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WentTo(Event):
    """An object that was put aside made the current one."""

    object_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed(Event):
    """Objects painted into the labels, in this order."""

    labels: tuple[int, ...]
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Discarded(Event):
    """The current object given up; one that was reopened stays as it is in the labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopened(Event):
    """A committed object made the current one, with its prompts."""

    label: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged(Event):
    """Objects made one."""

    labels: tuple[int, ...]
    into: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Split(Event):
    """Parts of an object made objects of their own; what no mask covers stays with it."""

    label: int
    plane: Plane
    masks: tuple[Mask, ...]
    new_labels: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted(Event):
    """Objects taken out of the labels."""

    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandPainted(Event):
    """Labels painted with a viewer's own tools."""

    patches: tuple[Patch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefilled(Event):
    """Objects that came from the model by themselves, for the user to complete or review."""

    found: tuple[PlaneMask, ...]
    labels: tuple[int, ...]
    """One a mask; masks of one object in several planes have the same."""
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed(Event):
    """What a person says of an object. A mark: its pixels stay."""

    label: int
    verdict: Verdict | None
    rating: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeChanged(Event):
    """Another mode of the data engine; not undone."""

    mode: Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChanged(Event):
    """Another model answers from here on; not undone. Answers that are still awaited from the old one are void."""

    name: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone(Event):
    """The last act taken back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redone(Event):
    """The act taken back last done again."""


def kind_of(event: type[Event]) -> str:
    """The name of a kind of event in a journal: "prompt_added" for PromptAdded."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", event.__name__).lower()


EVENTS: dict[str, type[Event]] = {kind_of(event): event for event in Event.__subclasses__()}
"""All kinds of events by the name they have in a journal."""


def event_from_dict(stored: Mapping[str, Any]) -> Event:
    """The event that `to_dict` wrote.

    Raises
    ------
    JournalError
        If it is of no kind this version knows, or lacks something.
    """
    kind = EVENTS.get(str(stored.get("event")))
    if kind is None:
        raise JournalError(
            f"the event {stored.get('event')!r} is not one of those this version knows ({', '.join(EVENTS)}); "
            "a newer version may have written it."
        )
    try:
        return kind(**{field.name: decode(field.name, stored[field.name]) for field in fields(kind)})
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, NapariSamError) as error:
        raise JournalError(f"an event {stored['event']!r} is damaged ({type(error).__name__}: {error}).") from error
