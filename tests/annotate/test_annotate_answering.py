"""Questions about a plane: the object comes out whole, with as few embeddings as can be."""

from __future__ import annotations

import numpy as np
import pytest
from annotate_flood import FloodSegmenter, bright_image, flooded
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.annotate.answering import answer_boxes, answer_question
from napari_sam.annotate.embeddings import EmbeddingStore
from napari_sam.annotate.prompts import BoxPrompt, Click, MaskPrompt, Scribble
from napari_sam.annotate.questions import Question
from napari_sam.errors import PromptError, RunInterrupted
from napari_sam.geometry import Box, Mask

CELL = 8


def store_of(bright, window_px=16, **options):
    return EmbeddingStore(FloodSegmenter(window_px), bright_image(bright), **options)


def ask(store, *prompts, former=None, view_step=1, revision=1, plane=()):
    return answer_question(store, Question(revision, 1, plane, prompts, view_step, former))


@pytest.fixture
def squares():
    """64 x 64 pixels with a square of 4 x 4 in the middle of each 16 x 16."""
    bright = np.zeros((64, 64), bool)
    for y in range(6, 64, 16):
        for x in range(6, 64, 16):
            bright[y : y + 4, x : x + 4] = True
    return bright


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), density=st.floats(0.05, 0.9), view_step=st.sampled_from([1, 2, 4, 8]))
def test_an_object_of_any_size_comes_out_as_from_the_whole_image(seed, density, view_step):
    rng = np.random.default_rng(seed)
    # Multiples of the coarsest step, so that every reduction shows the object exactly.
    cells = rng.random((rng.integers(1, 13), rng.integers(1, 17))) < density
    cells.flat[rng.integers(cells.size)] = True
    bright = np.kron(cells, np.ones((CELL, CELL), bool))
    ys, xs = np.nonzero(bright)
    at = rng.integers(len(xs))
    answer = ask(store_of(bright), Click((float(xs[at]), float(ys[at]))), view_step=view_step)
    np.testing.assert_array_equal(answer.masks[0].to_array(), flooded(bright, (xs[at], ys[at])))


@settings(max_examples=40, deadline=None)
@given(x=st.integers(0, 59), y=st.integers(0, 59), size=st.integers(1, 4))
def test_an_object_that_fits_is_answered_after_one_embedding(x, y, size):
    bright = np.zeros((64, 64), bool)
    bright[y : y + size, x : x + size] = True
    store = store_of(bright, window_px=32)
    answer = ask(store, Click((float(x), float(y))))
    assert len(store.segmenter.embedded) == 1
    np.testing.assert_array_equal(answer.masks[0].to_array(), bright)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_large_object_whose_outline_fits_no_reduction_comes_out_whole_but_for_its_rim(seed):
    rng = np.random.default_rng(seed)
    y, x = np.indices((120, 150))
    radius, cy, cx = rng.uniform(15, 50), rng.uniform(50, 70), rng.uniform(50, 100)
    bright = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
    answer = ask(store_of(bright, window_px=32), Click((cx, cy)))
    found = answer.masks[0].to_array()
    rim = np.abs(np.hypot(y - cy, x - cx) - radius) < answer.window.step * 1.5
    np.testing.assert_array_equal(found[~rim], bright[~rim])


def test_a_second_prompt_in_the_region_needs_no_new_embedding(squares):
    store = store_of(squares)
    first = ask(store, Click((7, 7)))
    second = ask(store, Click((7, 7)), Click((9, 9)), former=first.only(0), revision=2)
    assert len(store.segmenter.embedded) == 1
    assert second.revision == 2
    assert second.window == first.window


def test_a_single_click_is_answered_by_three_masks_best_first(squares):
    answer = ask(store_of(squares), Click((7, 7)))
    assert answer.scores == (0.9, 0.8, 0.7)
    assert [mask.area for mask in answer.masks] == [16, 1, 16]
    assert [mask.predicted_iou for mask in answer.masks] == [0.9, 0.8, 0.7]
    assert (answer.logits[1] > 0).sum() == 1  # ordered with the masks
    assert answer.masks[0].prompt == "point"
    assert answer.masks[0].point_xy == (7, 7)


