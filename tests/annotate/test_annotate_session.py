"""Acts of a session, one by one, and what they say when they cannot be done."""

from __future__ import annotations

import numpy as np
import pytest
from annotate_scenes import FRAME, ask_and_answer, commit_new, drawn, image_of, new_session, picture, rectangle

from napari_sam.annotate.objects import PlaneMask
from napari_sam.annotate.prompts import Click, MaskPrompt
from napari_sam.annotate.questions import Answer
from napari_sam.annotate.session import AnnotationSession, SessionConfig
from napari_sam.errors import AnnotationError, ConfigError, JournalError, PromptError
from napari_sam.geometry import Mask

SMALL, LARGE = rectangle(2, 2, 4, 4), rectangle(1, 1, 8, 8)


def test_an_answer_to_prompts_that_moved_on_is_refused():
    with new_session() as session:
        first = session.add_prompt(Click((2, 2)))
        second = session.add_prompt(Click((3, 3), positive=False))
        assert not session.accept(Answer(first.revision, (SMALL,), (0.9,)))
        assert session.current.mask is None
        assert session.accept(Answer(second.revision, (LARGE,), (0.9,)))
        session.commit()
        assert not session.accept(Answer(second.revision, (SMALL,), (0.9,)))


def test_an_answer_is_taken_when_its_question_is_asked_again_by_an_undo():
    with new_session() as session:
        first = session.add_prompt(Click((2, 2)))
        session.add_prompt(Click((3, 3)))
        session.undo()
        assert session.question() == first
        assert session.accept(Answer(first.revision, (SMALL,), (0.9,)))
        session.redo()
        session.undo()
        assert session.question() is None
        assert session.current.mask.area == SMALL.area


def test_an_answer_finds_the_object_that_was_put_aside():
    with new_session() as session:
        first = session.add_prompt(Click((2, 2)))
        session.next_object()
        ask_and_answer(session, rectangle(9, 9, 12, 12))
        assert session.accept(Answer(first.revision, (SMALL,), (0.9,)))
        session.commit_all()
        assert {label: known.area for label, known in session.objects.items()} == {1: 4, 2: 9}
        session.undo()
        assert session.objects == {}


def test_an_answer_of_the_old_model_is_refused_and_its_mask_stays():
    with new_session() as session:
        ask_and_answer(session, SMALL)
        late = session.add_prompt(Click((3, 3)))
        session.set_model("vit_b", "x")
        assert not session.accept(Answer(late.revision, (LARGE,), (0.9,)))
        assert session.question() is not None
        session.remove_last_prompt()
        assert session.model == ("vit_b", "x")


def test_the_masks_of_an_ambiguous_click_are_gone_through():
    with new_session() as session:
        ask_and_answer(session, (SMALL, LARGE), scores=(0.5, 0.8))
        assert session.current.choice == 1
        session.cycle()
        assert session.current.mask.area == SMALL.area
        session.undo()
        assert session.current.mask.area == LARGE.area
        session.choose(0)
        session.commit()
        known = session.objects[1]
        assert (known.area, known.predicted_iou, known.mask_scores) == (4, 0.5, (0.5, 0.8))


def test_a_question_brings_the_mask_shown_before_with_its_logits():
    with new_session() as session:
        question = session.add_prompt(Click((2, 2)), view_step=4)
        assert (question.former, question.view_step) == (None, 4)
        logits = np.arange(8.0).reshape(2, 2, 2)
        session.accept(Answer(question.revision, (SMALL, LARGE), (0.5, 0.8), logits=logits))
        session.choose(0)
        former = session.add_prompt(Click((3, 3))).former
        assert [mask.area for mask in former.masks] == [SMALL.area]
        np.testing.assert_array_equal(former.logits, logits[:1])


def test_a_hover_question_changes_nothing_and_is_never_accepted():
    with new_session() as session:
        ask_and_answer(session, SMALL)
        question = session.hover_question(Click((5, 5)))
        assert (question.object_id, len(question.prompts), question.former.masks[0].area) == (1, 2, 4)
        assert not session.accept(Answer(question.revision, (LARGE,), (0.9,)))
        assert len(session.current.prompts) == 1


def test_numbers_are_stable_and_those_of_committed_objects_are_not_given_again():
    with new_session() as session:
        assert commit_new(session, SMALL) == 1
        session.undo()  # the object is open again, under its number
        assert session.current.object_id == 1
        session.discard()
        assert commit_new(session, LARGE) == 2


def test_one_that_loses_all_its_pixels_is_gone_and_an_undo_brings_it_back():
    with new_session() as session:
        commit_new(session, SMALL)
        change_labels = commit_new(session, LARGE)
        assert sorted(session.objects) == [change_labels]
        change = session.undo()
        assert (change.labels, change.what) == ((1, 2), "undo: commit 2")
        assert change.boxes == (((), LARGE.box),)
        assert session.objects[1].area == 4


