"""A session does what its plainest retelling does, whatever the order of acts, and its journal says the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from annotate_model import SHAPE, History, Part
from annotate_scenes import new_session, rectangle
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from napari_sam.annotate.acts import plan
from napari_sam.annotate.journal import read_journal
from napari_sam.annotate.labels import SparseLabels
from napari_sam.annotate.prompts import Click
from napari_sam.annotate.questions import Answer
from napari_sam.annotate.session import AnnotationSession, SessionConfig
from napari_sam.annotate.state import SessionState
from napari_sam.errors import AnnotationError

PLANES = st.sampled_from([(0,), (1,)])
POLICIES = st.sampled_from(["overwrite", "keep_pixels", "keep_objects"])
MASKS = st.builds(
    lambda x, y, w, h: rectangle(x, y, min(x + w, 16), min(y + h, 12)),
    st.integers(0, 15),
    st.integers(0, 11),
    st.integers(1, 9),
    st.integers(1, 9),
)


class SessionMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "session.jsonl"
        self.session = new_session(self.path, SHAPE, "ZYX")
        self.history = History()
        self.seen: list[tuple[int, np.ndarray]] = []

    # -- prompts ---------------------------------------------------------------------------------------------------

    @rule(plane=PLANES, masks=st.lists(MASKS, min_size=1, max_size=3), answered=st.booleans())
    def click(self, plane, masks, answered):
        question = self.session.add_prompt(Click((3.0, 3.0)), plane)
        number = self.history.next_label()
        model = self.history.act()
        if model.current is None:
            model.current = number
            model.drafts[number] = {"plane": plane, "parts": {}, "reopened": False}
        draft = model.drafts[model.current]
        draft["plane"] = plane
        part = draft["parts"].setdefault(plane, Part())
        part.stack.append(None)
        assert question.object_id == model.current
        assert len(question.prompts) == len(part.stack)
        self.question = question
        if answered:
            scores = tuple(0.5 + 0.1 * i for i in range(len(masks)))
            assert self.session.accept(Answer(question.revision, tuple(masks), scores))
            part.stack[-1] = [[mask.to_array() for mask in masks], len(masks) - 1]

    @precondition(lambda self: self.shown() is not None and self.part().stack)
    @rule(index=st.integers(0, 2))
    def choose(self, index):
        count = len(self.part().stack[-1][0])
        self.session.choose(index % count)
        self.history.act()
        self.part().stack[-1][1] = index % count

    @precondition(lambda self: self.part() is not None and self.part().stack)
    @rule()
    def remove_prompt(self):
        self.session.remove_last_prompt()
        model = self.history.act()
        draft = model.drafts[model.current]
        part = self.part()
        part.stack.pop()
        if not part.stack and part.given is None:
            del draft["parts"][draft["plane"]]
            if draft["parts"]:
                draft["plane"] = min(draft["parts"])
            else:
                del model.drafts[model.current]
                model.current = None

    @precondition(lambda self: self.history.now.current is not None)
    @rule()
    def put_aside(self):
        self.session.next_object()
        self.history.act().current = None

    @precondition(lambda self: self.history.now.drafts)
    @rule(data=st.data())
    def go_to(self, data):
        number = data.draw(st.sampled_from(sorted(self.history.now.drafts)))
        self.session.go_to(number)
        self.history.act().current = number

    @precondition(lambda self: self.history.now.current is not None)
    @rule()
    def discard(self):
        self.session.discard()
        model = self.history.act()
        del model.drafts[model.current]
        model.current = None

    # -- labels ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.ready())
    @rule(policy=POLICIES, everything=st.booleans())
    def commit(self, policy, everything):
        numbers, act = self.ready(), self.session.commit_all
        if self.history.now.current in numbers and not everything:
            numbers, act = [self.history.now.current], self.session.commit
        self.session.policy = policy
        undone = self.history.copies[self.history.at + 1 :]
        model = self.history.act()
        if model.commit(numbers, policy):
            act()
        else:
            self.history.drop()
            self.history.copies += undone
            with pytest.raises(AnnotationError, match=f"is left under the policy '{policy}'"):
                act()

    @rule(plane=PLANES, masks=st.lists(MASKS, min_size=1, max_size=3))
    def prefill(self, plane, masks):
        first = self.history.next_label()
        self.session.prefill(masks, plane)
        model = self.history.act()
        for i, mask in enumerate(masks):
            pixels = mask.to_array() & (model.labels[plane] == 0)
            model.labels[plane][pixels] = first + i
            model.verdicts[first + i] = None

    @rule(plane=PLANES, mask=MASKS, label=st.integers(0, 6))
    def paint(self, plane, mask, label):
        key = (plane[0], *mask.box.slices)
        changes = bool((self.history.now.labels[key] != label).any())
        self.session.labels[key] = label
        self.session.record_painting()
        if changes:
            self.history.act().labels[key] = label

    @precondition(lambda self: self.closed())
    @rule(data=st.data())
    def delete(self, data):
        labels = data.draw(st.lists(st.sampled_from(self.closed()), min_size=1, unique=True))
        self.session.delete(labels)
        model = self.history.act()
        model.labels[np.isin(model.labels, labels)] = 0

    @precondition(lambda self: len(self.closed()) > 1)
    @rule(data=st.data())
    def merge(self, data):
        labels = data.draw(st.lists(st.sampled_from(self.closed()), min_size=2, unique=True))
        self.session.merge(labels)
        model = self.history.act()
        for label in labels[1:]:
            model.labels[model.labels == label] = labels[0]
            for plane in ((0,), (1,)):
                n = model.prompts.get((label, plane), 0) + model.prompts.get((labels[0], plane), 0)
                model.prompts[labels[0], plane] = n
        model.verdicts[labels[0]] = None

    @precondition(lambda self: self.closed())
    @rule(data=st.data(), mask=MASKS)
    def split(self, data, mask):
        label = data.draw(st.sampled_from(self.closed()))
        plane = next((z,) for z in range(SHAPE[0]) if (self.history.now.labels[z] == label).any())
        piece = mask.to_array() & (self.history.now.labels[plane] == label)
        if not piece.any():
            with pytest.raises(AnnotationError, match=f"split object {label} with has none of its pixels"):
                self.session.split(label, [mask], plane)
            return
        number = self.history.next_label()
        self.session.split(label, [mask], plane)
        model = self.history.act()
        model.labels[plane][piece] = number
        model.verdicts[label] = model.verdicts[number] = None

    @precondition(lambda self: self.closed())
    @rule(data=st.data())
    def reopen(self, data):
        label = data.draw(st.sampled_from(self.closed()))
        self.session.reopen(label)
        model = self.history.act()
        parts = {}
        for z in range(SHAPE[0]):
            pixels = model.labels[z] == label
            if pixels.any():
                n = model.prompts.get((label, (z,)), 0)
                parts[z,] = Part([None] * (n - 1) + [[[pixels], 0]]) if n else Part(given=pixels)
        model.drafts[label] = {"plane": min(parts), "parts": parts, "reopened": True}
        model.current = label

    @precondition(lambda self: self.session.objects)
    @rule(data=st.data(), verdict=st.sampled_from(["accepted", "rejected", "fixed", None]))
    def review(self, data, verdict):
        label = data.draw(st.sampled_from(sorted(self.session.objects)))
        self.session.review(label, verdict, None if verdict is None else 7)
        self.history.act().verdicts[label] = verdict

    # -- history ---------------------------------------------------------------------------------------------------

    @rule(times=st.integers(1, 6))
    def undo(self, times):
        for _ in range(times):
            if self.history.at == 0:
                with pytest.raises(AnnotationError, match="nothing to undo"):
                    self.session.undo()
                return
            self.session.undo()
            self.history.at -= 1

    @rule(times=st.integers(1, 6))
    def redo(self, times):
        for _ in range(times):
            if self.history.at == len(self.history.copies) - 1:
                with pytest.raises(AnnotationError, match="nothing to do again"):
                    self.session.redo()
                return
            self.session.redo()
            self.history.at += 1

    @rule()
    def resume(self):
        self.session.close()
        config = SessionConfig(chunk_px=32, sync_journal=False, policy="overwrite")
        self.session = AnnotationSession.resume(self.path, self.session.image, config=config)

    # -- what holds ------------------------------------------------------------------------------------------------

    def part(self):
        model = self.history.now
        if model.current is None:
            return None
        draft = model.drafts[model.current]
        return draft["parts"].get(draft["plane"])

    def shown(self):
        part = self.part()
        return None if part is None else part.pixels()

    def ready(self):
        return sorted(
            number
            for number, draft in self.history.now.drafts.items()
            if any(part.pixels() is not None and part.pixels().any() for part in draft["parts"].values())
        )

    def closed(self):
        """Committed objects that are not open for refinement."""
        return sorted(set(self.session.objects) - set(self.history.now.drafts))

    @invariant()
    def agrees(self):
        if not hasattr(self, "history"):
            return
        self.history.settle()
        model, session = self.history.now, self.session
        labels = np.asarray(session.labels)
        np.testing.assert_array_equal(labels, model.labels)
        values, areas = np.unique(labels[labels > 0], return_counts=True)
        assert {label: known.area for label, known in session.objects.items()} == dict(
            zip(values.tolist(), areas.tolist(), strict=True)
        )
        for label, known in session.objects.items():
            assert known.verdict == model.verdicts.get(label)
            for part in known.parts:
                inside = labels[part.plane][part.extent.slices] == label
                assert np.count_nonzero(inside) == part.area == np.count_nonzero(labels[part.plane] == label)
                assert len(part.prompts) == model.prompts.get((label, part.plane), 0)
        assert session.can_undo == (self.history.at > 0)
        assert session.can_redo == (self.history.at < len(self.history.copies) - 1)
        self.agrees_on_drafts()
        self.seen.append((len(self.path.read_bytes().splitlines()) - 1, labels))

    def agrees_on_drafts(self):
        model, current = self.history.now, self.session.current
        assert (None if current is None else current.object_id) == model.current
        parked = [draft.object_id for draft in self.session.parked]
        assert parked == sorted(set(model.drafts) - {model.current})
        if current is not None:
            shown, part = self.shown(), self.part()
            assert (current.mask is None) == (shown is None)
            assert shown is None or np.array_equal(current.mask.to_array(), shown)
            assert len(current.prompts) == (0 if part is None else len(part.stack))
            wants_answer = part is not None and bool(part.stack) and shown is None
            assert (self.session.question() is not None) == wants_answer

    def teardown(self):
        if hasattr(self, "session"):
            self.session.close()
            self.replay_agrees_everywhere()
            self.folder.cleanup()

    def replay_agrees_everywhere(self):
        """The journal gives the labels that were there, at each of its prefixes."""
        content = read_journal(self.path)
        state, done = SessionState(SparseLabels(SHAPE, chunk_px=16)), 0
        for count, labels in self.seen:
            for event in content.events[done:count]:
                state.run(event, plan)
            done = count
            assert np.asarray(state.labels).tobytes() == labels.tobytes()
        assert done == len(content.events)
        assert state.objects == dict(self.session.objects)


SessionMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
TestSessionMachine = SessionMachine.TestCase
