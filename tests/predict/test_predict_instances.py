"""Regions of the instance head: where they are, which prompts ask for them, and how they stand beside the decoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from napari_sam.errors import ConfigError
from napari_sam.geometry import ModelFrame
from napari_sam.model.instance_head import SHAPE_FEATURES, InstanceHead
from napari_sam.predict import AutoMaskConfig, embed_image, generate_masks, predict_masks
from napari_sam.predict.decoding import Answers, with_regions
from napari_sam.predict.instances import FAR, InstanceMap, RegionAnswer, find_instances
from napari_sam.predict.prompts import check_prompts
from napari_sam.predict.regions import region_features

FRAME = ModelFrame((128, 128), 128)
LOW = (32, 32)


class PaintedInstances(nn.Module):
    """An instance head that sees what it was told: discs of (row, column, radius) in its 32 x 32 map."""

    def __init__(self, *discs: tuple[int, int, int], rating: float = 0.9) -> None:
        super().__init__()
        self.discs, self.rating = discs, rating

    def features(self, embedding: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, 1, 4 * embedding.shape[2], 4 * embedding.shape[3])

    def out(self, features: torch.Tensor) -> torch.Tensor:
        y, x = np.indices(features.shape[2:])
        depth = np.max([r - np.hypot(y - cy, x - cx) for cy, cx, r in self.discs], axis=0)
        maps = np.stack([np.clip(2 * depth, -6, 6), -4 * np.ones_like(depth)])
        return torch.from_numpy(maps.astype(np.float32))[None]

    def rate(self, features: torch.Tensor) -> torch.Tensor:
        return torch.full((len(features),), self.rating)


def heat_at(*cells: tuple[int, int]) -> torch.Tensor:
    heat = torch.full((16, 16), -6.0)
    for row, column in cells:
        heat[row, column] = 3.0
    return heat


def two_discs(rating: float = 0.9) -> InstanceMap:
    head = PaintedInstances((8, 8, 5), (22, 22, 6), rating=rating)
    return find_instances(head, torch.zeros(1, 4, 8, 8), heat_at((4, 4), (11, 11)), FRAME)


def disc(cy: int, cx: int, radius: int) -> np.ndarray:
    y, x = np.indices(LOW)
    return np.hypot(y - cy, x - cx) < radius


def prompts(**given: object):
    return check_prompts((128, 128), LOW, **given)


def test_each_centre_grows_to_the_region_it_lies_in():
    found = two_discs()
    assert len(found) == 2
    by_place = {int(found.labels[8, 8]): disc(8, 8, 5), int(found.labels[22, 22]): disc(22, 22, 6)}
    for label, expected in by_place.items():
        np.testing.assert_array_equal(found.labels == label, expected)
        np.testing.assert_array_equal(found.logits_of((label,)) > 0, expected)


def test_foreground_without_a_centre_is_no_region():
    head = PaintedInstances((8, 8, 5), (22, 22, 6))
    found = find_instances(head, torch.zeros(1, 4, 8, 8), heat_at((4, 4)), FRAME)
    np.testing.assert_array_equal(found.labels > 0, disc(8, 8, 5))


def test_an_image_without_centres_has_no_regions_and_answers_nothing():
    found = find_instances(PaintedInstances((8, 8, 5)), torch.zeros(1, 4, 8, 8), heat_at(), FRAME)
    assert len(found) == 0
    assert found.labels_for(prompts(points_xy=[[32, 32]]), FRAME) == [()]


def test_there_are_no_regions_in_the_padding():
    wide = ModelFrame((64, 128), 128)
    head = PaintedInstances((8, 8, 5), (22, 22, 6))
    found = find_instances(head, torch.zeros(1, 4, 8, 8), heat_at((4, 4), (11, 11)), wide)
    assert found.labels.shape == LOW
    assert not found.labels[16:].any()
    assert len(found) == 1


def test_touching_regions_part_between_their_centres():
    head = PaintedInstances((16, 11, 6), (16, 21, 6))
    found = find_instances(head, torch.zeros(1, 4, 8, 8), heat_at((8, 5), (8, 10)), FRAME)
    left, right = int(found.labels[16, 11]), int(found.labels[16, 21])
    assert left != right
    assert min(left, right) > 0
    assert (found.logits_of((left,))[found.labels == right] < 0).all()


def test_far_from_a_region_its_logits_are_low_whatever_else_is_there():
    found = two_discs()
    logits = found.logits_of((int(found.labels[8, 8]),))
    assert logits[22, 22] == FAR
    assert logits[8, 8] > 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"points_xy": [[32, 32]]}, "first"),
        ({"points_xy": [[88, 88]]}, "second"),
        ({"points_xy": [[60, 60]]}, None),
        ({"points_xy": [[32, 32], [36, 32]]}, "first"),
        ({"points_xy": [[32, 32], [88, 88]]}, "both"),
        ({"points_xy": [[32, 32], [88, 88], [32, 36]], "point_labels": [1, 1, 0]}, None),
        ({"points_xy": [[32, 32], [60, 60]]}, None),
        ({"points_xy": [[32, 32], [60, 60]], "point_labels": [1, 0]}, "first"),
        ({"points_xy": [[32, 32], [36, 32]], "point_labels": [1, 0]}, None),
        ({"points_xy": [[60, 60]], "point_labels": [0]}, None),
        ({"points_xy": [[32, 32], [88, 88]], "point_labels": [1, -1]}, "first"),
        ({"boxes_xyxy": [[14, 14, 52, 52]]}, "first"),
        ({"boxes_xyxy": [[12, 12, 114, 114]]}, "both"),
        ({"boxes_xyxy": [[0, 0, 60, 127]]}, None),
        ({"boxes_xyxy": [[30, 30, 36, 36]]}, None),
        ({"boxes_xyxy": [[14, 14, 52, 52]], "points_xy": [[32, 32]], "point_labels": [1]}, "first"),
        ({"boxes_xyxy": [[14, 14, 52, 52]], "points_xy": [[32, 32]], "point_labels": [0]}, None),
        ({"mask_logits": np.zeros(LOW)}, None),
    ],
    ids=[
        "a point in the first",
        "a point in the second",
        "a point on background",
        "two points in one",
        "two points in two",
        "two points in two, and a negative one in the first",
        "two points, one on background",
        "a negative point outside",
        "a negative point inside",
        "only a negative point",
        "padding says nothing",
        "a box around the first",
        "a box around both",
        "a box that one hardly fills",
        "a box of a small part",
        "a box and a point",
        "a box, but a negative point inside",
        "only a mask",
    ],
)
def test_a_region_answers_prompts_that_it_agrees_with(given, expected):
    found = two_discs()
    first, second = int(found.labels[8, 8]), int(found.labels[22, 22])
    names = {(): None, (first,): "first", (second,): "second", tuple(sorted((first, second))): "both"}
    assert [names[labels] for labels in found.labels_for(prompts(**given), FRAME)] == [expected]


def test_regions_together_are_one_mask_rated_by_their_mean_by_area():
    found = two_discs()
    both = (int(found.labels[8, 8]), int(found.labels[22, 22]))
    np.testing.assert_array_equal(found.logits_of(both) > 0, disc(8, 8, 5) | disc(22, 22, 6))
    found.ratings[list(both)] = 0.5, 0.8
    small, large = np.count_nonzero(disc(8, 8, 5)), np.count_nonzero(disc(22, 22, 6))
    assert found.rating_of(both) == pytest.approx((0.5 * small + 0.8 * large) / (small + large))
    assert found.rating_of(()) == 0


def test_a_batch_of_prompts_is_answered_one_by_one():
    found = two_discs()
    asked = prompts(points_xy=[[[32, 32]], [[60, 60]], [[88, 88]]])
    labels = found.labels_for(asked, FRAME)
    assert labels == [(found.labels[8, 8],), (), (found.labels[22, 22],)]


@pytest.mark.parametrize(
    ("given", "in_it", "not_in_it"),
    [
        ({"points_xy": [[32, 32], [24, 32]], "point_labels": [1, 0]}, [(8, 8)], [(6, 8)]),
        ({"points_xy": [[32, 32], [32, 56]]}, [(8, 8), (8, 14)], []),
        ({"points_xy": [[32, 32], [88, 88], [88, 80]], "point_labels": [1, 1, 0]}, [(8, 8), (22, 22)], [(22, 20)]),
    ],
    ids=["a negative point inside", "a positive point outside", "two regions, one of them cut"],
)
def test_a_region_is_mended_by_the_points_it_does_not_agree_with(given, in_it, not_in_it):
    found = two_discs()
    (answer,) = found.answers_for(prompts(**given), FRAME)
    logits = found.logits_for(answer)
    assert all(logits[y, x] > 0 for x, y in in_it)
    assert all(logits[y, x] < 0 for x, y in not_in_it)
    assert found.rating_of(answer.labels) == pytest.approx(0.9)


def test_regions_that_agree_are_not_mended_and_without_one_under_a_point_there_is_no_answer():
    found = two_discs()
    asked = prompts(points_xy=[[[32, 32]], [[60, 60]]])
    agreed, none = found.answers_for(asked, FRAME)
    assert (agreed.labels, agreed.inside) == (
        (found.labels[8, 8],),
        None,
    )
    assert none is None


def decoder_says(ratings: list[list[float]]) -> Answers:
    """Answers whose mask m of set p is filled with the number 10 p + m."""
    rating = torch.tensor(ratings)
    number = 10.0 * torch.arange(rating.shape[0])[:, None] + torch.arange(rating.shape[1])
    filled = number[..., None, None].expand(*rating.shape, *LOW)
    return Answers(slice(0, len(ratings)), rating, filled.__getitem__)


@pytest.mark.parametrize("chosen", [[[1, 1, 1], [1, 1, 1]], [[0, 1, 0], [1, 0, 1]], [[0, 0, 1], [0, 0, 0]]])
def test_of_three_masks_the_one_rated_lowest_gives_way_to_the_region(chosen):
    found = two_discs(rating=0.3)
    first = int(found.labels[8, 8])
    answers = with_regions(decoder_says([[0.8, 0.1, 0.7], [0.5, 0.6, 0.4]]), found, [RegionAnswer((first,)), None])
    np.testing.assert_allclose(answers.predicted_iou, [[0.8, 0.3, 0.7], [0.5, 0.6, 0.4]])
    wanted = torch.tensor(chosen, dtype=torch.bool)
    logits = answers.logits_of(wanted)
    for row, (p, m) in zip(logits, torch.nonzero(wanted).tolist(), strict=True):
        expected = torch.from_numpy(found.logits_of((first,))) if (p, m) == (0, 1) else torch.full(LOW, 10.0 * p + m)
        torch.testing.assert_close(row, expected)


@pytest.mark.parametrize(
    ("rating", "expected"),
    [(0.9, 0.9), (0.45, 0.45), (0.3, 0.5), (0.39, 0.5)],
    ids=["better", "reliable", "worse", "hardly worse"],
)
def test_a_single_mask_gives_way_to_a_region_that_is_reliable_or_better(rating, expected):
    found = two_discs(rating=rating)
    answers = with_regions(decoder_says([[0.5]]), found, [RegionAnswer((int(found.labels[8, 8]),))])
    np.testing.assert_allclose(answers.predicted_iou[0], [expected])


def test_a_reliable_region_comes_first_and_the_others_keep_their_order():
    found = two_discs(rating=0.6)
    answers = with_regions(decoder_says([[0.95, 0.2, 0.5]]), found, [RegionAnswer((int(found.labels[8, 8]),))])
    first, replaced, last = answers.predicted_iou[0].tolist()
    assert replaced == pytest.approx(0.6)
    assert last == pytest.approx(0.5)
    assert last < first < replaced


def test_region_features_of_two_rectangles_are_those_counted_by_hand():
    regions = np.zeros((6, 8), dtype=np.int32)
    regions[1:4, 1:4], regions[1:4, 4:6] = 1, 2  # 3 x 3 beside 3 x 2
    probabilities = np.empty((2, 6, 8))
    probabilities[0] = np.where(regions > 0, 0.8, 0.1)
    probabilities[1] = 0.25
    probabilities[1, 2, 2] = 0.05  # the only inner pixel
    logits = np.log(probabilities / (1 - probabilities)).astype(np.float32)
    features = torch.from_numpy(np.stack([regions, 2.0 * (regions == 1)]).astype(np.float32))
    first, second = region_features(regions, features, logits, np.array([0.7, 0.6], dtype=np.float32)).numpy()
    logit, middle = np.log(4) / 8, np.median([9, 6])
    expected = [1, 2, 0.7, logit, 0.8, 0.25, 0.05, np.log(9) / 8, np.log(9 / middle) / 4, 3 / 8]
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    expected = [2, 0, 0.6, logit, 0.8, 0.25, 0.0, np.log(6) / 8, np.log(6 / middle) / 4, 3 / 6]
    np.testing.assert_allclose(second, expected, rtol=1e-5)
    assert len(first) == 2 + SHAPE_FEATURES


def with_instances(proposing_model, rating: float):
    proposing_model.sam.instance_head = PaintedInstances((9, 9, 5), (9, 25, 5), rating=rating)
    return proposing_model


@pytest.mark.parametrize("multimask", [True, False])
def test_masks_end_where_the_box_ends(proposing_model, clouds, multimask):
    model = with_instances(proposing_model, rating=0.7)
    embedding = embed_image(model, clouds(128, 128))
    boxes = [[20, 20, 44, 60], [30, 30, 100, 70]]
    cut = predict_masks(model, embedding, boxes_xyxy=boxes, multimask=multimask)
    free = predict_masks(model, embedding, points_xy=[[[36, 36]]], multimask=multimask)
    assert cut.masks.any()
    for (x0, y0, x1, y1), masks in zip(boxes, cut.masks, strict=True):  # to a low-resolution pixel, 4 px here
        assert not masks[:, :, : x0 - 4].any()
        assert not masks[:, :, x1 + 4 :].any()
        assert not masks[:, : y0 - 4].any()
        assert not masks[:, y1 + 4 :].any()
    assert free.masks[0].any(axis=0)[:, 44:].any()  # without a box nothing is cut


def test_published_networks_answer_boxes_as_published(model, clouds):
    embedding = embed_image(model, clouds(128, 128))
    prediction = predict_masks(model, embedding, boxes_xyxy=[40, 40, 60, 60])
    assert prediction.masks[..., :30].any() or prediction.masks[..., 70:].any()


def test_a_click_in_a_region_is_answered_with_it(proposing_model, clouds):
    model = with_instances(proposing_model, rating=5.0)
    embedding = embed_image(model, clouds(128, 128))
    prediction = predict_masks(model, embedding, points_xy=[[36, 36]])
    best = int(prediction.predicted_iou[0].argmax())
    assert prediction.predicted_iou[0, best] == 5.0
    np.testing.assert_array_equal(prediction.low_res_logits[0, best] > 0, disc(9, 9, 5))
    assert prediction.low_res_logits.shape[1] == 3


@pytest.mark.parametrize("prompts", ["instances", "auto"])
def test_automatic_masks_are_the_regions_without_asking_the_decoder(proposing_model, clouds, prompts, monkeypatch):
    model = with_instances(proposing_model, rating=0.7)
    monkeypatch.setattr(model.sam, "mask_decoder", None)
    config = AutoMaskConfig(prompts=prompts, pred_iou_thresh=0.5, stability_score_thresh=0.0)
    masks = generate_masks(model, clouds(128, 128), config)
    assert len(masks) == 2
    assert {m.prompt for m in masks} == {"instance"}
    for mask, cell in zip(sorted(masks, key=lambda m: m.point_xy), ((4, 4), (4, 12)), strict=True):
        assert mask.point_xy == (8 * cell[1] + 3.5, 8 * cell[0] + 3.5)
        assert mask.predicted_iou == pytest.approx(0.7)
        assert abs(mask.area - 16 * np.count_nonzero(disc(9, 9, 5))) < 0.15 * mask.area


def test_regions_rated_below_the_threshold_are_left_out(proposing_model, clouds):
    model = with_instances(proposing_model, rating=0.4)
    config = AutoMaskConfig(prompts="instances", pred_iou_thresh=0.5, stability_score_thresh=0.0)
    assert generate_masks(model, clouds(128, 128), config) == []


def test_instances_of_a_model_without_the_head_are_refused(proposing_model, clouds):
    with pytest.raises(ConfigError, match=r"'small' has no instance head.*use prompts='grid', or 'auto'"):
        generate_masks(proposing_model, clouds(128, 128), AutoMaskConfig(prompts="instances"))


def test_automatic_masks_of_proposals_offer_their_regions(proposing_model, clouds):
    model = with_instances(proposing_model, rating=5.0)
    config = AutoMaskConfig(prompts="proposals", mask_choice="best", pred_iou_thresh=2.0, stability_score_thresh=0.0)
    masks = generate_masks(model, clouds(128, 128), config)
    assert len(masks) == 2
    assert {m.predicted_iou for m in masks} == {5.0}


def test_the_rating_lies_between_0_and_1_and_learns():
    torch.manual_seed(0)
    head = InstanceHead(8)
    features = torch.rand(64, 2 + SHAPE_FEATURES)
    target = features[:, 1]
    optimizer = torch.optim.Adam(head.rating.parameters(), lr=0.03)
    before = float(((head.rate(features) - target) ** 2).mean().detach())
    for _ in range(150):
        loss = ((head.rate(features) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    rated = head.rate(features).detach()
    assert float(loss.detach()) < before / 3
    assert float(rated.min()) >= 0
    assert float(rated.max()) <= 1