@pytest.mark.parametrize("policy", ["keep_pixels", "keep_objects"])
def test_a_commit_of_which_nothing_is_left_is_refused(policy):
    with new_session() as session:
        commit_new(session, LARGE)
        ask_and_answer(session, SMALL)
        session.policy = policy
        with pytest.raises(AnnotationError, match=f"nothing of object 2 is left under the policy '{policy}'"):
            session.commit()
        assert session.current.object_id == 2
        assert session.undo_text == "prompt for 2"


def test_a_reopened_object_is_refined_with_its_prompts():
    with new_session(policy="keep_pixels") as session:
        commit_new(session, LARGE)
        session.review(1, "accepted")
        session.reopen(1)
        assert session.current.is_reopened
        assert len(session.current.prompts) == 1
        assert session.current.mask.area == LARGE.area
        question = session.add_prompt(Click((7, 7), positive=False))
        assert question.former.masks[0].area == LARGE.area
        session.accept(Answer(question.revision, (rectangle(0, 0, 3, 3),), (0.7,)))
        assert np.count_nonzero(np.asarray(session.labels)) == LARGE.area  # the old one stays until the commit
        session.commit()
        known = session.objects[1]
        assert (known.area, len(known.prompts), known.verdict) == (9, 2, None)
        assert np.count_nonzero(np.asarray(session.labels)) == 9


def test_a_reopened_object_that_is_discarded_stays_as_it_was():
    with new_session() as session:
        commit_new(session, LARGE)
        before = dict(session.objects)
        session.reopen(1)
        session.add_prompt(Click((3, 3)))
        session.discard()
        assert dict(session.objects) == before
        assert session.current is None


def test_what_is_painted_into_the_labels_is_recorded_by_the_next_act(tmp_path):
    path = tmp_path / "a"
    with new_session(path) as session:
        session.labels[2:4, 2:6] = 5
        assert session.can_undo
        ask_and_answer(session, SMALL)
        assert session.current.object_id == 6
        assert (session.objects[5].origin, session.objects[5].area) == ("painted", 8)
        session.undo()
        session.undo()
        assert not np.asarray(session.labels).any()
        session.redo()
        session.labels[0, 0] = 7  # recorded when the session closes
        labels = np.asarray(session.labels)
    with AnnotationSession.resume(path, image_of()) as session:
        np.testing.assert_array_equal(np.asarray(session.labels), labels)


def test_an_object_in_pieces_is_split_into_them():
    with new_session() as session:
        session.labels[...] = np.pad(picture("11...\n11..1\n....1"), ((0, 9), (0, 11)))
        session.record_painting()
        session.split(1)
        assert drawn(session.labels[:3, :5]) == "11...\n11..2\n....2"
        session.undo()
        session.split(1, [rectangle(0, 0, 1, 1), rectangle(0, 0, 2, 1)])
        # Number 2 was an object before, and is not given again.
        assert drawn(session.labels[:3, :5]) == "34...\n11..1\n....1"
        with pytest.raises(AnnotationError, match="object 3 is in one piece; draw a mask"):
            session.split(3)


def test_a_propagated_object_is_corrected_in_a_plane_and_committed_in_all(tmp_path):
    with new_session(tmp_path / "a", (4, *FRAME), "ZYX") as session:
        ask_and_answer(session, SMALL, (1,))
        session.propagated([PlaneMask((0,), LARGE, 0.6, True), PlaneMask((2,), LARGE, 0.8)])
        assert session.current.plane == (1,)
        assert {plane: (m.mask.area, m.unsure) for plane, m in session.current.planes.items()} == {
            (0,): (49, True),
            (1,): (4, False),
            (2,): (49, False),
        }
        question = session.add_prompt(Click((3, 3)), (2,))
        assert question.former.masks[0].area == 49
        session.accept(Answer(question.revision, (SMALL,), (0.9,)))
        session.propagated([PlaneMask((2,), LARGE), PlaneMask((3,), SMALL)])  # plane 2 has a prompt and keeps its mask
        session.commit()
        assert [part.area for part in session.objects[1].parts] == [49, 4, 4, 4]
        session.reopen(1)
        assert len(session.current.planes) == 4
        labels = np.asarray(session.labels)
    with AnnotationSession.resume(tmp_path / "a", image_of((4, *FRAME), "ZYX")) as session:
        assert np.asarray(session.labels).tobytes() == labels.tobytes()
        assert len(session.current.planes) == 4


def test_prefilled_objects_give_way_to_those_that_are_there():
    with new_session() as session:
        commit_new(session, SMALL)
        session.prefill([LARGE, SMALL, rectangle(10, 8, 12, 10, predicted_iou=0.7)])
        assert {label: known.area for label, known in session.objects.items()} == {1: 4, 2: 45, 4: 4}
        assert (session.objects[4].origin, session.objects[4].predicted_iou) == ("prefilled", 0.7)
        session.undo()
        assert sorted(session.objects) == [1]


