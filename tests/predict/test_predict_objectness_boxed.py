"""Object proposals and masks from boxes, in one image in memory."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.errors import ConfigError, PromptError
from napari_sam.predict import (
    AutoMaskConfig,
    ObjectProposalConfig,
    embed_image,
    generate_masks,
    masks_from_boxes,
    predict_masks,
    proposal_score,
    propose_objects,
)

FEW = ObjectProposalConfig(points_per_side=6)
BOXES = np.array([[4, 6, 40, 30], [50.5, 20, 90, 66.25], [0, 0, 120, 90]])


def test_proposals_are_all_masks_but_near_duplicates_best_first(blob_model, clouds):
    image = clouds(90, 120)
    proposals = propose_objects(blob_model, image, FEW)
    published = AutoMaskConfig(
        prompts="grid",
        points_per_side=6,
        pred_iou_thresh=0,
        stability_score_thresh=0,
        box_nms_thresh=0.9,
        max_mask_fraction=1,
    )
    masks = generate_masks(blob_model, image, published)
    assert len(proposals) == len(masks) > 20
    assert {(m.box, m.area) for m in proposals} == {(m.box, m.area) for m in masks}
    scores = [(m.predicted_iou + m.stability_score) / 2 for m in proposals]
    assert scores == sorted(scores, reverse=True) == [proposal_score(m) for m in proposals]


def test_only_the_best_are_given(blob_model, clouds):
    image = clouds(90, 120)
    every, few = (
        propose_objects(blob_model, image, ObjectProposalConfig(points_per_side=6, proposals=n)) for n in (1000, 7)
    )
    assert [m.box for m in few] == [m.box for m in every[:7]]


def test_the_published_values():
    config = ObjectProposalConfig()
    assert (config.points_per_side, config.box_nms_thresh, config.proposals) == (64, 0.9, 1000)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"points_per_side": 0}, "points_per_side must be at least 1, got 0"),
        ({"proposals": 0}, "proposals must be at least 1, got 0"),
        ({"box_nms_thresh": -1}, r"box_nms_thresh must lie in \[0, 1\], got -1"),
    ],
)
def test_settings_are_checked(setting, told):
    with pytest.raises(ConfigError, match=told):
        ObjectProposalConfig(**setting)


def test_each_box_gives_the_mask_that_it_prompts(model, clouds):
    image = clouds(90, 120)
    masks = masks_from_boxes(model, image, BOXES)
    answers = predict_masks(model, embed_image(model, image), boxes_xyxy=BOXES, multimask=False)
    assert [m.prompt for m in masks] == ["box"] * 3
    for mask, pixels, rating in zip(masks, answers.masks[:, 0], answers.predicted_iou[:, 0], strict=True):
        assert (mask.to_array() == pixels).all()
        assert mask.predicted_iou == pytest.approx(float(rating))
        assert 0 <= mask.stability_score <= 1


def test_no_box_gives_no_mask_and_a_wrong_one_is_named(model, clouds):
    image = clouds(30, 40)
    assert masks_from_boxes(model, image, np.zeros((0, 4))) == []
    with pytest.raises(PromptError, match="box 1 is empty"):
        masks_from_boxes(model, image, [[0, 0, 5, 5], [9, 9, 9, 12]])
