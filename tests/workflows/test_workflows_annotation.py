"""Annotation with the built-in model: from a click on a huge image to a mask, over restarts."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.annotate.answering import answer_question
from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.prompts import BoxPrompt, Click, MaskPrompt
from napari_sam.annotate.questions import Question
from napari_sam.annotate.segmenter import WindowQuestion
from napari_sam.errors import JournalError
from napari_sam.geometry import Box, Mask, mask_iou, most_interior_point
from napari_sam.model import load_model
from napari_sam.predict import embed_image, predict_masks
from napari_sam.workflows.annotating.sessions import make_segmenter, open_session, open_store, painted_logits
from napari_sam.workflows.samples.images import nuclei


@pytest.fixture(scope="module")
def segmenter():
    return make_segmenter("nano", "cpu")


@pytest.fixture(scope="module")
def field():
    """A generated field of nuclei, and the mask of one well inside it."""
    sample = nuclei(seed=1)
    middle = sample.labels[180:330, 180:330]
    label = np.bincount(middle[middle > 0]).argmax()
    return sample.image, Mask.from_array(sample.labels == label)


def click_on(mask: Mask) -> Click:
    x, y = most_interior_point(mask.to_array())
    return Click((float(x), float(y)))


def test_a_click_on_a_nucleus_is_answered_and_a_second_one_makes_it_no_worse(segmenter, field, tmp_path):
    image, nucleus = field
    store = open_store(segmenter, AnnotatedImage.open(image), folder=tmp_path)
    first = answer_question(store, Question(1, 1, (), (click_on(nucleus),)))
    assert len(first.masks) == 3
    assert list(first.scores) == sorted(first.scores, reverse=True)
    one = mask_iou(first.masks[0], nucleus)
    assert one > 0.7
    outside = Click((float(nucleus.box.x0 - 4), float(nucleus.box.y0 - 4)), positive=False)
    second = answer_question(store, Question(2, 1, (), (click_on(nucleus), outside), 1, first.only(0)))
    assert mask_iou(second.masks[0], nucleus) > one - 0.05
    assert 0 < second.masks[0].stability_score <= 1
    box = answer_question(store, Question(3, 1, (), (BoxPrompt(tuple(nucleus.box_xyxy.tolist())),)))
    assert mask_iou(box.masks[0], nucleus) > 0.7


def test_the_window_s_answer_is_that_of_the_plain_prediction(segmenter, field, tmp_path):
    image, nucleus = field
    annotated = AnnotatedImage.open(image)
    store = open_store(segmenter, annotated, folder=tmp_path)
    click = click_on(nucleus)
    answer = answer_question(store, Question(1, 1, (), (click,)))
    pixels = annotated.plane().read(Box(0, 0, 512, 512))
    plain = predict_masks(segmenter.model, embed_image(segmenter.model, pixels), [click.xy], [1])
    best = int(plain.predicted_iou[0].argmax())
    assert answer.scores[0] == pytest.approx(float(plain.predicted_iou[0, best]))
    np.testing.assert_array_equal(answer.masks[0].to_array(), plain.masks[0, best])


def test_answers_after_a_restart_are_the_same(segmenter, field, tmp_path, monkeypatch):
    image, nucleus = field
    question = Question(1, 1, (), (click_on(nucleus),))
    before = answer_question(open_store(segmenter, AnnotatedImage.open(image), folder=tmp_path), question)
    again = make_segmenter(segmenter.model)
    monkeypatch.setattr(again, "embed", lambda pixels: pytest.fail("embedded again"))
    after = answer_question(open_store(again, AnnotatedImage.open(image), folder=tmp_path), question)
    assert after.scores == before.scores
    for a, b in zip(before.masks, after.masks, strict=True):
        np.testing.assert_array_equal(a.to_array(), b.to_array())


def test_embeddings_of_another_network_are_refused(segmenter):
    arrays = {"embedding": np.zeros((1, 256, 64, 64), np.float32), "image_size": np.array([64, 64])}
    with pytest.raises(ValueError, match=r"\(1, 256, 64, 64\) is of another network than nano"):
        segmenter.from_arrays(arrays)


@pytest.mark.parametrize("size", [(512, 512), (200, 512), (300, 170)], ids=["square", "wide", "small and high"])
def test_a_painted_mask_becomes_logits_that_mean_it(segmenter, size):
    embedding = segmenter.from_arrays(
        {"embedding": np.zeros((1, 96, 64, 64), np.float32), "image_size": np.array(size)}
    )
    y, x = np.indices(size)
    painted = (y - 0.4 * size[0]) ** 2 + (x - 0.6 * size[1]) ** 2 < (0.2 * min(size)) ** 2
    logits = painted_logits(Mask.from_array(painted), embedding)
    assert logits.shape == embedding.low_res_size
    prediction = predict_masks(segmenter.model, embedding, [[5, 5]])
    up = prediction.upsampler.window(logits, Box.of_size(size)) > 0
    assert (up & painted).sum() / (up | painted).sum() > 0.95


def test_a_painted_mask_is_made_precise(segmenter, field, tmp_path):
    image, nucleus = field
    store = open_store(segmenter, AnnotatedImage.open(image), folder=tmp_path)
    rough = np.zeros(image.shape[:2], bool)
    rough[nucleus.box.grown(2).slices] = True
    answer = answer_question(store, Question(1, 1, (), (MaskPrompt(Mask.from_array(rough)),)))
    assert mask_iou(answer.masks[0], nucleus) > max(0.75, mask_iou(Mask.from_array(rough), nucleus) + 0.05)


def test_a_question_without_any_point_or_box_needs_its_mask(segmenter):
    embedding = segmenter.from_arrays(
        {"embedding": np.zeros((1, 96, 64, 64), np.float32), "image_size": np.array([64, 64])}
    )
    mask = Mask.from_array(np.pad(np.ones((20, 20), bool), 22))
    said = segmenter.decode(embedding, WindowQuestion(np.empty((0, 2)), np.empty(0, np.int64), mask=mask))
    assert len(said.masks) == 1
    assert said.low_res_logits.shape == (1, 256, 256)


def test_a_model_that_is_loaded_already_is_taken_as_it_is(segmenter):
    model = load_model("nano", "cpu")
    made = make_segmenter(model)
    assert made.model is model
    assert (made.name, made.fingerprint, made.window_px) == ("nano", model.fingerprint, 512)


def test_a_session_goes_on_where_its_journal_ended(segmenter, tmp_path):
    image, journal = AnnotatedImage.open(np.zeros((40, 50), np.uint8)), tmp_path / "journal.jsonl"
    mask = Mask.from_array(np.pad(np.ones((8, 8), bool), ((10, 22), (20, 22))))
    with open_session(image, journal) as session:
        session.prefill([mask])
        labels = np.asarray(session.labels)
    assert labels.any()
    with open_session(image, journal, segmenter=segmenter) as session:
        np.testing.assert_array_equal(np.asarray(session.labels), labels)
        assert session.model == ("nano", segmenter.fingerprint)
    with pytest.raises(JournalError, match="another one"):
        open_session(AnnotatedImage.open(np.ones((40, 50), np.uint8)), journal)
