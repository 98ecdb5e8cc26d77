"""The decoder that shares its work between prompts gives predict the same masks as the plain one, and makes fewer."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from napari_sam.geometry import mask_iou
from napari_sam.model import build_sam
from napari_sam.model.fast_decoder import PreparedImage
from napari_sam.model.loading import SamModel
from napari_sam.model.presets import NANO
from napari_sam.predict import AutoMaskConfig, embed_image, generate_masks, predict_masks
from napari_sam.predict.decoding import iter_answers
from napari_sam.predict.prompts import Prompts
from oracles.reference import randomise


class PlainOnly(nn.Module):
    """The decoder behind a wall: only its published call is left."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, *arguments, multimask_output):
        return self.decoder(*arguments, multimask_output=multimask_output)


@pytest.fixture(scope="module")
def nano():
    """The built-in model's network with random weights and a frame of 128 px, all ratings above 0 as thresholds are."""
    config = dataclasses.replace(NANO, image_size=128, has_instances=False)  # the decoder alone is compared
    sam = randomise(build_sam(config), seed=0)
    with torch.no_grad():
        sam.mask_decoder.iou_prediction_head.layers[-1].bias += 9
    return SamModel(sam, "nano", "0" * 64, torch.device("cpu"), config, {})


@pytest.fixture
def plainly(monkeypatch):
    """Function that calls `function(model, ...)` with the plain decoder."""

    def call(function, model, *arguments, **named):
        with monkeypatch.context() as patch:
            patch.setitem(model.sam._modules, "mask_decoder", PlainOnly(model.sam.mask_decoder))
            return function(model, *arguments, **named)

    return call


# Random networks make unstable masks of the whole image; without these filters all confident ones are kept.
UNFILTERED = {"stability_score_thresh": 0.0, "box_nms_thresh": 1.0}


def middle_rating(model, image, points_per_side: int) -> float:
    """The median predicted IoU of all masks of a grid of points."""
    answers = generate_masks(
        model, image, AutoMaskConfig(prompts="grid", points_per_side=points_per_side, pred_iou_thresh=0, **UNFILTERED)
    )
    return float(np.median([mask.predicted_iou for mask in answers]))


PROMPTS = {
    "one point": {"points_xy": [[90, 40]]},
    "five prompt sets": {"points_xy": np.linspace(10, 150, 20).reshape(5, 2, 2)},
    "points with padding": {"points_xy": [[[90, 40], [30, 30]]], "point_labels": [[1, -1]]},
    "boxes": {"boxes_xyxy": [[70, 20, 110, 60], [20, 90, 60, 130]]},
    "points and boxes": {"points_xy": [[[90, 40]]], "boxes_xyxy": [[70, 20, 110, 60]]},
}


@pytest.mark.parametrize("multimask", [True, False], ids=["multimask", "single mask"])
@pytest.mark.parametrize("kind", PROMPTS)
def test_prompts_are_answered_alike(model, clouds, plainly, kind, multimask):
    embedding = embed_image(model, clouds(160, 200))
    fast = predict_masks(model, embedding, **PROMPTS[kind], multimask=multimask)
    plain = plainly(predict_masks, model, embedding, **PROMPTS[kind], multimask=multimask)
    assert fast.low_res_logits.shape == plain.low_res_logits.shape
    np.testing.assert_allclose(fast.low_res_logits, plain.low_res_logits, rtol=0, atol=1e-4)
    np.testing.assert_allclose(fast.predicted_iou, plain.predicted_iou, rtol=0, atol=1e-4)


@pytest.mark.parametrize("multimask", [True, False], ids=["multimask", "single mask"])
def test_a_single_prompt_set_with_a_mask_is_answered_alike(model, clouds, plainly, multimask):
    embedding = embed_image(model, clouds(160, 200))
    logits = np.random.default_rng(0).normal(0, 5, embedding.low_res_size)
    prompts = {"points_xy": [[90, 40], [20, 30]], "point_labels": [1, 0], "mask_logits": logits, "multimask": multimask}
    fast = predict_masks(model, embedding, **prompts)
    plain = plainly(predict_masks, model, embedding, **prompts)
    np.testing.assert_allclose(fast.low_res_logits, plain.low_res_logits, rtol=0, atol=1e-4)
    np.testing.assert_allclose(fast.predicted_iou, plain.predicted_iou, rtol=0, atol=1e-4)


@pytest.mark.parametrize("prompts", ["grid", "proposals"])
@pytest.mark.parametrize("choice", ["all", "best"])
def test_automatic_masks_are_the_same(nano, clouds, plainly, prompts, choice):
    image = clouds(160, 200)
    config = AutoMaskConfig(
        prompts=prompts,
        points_per_side=3,
        proposal_thresh=0,
        max_proposals=9,
        pred_iou_thresh=middle_rating(nano, image, points_per_side=3),
        mask_choice=choice,
        **UNFILTERED,
    )
    fast, plain = generate_masks(nano, image, config), plainly(generate_masks, nano, image, config)
    assert 27 > len(fast) == len(plain) >= 4
    for ours, expected in zip(fast, plain, strict=True):
        assert ours.point_xy == expected.point_xy
        assert ours.predicted_iou == pytest.approx(expected.predicted_iou, abs=1e-4)
        assert mask_iou(ours, expected) > 0.999  # a pixel on the threshold may fall to either side


def test_masks_that_are_not_confident_are_never_made(nano, clouds, monkeypatch):
    image = clouds(160, 200)
    threshold = middle_rating(nano, image, points_per_side=3)
    made = []
    decode = PreparedImage.decode_masks

    def spy(self, attended, chosen):
        made.extend(attended.predicted_iou[chosen].tolist())
        return decode(self, attended, chosen)

    monkeypatch.setattr(PreparedImage, "decode_masks", spy)
    masks = generate_masks(
        nano, image, AutoMaskConfig(prompts="grid", points_per_side=3, pred_iou_thresh=threshold, **UNFILTERED)
    )
    assert sorted(made) == sorted(mask.predicted_iou for mask in masks)
    assert len(made) == 27 // 2
    assert min(made) > threshold


def test_several_prompt_sets_with_masks_share_nothing_and_are_answered_by_the_plain_decoder(model, clouds, monkeypatch):
    embedding = embed_image(model, clouds(64, 64))
    two = [[[9, 9]], [[30, 30]]]
    first = predict_masks(model, embedding, two)
    monkeypatch.setattr(PreparedImage, "attend", None)
    second = predict_masks(model, embedding, two, mask_logits=first.low_res_logits[:, 0])
    assert second.low_res_logits.shape == first.low_res_logits.shape
    with pytest.raises(TypeError):
        predict_masks(model, embedding, [[9, 9]])


def test_answers_are_the_same_with_any_number_of_points_at_once(nano, clouds):
    settings = {"prompts": "grid", "points_per_side": 3, "pred_iou_thresh": 0.0, **UNFILTERED}
    one, many = (
        generate_masks(nano, clouds(160, 200), AutoMaskConfig(**settings, points_per_batch=n)) for n in (1, 64)
    )
    assert [m.point_xy for m in one] == [m.point_xy for m in many]
    assert all(mask_iou(a, b) > 0.999 for a, b in zip(one, many, strict=True))


def test_an_unfinished_run_leaves_torch_as_it_was(nano, clouds):
    embedding = embed_image(nano, clouds(64, 64))
    prompts = Prompts(points_xy=np.full((9, 1, 2), 9.0), point_labels=np.ones((9, 1), dtype=np.int64))
    next(iter_answers(nano, embedding, prompts, multimask=True))
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
