"""Journals: what is written comes back, what is torn is dropped, what is damaged is named."""

from __future__ import annotations

import json
import os
from itertools import pairwise

import numpy as np
import pytest
from annotate_scenes import FRAME, ask_and_answer, commit_new, image_of, new_session, rectangle
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.annotate import events as ev
from napari_sam.annotate.events import EVENTS, event_from_dict
from napari_sam.annotate.journal import JournalWriter, read_journal
from napari_sam.annotate.objects import PlaneMask
from napari_sam.annotate.patches import Patch
from napari_sam.annotate.prompts import BoxPrompt, Click, MaskPrompt, Scribble
from napari_sam.annotate.session import AnnotationSession, replay
from napari_sam.errors import JournalError, OutputError
from napari_sam.geometry import Box

MASK = rectangle(2, 1, 7, 5, predicted_iou=0.75, point_xy=(3.0, 2.5))
PATCH = Patch.between((1,), Box(3, 4, 6, 6), [[1, 1, 0], [0, 5, 5]], [[2, 2, 2], [0, 0, 0]])
EXAMPLES = [
    ev.Header(version=1, image={"shape": [3, 4]}, model="nano", fingerprint="ab", config={}),
    *(
        ev.PromptAdded(object_id=3, prompt=prompt, plane=(1, 2), view_step=4)
        for prompt in (
            Click((1.5, 0.1), False),
            Scribble(((0.0, 1.0), (2.0, 3.25))),
            BoxPrompt((0.5, 1, 4, 9)),
            MaskPrompt(MASK),
        )
    ),
    ev.PromptRemoved(),
    ev.Answered(revision=7, masks=(MASK, MASK), scores=(0.1 + 0.2, 0.5)),
    ev.MaskChosen(index=2),
    ev.Propagated(found=(PlaneMask((3,), MASK, 0.5, True),)),
    ev.NextObject(),
    ev.WentTo(object_id=4),
    ev.Committed(labels=(1, 5), policy="keep_objects"),
    ev.Discarded(),
    ev.Reopened(label=2),
    ev.Merged(labels=(1, 2), into=1),
    ev.Split(label=1, plane=(), masks=(MASK,), new_labels=(8,)),
    ev.Deleted(labels=(3,)),
    ev.Prefilled(found=(PlaneMask((), MASK),), labels=(9,), policy="keep_pixels"),
    ev.Reviewed(label=1, verdict="fixed", rating=None),
    ev.ModeChanged(mode="review"),
    ev.ModelChanged(name="vit_b", fingerprint="cd"),
    ev.Undone(time=12.5),
    ev.Redone(),
]


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: ev.kind_of(type(event)))
def test_an_event_comes_back_from_json_as_it_was(event):
    assert event_from_dict(json.loads(json.dumps(event.to_dict()))) == event


def test_a_painting_comes_back_from_json_as_it_was():
    back = event_from_dict(json.loads(json.dumps(ev.HandPainted(patches=(PATCH,)).to_dict()))).patches[0]
    assert (back.plane, back.box) == (PATCH.plane, PATCH.box)
    for name in ("starts", "lengths", "old", "new"):
        np.testing.assert_array_equal(getattr(back, name), getattr(PATCH, name))


def test_every_kind_of_event_is_among_the_examples():
    assert {type(event) for event in EXAMPLES} | {ev.HandPainted} == set(EVENTS.values())


@given(st.lists(st.integers(0, 3), min_size=12, max_size=12), st.lists(st.integers(0, 3), min_size=12, max_size=12))
@settings(max_examples=50, deadline=None)
def test_a_patch_is_the_difference_of_two_windows(before, after):
    old, new = np.reshape(before, (3, 4)), np.reshape(after, (3, 4))
    patch = Patch.between((), Box(10, 20, 14, 23), old, new)
    window = old.copy()
    for rows, columns, values in patch.iter_pixels():
        window[rows - 20, columns - 10] = values
    np.testing.assert_array_equal(window, new)
    changes = patch.area_changes()
    for label in (1, 2, 3):
        lost, gained = changes.get(label, (0, 0))
        assert gained == np.count_nonzero((new == label) & (old != label))
        assert lost == np.count_nonzero((old == label) & (new != label))


def small_session(path):
    """A journal of a header and eight lines, and the labels after it."""
    with new_session(path) as session:
        commit_new(session, rectangle(1, 1, 5, 5))
        commit_new(session, rectangle(3, 3, 9, 9))
        session.undo()
        session.redo()
        return np.asarray(session.labels)


def test_a_replay_gives_the_labels_of_the_session(tmp_path):
    labels = small_session(tmp_path / "a.jsonl")
    result = replay(tmp_path / "a.jsonl")
    assert np.asarray(result.labels).tobytes() == labels.tobytes()
    assert sorted(result.objects) == [1, 2]
    assert result.dropped == ""