def test_modes_and_policies_are_kept_and_checked(tmp_path):
    with new_session(tmp_path / "a") as session:
        session.set_mode("review")
        with pytest.raises(ConfigError, match="mode must be one of assisted, semi-automatic, automatic, review"):
            session.set_mode("dream")
        with pytest.raises(ConfigError, match="policy must be one of"):
            session.policy = "all"
    with AnnotationSession.resume(tmp_path / "a", image_of()) as session:
        assert session.mode == "review"
        assert not session.can_undo
    with pytest.raises(ConfigError, match="max_memory_mb must be at least 1, got 0"):
        SessionConfig(max_memory_mb=0)


def test_a_journal_of_another_image_is_refused(tmp_path):
    new_session(tmp_path / "a").close()
    with pytest.raises(JournalError, match=r"is of the image this numpy array.*shape: \[12, 16\] there, \[5, 5\] here"):
        AnnotationSession.resume(tmp_path / "a", image_of((5, 5)))
    with pytest.raises(JournalError, match="was in memory and not in a file; open it first"):
        AnnotationSession.resume(tmp_path / "a")
    AnnotationSession.resume(tmp_path / "a", image_of()).close()  # the lock was let go each time


REFUSED = {
    "commit without an object": (lambda s: s.commit(), "nothing to commit; click on an object"),
    "commit all without a mask": (lambda s: s.commit_all(), "no object has a mask yet"),
    "choose without an answer": (lambda s: (s.add_prompt(Click((1, 1))), s.choose(0)), "no mask to choose from yet"),
    "cycle without an answer": (lambda s: s.cycle(), "no mask to choose from yet"),
    "commit without an answer": (lambda s: (s.add_prompt(Click((1, 1))), s.commit()), "object 2 has no mask yet"),
    "a mask that is not there": (
        lambda s: (ask_and_answer(s, SMALL), s.choose(1)),
        "mask 1 does not exist: there are 1",
    ),
    "discard nothing": (lambda s: s.discard(), "no object is being prompted; click on one"),
    "take a prompt away from nothing": (lambda s: s.remove_last_prompt(), "no object is being prompted"),
    "go to nobody": (lambda s: s.go_to(9), "no object 9 is being prompted; there are: none"),
    "delete nobody": (lambda s: s.delete([7]), "there is no object 7; there are 1, and the highest number is 1"),
    "merge one": (lambda s: s.merge([1]), "merging needs two or more objects, got 1"),
    "merge one that is open": (lambda s: (s.reopen(1), s.delete([1])), "object 1 is being refined; commit or discard"),
    "reopen twice": (lambda s: (s.reopen(1), s.reopen(1)), "object 1 is open already"),
    "an unknown verdict": (lambda s: s.review(1, "nice"), "accepted, rejected, fixed, got 'nice'"),
    "a rating of 11": (lambda s: s.review(1, "accepted", 11), "1 to 10, got 11"),
    "undo the beginning": (lambda s: [s.undo() for _ in range(4)], "nothing to undo: this is how the session began"),
    "redo nothing": (lambda s: s.redo(), "nothing to do again"),
    "split elsewhere": (lambda s: s.split(1, [SMALL], (1,)), r"object 1 is not in plane \(1,\); it is in \(\(\),\)"),
    "a plane that is not there": (lambda s: s.add_prompt(Click((1, 1)), (0,)), r"plane \(0,\) is not in this image"),
    "a prompt outside": (lambda s: s.add_prompt(Click((16, 1))), "outside the image.*16 wide and 12 high"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_named_and_changes_nothing(case, tmp_path):
    act, told = REFUSED[case]
    with new_session(tmp_path / "a") as session:
        commit_new(session, SMALL)
        before = np.asarray(session.labels)
        with pytest.raises((AnnotationError, PromptError), match=told):
            act(session)
        if case != "undo the beginning":
            np.testing.assert_array_equal(np.asarray(session.labels), before)


def test_answers_and_mask_prompts_of_another_frame_are_named():
    other = rectangle(0, 0, 2, 2, (5, 5))
    with new_session() as session:
        question = session.add_prompt(Click((1, 1)))
        with pytest.raises(AnnotationError, match=r"frame \(12, 16\).*got \(5, 5\)"):
            session.accept(Answer(question.revision, (other,), (0.9,)))
        with pytest.raises(PromptError, match=r"frame \(12, 16\).*got \(5, 5\)"):
            session.add_prompt(MaskPrompt(other))
    with pytest.raises(AnnotationError, match="at least one mask and one finite score"):
        Answer(1, (SMALL,), (float("nan"),))


def test_an_empty_mask_can_be_answered_but_not_committed():
    with new_session() as session:
        ask_and_answer(session, Mask.from_array(np.zeros(FRAME)))
        with pytest.raises(AnnotationError, match="object 1 has no mask yet"):
            session.commit()
