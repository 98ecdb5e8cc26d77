"""What the widget *Review* asks: queue, audits, and what is known of places besides the verdicts in the journal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_sam.annotate.objects import AnnotatedObject, Change, Verdict
from napari_sam.annotate.review import (
    EVERY_ORIGIN,
    MODEL_MADE,
    Place,
    PlaceCount,
    Proportion,
    ReviewItem,
    audit_places,
    audit_sample,
    objects_in,
    precision_of,
    recall_of,
    review_item,
    review_queue,
    wilson_interval,
)
from napari_sam.annotate.session import AnnotationSession
from napari_sam.errors import AnnotationError, JournalError
from napari_sam.geometry import Box
from napari_sam.tiling.writing import write_bytes

__all__ = [
    "EVERY_ORIGIN",
    "MODEL_MADE",
    "Place",
    "PlaceCount",
    "Proportion",
    "ReviewItem",
    "ReviewRecord",
    "ReviewRound",
    "Verdict",
    "audit_places",
    "audit_sample",
    "objects_in",
    "precision_of",
    "read_record",
    "recall_of",
    "record_path",
    "review_item",
    "review_queue",
    "wilson_interval",
    "write_record",
]


@dataclass(frozen=True, slots=True)
class ReviewRecord:
    """What was found out about an annotation besides its objects' verdicts."""

    sample: tuple[int, ...] = ()
    """Labels drawn for the audit of precision."""
    counts: tuple[PlaceCount, ...] = ()
    """Counted in the audit of recall."""
    complete: tuple[Place, ...] = ()
    """Where a person says that every object has a mask."""

    def with_count(self, count: PlaceCount) -> ReviewRecord:
        """It with one more place counted; where nothing is missed, the place is complete."""
        known = replace(self, counts=(*self.counts, count))
        return known if count.missed else known.with_complete(count.place)

    def with_complete(self, place: Place) -> ReviewRecord:
        return self if place in self.complete else replace(self, complete=(*self.complete, place))

    def precision(self, objects: Mapping[int, AnnotatedObject]) -> Proportion | None:
        """Of the sample; an object that was deleted since was wrong."""
        verdicts: list[Verdict | None] = [
            objects[label].verdict if label in objects else "rejected" for label in self.sample
        ]
        return precision_of(verdicts)

    def recall(self) -> Proportion | None:
        return recall_of(self.counts)


def record_path(journal: Path) -> Path:
    """Beside the journal."""
    return journal.with_name(f"{journal.name}.review.json")


def read_record(journal: Path | None) -> ReviewRecord:
    """The record of a session; an empty one if there is none.

    Raises
    ------
    JournalError
        If the file is damaged.
    """
    if journal is None or not record_path(journal).is_file():
        return ReviewRecord()
    path = record_path(journal)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return ReviewRecord(
            tuple(int(label) for label in stored["sample"]),
            tuple(PlaceCount(_place(row), int(row["found"]), int(row["missed"])) for row in stored["counts"]),
            tuple(_place(row) for row in stored["complete"]),
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise JournalError(
            f"the record of audits {path} cannot be read ({type(error).__name__}: {error}); delete it to audit anew. "
            "Objects and verdicts are in the journal and not touched by this."
        ) from error


def write_record(journal: Path | None, record: ReviewRecord) -> None:
    """Keep the record of a session; without a journal it lives as long as the program.

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    if journal is None:
        return
    stored = {
        "sample": list(record.sample),
        "counts": [_row(c.place) | {"found": c.found, "missed": c.missed} for c in record.counts],
        "complete": [_row(place) for place in record.complete],
    }
    write_bytes(record_path(journal), json.dumps(stored, indent=1).encode())


def _row(place: Place) -> dict[str, Any]:
    return {"plane": list(place.plane), "box": place.box.as_xyxy().tolist()}


def _place(row: Mapping[str, Any]) -> Place:
    return Place(tuple(int(i) for i in row["plane"]), Box(*(int(n) for n in row["box"])))


class ReviewRound:
    """What is looked at in one go: a queue, or a sample drawn at random. Where it stands follows from the session.

    So an undone verdict brings its object back, and what was deleted meanwhile is passed over.

    Parameters
    ----------
    session : AnnotationSession
    labels : sequence of int
        In the order to look at them.
    """

    def __init__(self, session: AnnotationSession, labels: Sequence[int]) -> None:
        self.session = session
        self.labels = tuple(labels)
        self._skipped: set[int] = set()

    @property
    def current(self) -> ReviewItem | None:
        """The first that has no verdict and was not skipped; None at the end."""
        objects = self.session.objects
        waiting = (label for label in self.labels if label in objects and label not in self._skipped)
        found = next((objects[label] for label in waiting if objects[label].verdict is None), None)
        return None if found is None else review_item(found)

    @property
    def done(self) -> int:
        """How many have a verdict, or are gone."""
        objects = self.session.objects
        return sum(label not in objects or objects[label].verdict is not None for label in self.labels)

    @property
    def skipped(self) -> int:
        return len(self._skipped)

    def judge(self, verdict: Verdict, rating: int | None = None) -> Change:
        """Say what the current object is.

        Raises
        ------
        AnnotationError
            At the end of the round.
        """
        return self.session.review(self._current_label(), verdict, rating)

    def skip(self) -> None:
        """Come to the current one later: it stays without a verdict."""
        self._skipped.add(self._current_label())

    def _current_label(self) -> int:
        item = self.current
        if item is None:
            raise AnnotationError("every object of this round was looked at; begin another one.")
        return item.label