def test_a_journal_cut_at_any_byte_reopens_with_at_most_the_last_act_missing(tmp_path):
    path = tmp_path / "a.jsonl"
    small_session(path)
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for start, end in pairwise(ends):
        for size in (start, start + 1, (start + end) // 2, end - 2, end - 1):
            path.write_bytes(whole[:size])
            content = read_journal(path)
            # A line that lacks only its line break is whole.
            expected = ends.index(start) + (size == end - 1)
            assert len(content.events) == expected
            assert bool(content.dropped) == (start < size < end - 1)


@pytest.mark.parametrize("cut", [0, 1, 20])
def test_a_torn_session_goes_on(tmp_path, cut):
    path = tmp_path / "a.jsonl"
    small_session(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - cut])
    with AnnotationSession.resume(path, image_of()) as session:
        assert bool(session.warning) == (cut > 1)
        assert sorted(session.objects) == ([1] if cut > 1 else [1, 2])
        commit_new(session, rectangle(10, 0, 12, 2))
        labels = np.asarray(session.labels)
    assert np.asarray(replay(path).labels).tobytes() == labels.tobytes()


def test_zeros_that_a_power_cut_left_at_the_end_are_dropped(tmp_path):
    path = tmp_path / "a.jsonl"
    small_session(path)
    path.write_bytes(path.read_bytes() + bytes(100))
    assert "does not end with a check sum" in read_journal(path).dropped


def test_damage_before_the_end_names_the_line(tmp_path):
    path = tmp_path / "a.jsonl"
    small_session(path)
    written = path.read_bytes().splitlines(keepends=True)
    for number in (1, 3):
        changed = written[number].replace(b'"time": ', b'"time": 1')
        path.write_bytes(b"".join([*written[:number], changed, *written[number + 1 :]]))
        with pytest.raises(JournalError, match=rf"a.jsonl is damaged in line {number + 1}: its check sum"):
            read_journal(path)


def test_missing_and_doubled_lines_are_named(tmp_path):
    path = tmp_path / "a.jsonl"
    small_session(path)
    written = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(written[:2] + written[3:]))
    with pytest.raises(JournalError, match="line 3: it is number 3, expected 2: lines are missing or come twice"):
        read_journal(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "no journal.*does not say what it is of"), (b"hello\n", "no journal.*first line is damaged")],
)
def test_a_file_that_is_no_journal_is_named(tmp_path, content, told):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(JournalError, match=told):
        read_journal(tmp_path / "a.txt")


def test_a_journal_that_is_not_there_is_named(tmp_path):
    with pytest.raises(JournalError, match=r"a.jsonl cannot be read: No such file"):
        read_journal(tmp_path / "a.jsonl")
    with pytest.raises(JournalError, match=r"there is no journal .*a.jsonl"):
        AnnotationSession.resume(tmp_path / "a.jsonl")


def header(**fields):
    return ev.Header(**{"version": 1, "image": {}, "model": "", "fingerprint": "", "config": {}, **fields})


def test_a_newer_format_and_an_unknown_event_are_named(tmp_path):
    JournalWriter.create(tmp_path / "a", header(version=2)).close()
    with pytest.raises(JournalError, match="has the format 2, this version reads up to 1; update"):
        read_journal(tmp_path / "a")
    with pytest.raises(JournalError, match=r"event 'danced' is not one of those.*prompt_added.*newer version"):
        event_from_dict({"event": "danced"})
    with pytest.raises(JournalError, match=r"event 'deleted' is damaged.*KeyError"):
        event_from_dict({"event": "deleted"})


def test_events_that_do_not_follow_from_each_other_are_named(tmp_path):
    with new_session(tmp_path / "a") as session:
        record = session.image.to_record()
    with JournalWriter.create(tmp_path / "b", header(image=record)) as writer:
        writer.append(ev.Deleted(labels=(3,)))
    with pytest.raises(JournalError, match=r"line 2 of the journal \(deleted\) does not follow.*no object 3"):
        replay(tmp_path / "b")


def test_two_sessions_cannot_write_one_journal(tmp_path):
    path = tmp_path / "a.jsonl"
    with new_session(path):
        with pytest.raises(JournalError, match=r"a.jsonl is open in another session"):
            AnnotationSession.resume(path, image_of())
        assert replay(path).objects == {}  # reading is free
    with pytest.raises(JournalError, match="already exists; resume it"):
        new_session(path)
    AnnotationSession.resume(path, image_of()).close()
    assert not (tmp_path / "a.jsonl.lock").exists()


def test_an_act_that_cannot_be_written_is_not_done(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    with new_session(path, sync_journal=True) as session:
        ask_and_answer(session, rectangle(0, 0, 3, 3))
        before = path.read_bytes()

        def refuse(number):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            with pytest.raises(OutputError, match=r"cannot write .*a.jsonl: No space left.*disk is full"):
                session.commit()
        assert path.read_bytes() == before
        assert session.objects == {}
        session.commit()
        labels = np.asarray(session.labels)
    assert labels.any()
    assert np.asarray(replay(path).labels).tobytes() == labels.tobytes()


def test_answers_do_not_wait_for_the_disk_but_acts_do(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", calls.append)
    with new_session(tmp_path / "a", sync_journal=True) as session:
        ask_and_answer(session, rectangle(0, 0, 3, 3))
    assert len(calls) == 2  # the header and the click


def test_a_session_in_memory_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with new_session(None) as session:
        commit_new(session, rectangle(0, 0, 3, 3, FRAME))
        assert session.journal is None
    assert not list(tmp_path.iterdir())
