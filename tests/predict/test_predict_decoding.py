from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from napari_sam.errors import PromptError
from napari_sam.predict import OutOfMemoryWarning, embed_image, predict_masks


@pytest.fixture
def embedding(blob_model, clouds):
    return embed_image(blob_model, clouds(96, 160))


def test_a_click_gives_three_masks_around_it(blob_model, embedding):
    prediction = predict_masks(blob_model, embedding, [[90, 50]])
    assert prediction.masks.shape == (1, 3, 96, 160)
    assert prediction.masks.dtype == bool
    assert prediction.predicted_iou.shape == (1, 3)
    assert prediction.low_res_logits.shape == (1, 3, 32, 32)
    assert prediction.masks[0, :2, 50, 90].all()
    assert not prediction.masks[0, :, 50, 10].any()


def test_one_mask_on_request(blob_model, embedding):
    assert predict_masks(blob_model, embedding, [[90, 50]], multimask=False).masks.shape == (1, 1, 96, 160)


def test_a_batch_answers_like_its_prompts_one_by_one(model, clouds):
    embedding = embed_image(model, clouds(96, 160))
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 95, size=(70, 2, 2))  # more than one batch
    labels = np.stack([np.ones(70), rng.integers(-1, 2, 70)], axis=1)
    together = predict_masks(model, embedding, points, labels)
    for i in (0, 63, 64, 69):
        alone = predict_masks(model, embedding, points[i], labels[i])
        np.testing.assert_allclose(together.low_res_logits[i], alone.low_res_logits[0], atol=1e-4)
        np.testing.assert_allclose(together.predicted_iou[i], alone.predicted_iou[0], atol=1e-4)


def test_no_boxes_get_no_masks(model, clouds):
    prediction = predict_masks(model, embed_image(model, clouds(20, 30)), boxes_xyxy=np.empty((0, 4)))
    assert prediction.masks.shape == (0, 3, 20, 30)
    assert prediction.low_res_logits.shape == (0, 3, 32, 32)


def test_logits_of_a_prediction_prompt_the_next(model, clouds):
    embedding = embed_image(model, clouds(64, 64))
    first = predict_masks(model, embedding, [[9, 9]])
    second = predict_masks(model, embedding, [[9, 9]], mask_logits=first.low_res_logits[:, 0], multimask=False)
    assert second.masks.shape == (1, 1, 64, 64)
    assert not np.allclose(second.low_res_logits, first.low_res_logits[:, :1])


def test_masks_are_computed_once(blob_model, embedding):
    prediction = predict_masks(blob_model, embedding, [[90, 50]])
    assert prediction.masks is prediction.masks


def test_the_models_threshold_decides(blob_model, embedding):
    usual = predict_masks(blob_model, embedding, [[90, 50]])
    strict = dataclasses.replace(usual, mask_threshold=1.0)
    assert (strict.masks <= usual.masks).all()
    assert 0 < strict.masks.sum() < usual.masks.sum()


def test_a_wrong_prompt_is_refused_with_the_images_size(blob_model, embedding):
    with pytest.raises(PromptError, match=r"\(160, 5\) lies outside the image: x must be in \[-0.5, 159.5\]"):
        predict_masks(blob_model, embedding, [[160, 5]])


def test_a_mask_prompt_must_have_the_decoders_size(blob_model, embedding):
    with pytest.raises(PromptError, match=r"\(P, 32, 32\).*got \(96, 160\)"):
        predict_masks(blob_model, embedding, mask_logits=np.zeros((96, 160)))


def test_a_full_memory_does_not_change_the_answer(blob_model, embedding):
    points = np.random.default_rng(0).uniform(0, 90, size=(50, 1, 2))
    expected = predict_masks(blob_model, embedding, points)
    decode = blob_model.sam.mask_decoder.forward

    def small(*args, **kwargs):
        if len(args[2]) > 30:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return decode(*args, **kwargs)

    blob_model.sam.mask_decoder.forward = small
    with pytest.warns(OutOfMemoryWarning, match="going on with 25"):
        actual = predict_masks(blob_model, embedding, points)
    np.testing.assert_allclose(actual.low_res_logits, expected.low_res_logits, atol=1e-5)