@pytest.mark.parametrize(
    "prompts",
    [
        (Click((7, 7)), Click((8, 8))),
        (BoxPrompt((5, 5, 11, 11)),),
        (Scribble(((6, 6), (9, 9))),),
        (Click((2, 2), positive=False),),
    ],
    ids=["two clicks", "a box", "a scribble", "a negative click"],
)
def test_a_clear_prompt_is_answered_by_one_mask(squares, prompts):
    store = store_of(squares)
    assert len(ask(store, *prompts).masks) == 1
    assert not store.segmenter.questions[0].multimask


def test_the_former_mask_is_shown_to_the_model_in_its_own_window_only(squares):
    store = store_of(squares)
    first = ask(store, Click((7, 7)))
    ask(store, Click((7, 7)), Click((8, 8)), former=first.only(1))
    np.testing.assert_array_equal(store.segmenter.questions[-1].mask_logits, first.logits[1])
    ask(store, Click((7, 7)), Click((55, 55)), former=first.only(1))
    assert store.segmenter.questions[-1].mask_logits is None


def test_a_former_answer_from_a_journal_has_no_logits_and_does_no_harm(squares):
    store = store_of(squares)
    first = ask(store, Click((7, 7))).only(0)
    from_journal = type(first)(1, first.masks, first.scores)
    answer = ask(store, Click((7, 7)), Click((8, 8)), former=from_journal)
    assert answer.masks[0].area == 16
    assert store.segmenter.questions[-1].mask_logits is None


def test_a_painted_mask_takes_the_place_of_the_former_answer(squares):
    store = store_of(squares)
    first = ask(store, Click((7, 7))).only(0)
    painted = np.zeros((64, 64), bool)
    painted[5:11, 5:11] = True
    second = ask(store, Click((7, 7)), MaskPrompt(Mask.from_array(painted)), former=first)
    asked = store.segmenter.questions[-1]
    assert asked.mask_logits is None
    np.testing.assert_array_equal(asked.mask.to_array(), painted[:16, :16])
    np.testing.assert_array_equal(asked.points_xy[1], [7, 7])
    assert painted[tuple(asked.points_xy[0, ::-1].astype(int))]  # a point inside, without which a mask says little
    ask(store, Click((7, 7)), MaskPrompt(Mask.from_array(painted)), Click((8, 8)), former=second)
    np.testing.assert_array_equal(store.segmenter.questions[-1].mask_logits, second.logits[0])


def test_a_painted_mask_too_thin_for_the_view_still_says_where(squares):
    store = store_of(squares)
    thin = np.zeros((64, 64), bool)
    thin[5, 6:9] = True
    ask(store, MaskPrompt(Mask.from_array(thin)), view_step=4)
    asked = store.segmenter.questions[-1]
    assert asked.mask is None
    np.testing.assert_allclose(asked.points_xy, [[1.125, 0.875]])


def test_a_negative_click_removes_a_region(squares):
    store = store_of(squares)
    answer = ask(store, Click((7, 7)), Click((23, 7)), Click((23, 8), positive=False))
    assert answer.masks[0].to_array()[7, 7]
    assert not answer.masks[0].to_array()[7, 23]


def test_a_negative_click_far_away_does_not_coarsen_the_window(squares):
    store = store_of(squares)
    answer = ask(store, Click((7, 7)), Click((60, 60), positive=False))
    assert answer.window.step == 1
    assert store.segmenter.questions[-1].point_labels.tolist() == [1]


def test_a_scribble_becomes_points_of_its_sign(squares):
    store = store_of(squares, window_px=64)
    ask(store, Scribble(((6.0, 7.0), (55.0, 7.0))), Scribble(((0.0, 0.0), (0.0, 3.0)), positive=False))
    asked = store.segmenter.questions[-1]
    assert asked.point_labels.tolist() == [1, 1, 1, 1, 0, 0]
    np.testing.assert_allclose(asked.points_xy[[0, 3]], [(6, 7), (55, 7)])


def test_a_box_says_how_far_its_object_reaches():
    store = store_of(np.ones((128, 128), bool))
    answer = ask(store, BoxPrompt((4, 4, 12, 12)))
    assert len(store.segmenter.embedded) == 1
    assert answer.window.step == 1


