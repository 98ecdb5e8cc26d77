"""A review in a viewer: which object or place is looked at, what a key means for it, and mending in between."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from napari_sam.errors import AnnotationError
from napari_sam.ui.interactive.session_control import SessionControl
from napari_sam.ui.review.form import VERDICT_KEYS
from napari_sam.ui.review.view import ReviewKeys, ReviewView
from napari_sam.workflows.annotating.interactive import Box
from napari_sam.workflows.annotating.review import (
    EVERY_ORIGIN,
    MODEL_MADE,
    Place,
    PlaceCount,
    ReviewItem,
    ReviewRecord,
    ReviewRound,
    Verdict,
    audit_places,
    audit_sample,
    objects_in,
    read_record,
    review_queue,
    write_record,
)

VERDICTS: dict[str, Verdict] = {"accept": "accepted", "reject": "rejected"}
PLACE_OBJECTS = 8
"""A place is about so many typical objects wide."""
PLACE_PX = (64, 1024)
"""Sides of places, at least and at most."""
PLACE_ON_SCREEN_PX = 500.0


class Rounds:
    """The rounds of one session; everything happens on the GUI thread.

    Parameters
    ----------
    control : SessionControl
    pressed : callable
        Called with the name of a verdict when its key is pressed.

    Raises
    ------
    JournalError
        If the record of earlier audits is damaged.
    """

    def __init__(self, control: SessionControl, pressed: Callable[[str], None]) -> None:
        self.control = control
        self.record: ReviewRecord = read_record(control.session.journal)
        self.round: ReviewRound | None = None
        self.view: ReviewView | None = None
        self._places: list[Place] = []
        self._fixing: tuple[int, Any, int | None] | None = None
        """Label, the object before it was mended, and the rating it is to get."""
        self._shown: Any = None
        self._keys = ReviewKeys({key: partial(pressed, name) for name, key in VERDICT_KEYS.items()})

    @property
    def item(self) -> ReviewItem | None:
        """The object under review."""
        return None if self.round is None or self.place is not None else self.round.current

    @property
    def place(self) -> Place | None:
        """The place in which missed objects are to be counted."""
        return self._places[0] if self._places else None

    @property
    def places_left(self) -> int:
        return len(self._places)

    @property
    def is_fixing(self) -> bool:
        """Whether an object is being mended; then keys mean what they mean in *Interactive segmentation*."""
        return self._fixing is not None

    # -- beginning -----------------------------------------------------------------------------------------------

    def queue(self, *, by_hand: bool = False) -> str:
        """Go through what has no verdict yet, the most doubtful first."""
        session = self.control.session
        items = review_queue(session.objects, origins=EVERY_ORIGIN if by_hand else MODEL_MADE)
        if not items:
            hint = "" if by_hand else " Tick 'by hand too' for those that were clicked or painted."
            raise AnnotationError(f"None of the {len(session.objects)} objects waits for review.{hint}")
        self._start([item.label for item in items])
        cut = sum(item.is_cut for item in items)
        first = f"; {cut} cut by a seam come first" if cut else ", the most doubtful first"
        return f"{len(items)} objects to review{first}."

    def audit(self, count: int) -> str:
        """Review objects drawn at random from those the model found; goes on with a sample that is not finished."""
        session, sample = self.control.session, self.record.sample
        waiting = [label for label in sample if label in session.objects and session.objects[label].verdict is None]
        if not waiting:
            found = [label for label, known in session.objects.items() if known.origin == "prefilled"]
            if not found:
                raise AnnotationError("no object was found by the model, so there is nothing to audit; prefill first.")
            sample = audit_sample(found, count, seed=len(session.objects) + sum(sample))
            self._keep(ReviewRecord(sample, self.record.counts, self.record.complete))
        self._start(sample)
        return f"{len(sample)} objects drawn at random; verdicts given before count too."

    def audit_places(self, count: int) -> str:
        """Show places drawn at random, to count missed objects in each."""
        session = self.control.session
        extents = [part.extent for known in session.objects.values() for part in known.parts]
        typical = float(np.median([max(box.width, box.height) for box in extents])) if extents else PLACE_PX[0]
        side = int(np.clip(PLACE_OBJECTS * typical, *PLACE_PX))
        seed = len(self.record.counts) + 1
        planes = session.image.plane_indices()
        self._places = list(audit_places(planes, session.image.frame_size, count, side, seed))
        self.round = None
        self._look()
        return "Count the objects with their middle in the frame that have no mask, then press Next place."

    def mark_complete(self, plane: tuple[int, ...], box: Box) -> str:
        """Note that every object in a box has a mask."""
        self._keep(self.record.with_complete(Place(plane, box)))
        return f"Noted: x {box.x0} to {box.x1}, y {box.y0} to {box.y1} is labelled throughout."

    # -- judging -------------------------------------------------------------------------------------------------

    def judge(self, name: str, rating: int | None) -> str | None:
        """Do what a verdict's key or button says to the object under review."""
        running, item = self.round, self.item
        if running is None or item is None:
            raise AnnotationError("there is no object under review; press Review, or Objects for an audit.")
        if name == "skip":
            running.skip()
            self._look()
            return None
        if name == "fix":
            return self._fix(item, rating)
        self.control.attempt(lambda: running.judge(VERDICTS[name], rating))
        self._look()
        return None

    def count_place(self, missed: int) -> str | None:
        """Store what was counted in the place that is shown, and go to the next."""
        place = self.place
        if place is None:
            return None
        found = objects_in(place, self.control.session.objects.values())
        self._keep(self.record.with_count(PlaceCount(place, len(found), missed)))
        self._places.pop(0)
        self._look()
        return f"{len(found)} found, {missed} missed there; {len(self._places)} places to go."

    def follow(self) -> str | None:
        """Look at what became of the session: a mended object gets its verdict, the next one is shown."""
        said = None
        if self._fixing is not None:
            label, before, rating = self._fixing
            current, known = self.control.session.current, self.control.session.objects.get(label)
            if current is not None and current.object_id == label:
                return None
            self._fixing = None
            if known is not None and known is not before:
                self.control.attempt(lambda: self.control.session.review(label, "fixed", rating))
                said = f"Object {label} is fixed."
            else:
                said = f"Object {label} was left as it was."
        self._look()
        return said

    def close(self, *, touch_layers: bool = True) -> None:
        """End it; without `touch_layers` the frame stays, for when layers or viewer are going."""
        self._keys.release()
        if self.view is not None and touch_layers:
            self.view.close()
        self.round, self._places = None, []

    # -- inside --------------------------------------------------------------------------------------------------

    def _start(self, labels: Any) -> None:
        self._places = []
        self.round = ReviewRound(self.control.session, labels)
        self._look()

    def _fix(self, item: ReviewItem, rating: int | None) -> str:
        session = self.control.session
        self._fixing = (item.label, session.objects[item.label], rating)
        self._keys.release()
        if self.control.attempt(lambda: session.reopen(item.label)) is None:
            self._fixing = None
            self._look()
            return f"Object {item.label} cannot be mended now."
        return "Mend it: Ctrl + click adds, Ctrl + Shift + click takes away, Enter commits, Escape leaves it."

    def _look(self) -> None:
        """Show what is under review now."""
        if self._fixing is not None:
            return
        item, place = self.item, self.place
        if item is None and place is None:
            self._keys.release()
            self._shown = None
            if self.view is not None:
                view, self.view = self.view, None
                view.close()
            return
        if self.view is None:
            self.view = ReviewView(self.control)
        target = (place.plane, place.box) if place is not None else None
        if target is None and item is not None:
            target = (item.plane, item.extent)
        if target is not None and self._shown != (item and item.label, target):
            self._shown = (item and item.label, target)
            self.view.show(*target, side_px=PLACE_ON_SCREEN_PX if place is not None else None)
        if item is not None and not self._keys.is_bound:
            control = self.control
            self._keys.bind([control.viewer, control.placed.layer, *control.layers.layers()])

    def _keep(self, record: ReviewRecord) -> None:
        write_record(self.control.session.journal, record)
        self.record = record