def test_zooming_in_looks_closer_once_the_object_fits(squares):
    store = store_of(squares)
    coarse = ask(store, Click((7, 7)), view_step=4).only(0)
    assert coarse.window.step == 4
    fine = ask(store, Click((7, 7)), Click((8, 8)), former=coarse, view_step=1)
    assert fine.window.step == 1
    np.testing.assert_array_equal(np.flatnonzero(fine.masks[0].to_array().any(axis=0)), [6, 7, 8, 9])


def test_an_object_too_large_for_a_close_look_keeps_its_window():
    store = store_of(np.pad(np.ones((96, 96), bool), 16))
    whole = ask(store, Click((64, 64))).only(0)
    count = len(store.segmenter.embedded)
    assert ask(store, Click((64, 64)), Click((70, 70)), former=whole).window == whole.window
    assert len(store.segmenter.embedded) == count


def test_a_question_is_withdrawn_between_windows():
    store = store_of(np.ones((128, 128), bool))
    looks = iter([False, False, True])
    question = Question(1, 1, (), (Click((64, 64)),))
    with pytest.raises(RunInterrupted, match="withdrawn"):
        answer_question(store, question, lambda: next(looks))
    assert len(store.segmenter.embedded) == 2


def test_a_coarser_look_that_shows_another_object_is_not_believed():
    store = store_of(np.ones((128, 128), bool))
    decode = store.segmenter.decode
    calls = []

    def forgetful(embedding, question):
        calls.append(question)
        return decode(embedding if len(calls) < 2 else np.zeros_like(embedding), question)

    store.segmenter.decode = forgetful
    answer = ask(store, Click((64, 64)))
    assert answer.window.step == 1
    assert answer.masks[0].area == 256


def test_no_prompt_is_no_question(squares):
    with pytest.raises(PromptError, match="no prompt to answer; click"):
        ask(store_of(squares))


def test_a_prompt_off_the_image_is_named(squares):
    with pytest.raises(PromptError, match=r"outside the image.*64 wide"):
        ask(store_of(squares), Click((7, 7)), Click((70, 7), positive=False))


def test_planes_of_a_stack_are_answered_from_their_own_pixels(squares):
    store = EmbeddingStore(FloodSegmenter(), bright_image(np.stack([squares, np.roll(squares, 8, axis=0)]), "ZYX"))
    assert ask(store, Click((7, 7)), plane=(0,)).masks[0].box == Box(6, 6, 10, 10)
    assert ask(store, Click((7, 15)), plane=(1,)).masks[0].box == Box(6, 14, 10, 18)


def test_a_batch_of_boxes_embeds_each_window_once(squares):
    store = store_of(squares, window_px=32)
    boxes = [(x, y, x + 6, y + 6) for y in range(5, 64, 16) for x in range(5, 64, 16)]
    answers = dict(answer_boxes(store, (), boxes))
    assert sorted(answers) == list(range(16))
    for index, (x, y, *_) in enumerate(boxes):
        expected = np.zeros_like(squares)
        expected[y + 1 : y + 5, x + 1 : x + 5] = True
        np.testing.assert_array_equal(answers[index].masks[0].to_array(), expected)
    assert len(store.segmenter.embedded) == len({answer.window for answer in answers.values()}) <= 9


def test_boxes_of_one_window_follow_each_other_so_that_little_memory_will_do(squares):
    store = store_of(squares, memory_bytes=0)
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 60, (40, 2))
    windows = [a.window for _, a in answer_boxes(store, (), np.concatenate([corners, corners + 4], axis=1))]
    assert len(store.segmenter.embedded) == len(set(windows))


@pytest.mark.parametrize(
    ("boxes", "message"),
    [([(5, 5, 5, 9)], "x0 < x1"), ([(1, 1, 5, 5), (70, 5, 80, 9)], "outside the image"), ([(1, 2, 3)], r"\(N, 4\)")],
    ids=["empty", "outside", "misshapen"],
)
def test_bad_boxes_are_refused_before_anything_is_answered(squares, boxes, message):
    store = store_of(squares)
    with pytest.raises(PromptError, match=message):
        answer_boxes(store, (), boxes)


def test_no_boxes_are_no_answers(squares):
    assert list(answer_boxes(store_of(squares), (), [])) == []
