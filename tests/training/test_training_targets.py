"""Dense targets, losses and prompts of training, on crops small enough to read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from napari_sam.geometry import Box, ModelFrame
from napari_sam.model.conv_encoder import CENTRE_UNIT_PX
from napari_sam.predict import LogitUpsampler
from napari_sam.training.losses import balanced_loss, dice_loss, focal_loss, heat_loss, mask_iou, mask_loss
from napari_sam.training.prompts import covered, first_prompts
from napari_sam.training.targets import dense_targets, object_places


def two_objects(size=64):
    labels = np.zeros((size, size), np.int64)
    labels[8:24, 8:24] = 3
    labels[40:56, 32:64] = 5
    return labels


def test_places_are_the_centroids_areas_and_boxes():
    places = object_places(two_objects())
    assert places.ids.tolist() == [3, 5]
    assert places.centres_xy.tolist() == [[15.5, 15.5], [47.5, 47.5]]
    assert places.areas.tolist() == [256, 512]
    assert places.boxes_xyxy.tolist() == [[8, 8, 24, 24], [32, 40, 64, 56]]


def test_the_centre_of_a_ring_lies_on_it():
    labels = np.ones((32, 32), np.int64)
    labels[8:24, 8:24] = 0
    ((x, y),) = object_places(labels).centres_xy.astype(int)
    assert labels[y, x] == 1


def test_places_of_an_empty_crop_are_empty():
    places = object_places(np.zeros((16, 16), np.int64))
    assert len(places.ids) == 0
    assert dense_targets(np.zeros((16, 16), np.int64), places).heat.max() == 0


def test_offsets_lead_from_each_embedding_pixel_to_its_objects_centre():
    labels = two_objects()
    targets = dense_targets(labels, object_places(labels))
    ys, xs = np.nonzero(targets.offset_weight.numpy())
    assert len(ys)
    for y, x in zip(ys, xs, strict=True):
        # An embedding pixel covers 8 x 8 image pixels; its middle is at 8 i + 3.5 in pixel centres.
        place = np.array([x, y]) * 8 + 3.5 + targets.offsets[:, y, x].numpy() * CENTRE_UNIT_PX
        expected = [15.5, 15.5] if labels[y * 8 + 4, x * 8 + 4] == 3 else [47.5, 47.5]
        assert place == pytest.approx(expected, abs=1e-4)


def test_the_heat_map_is_one_at_each_centre_and_nowhere_else():
    labels = two_objects()
    heat = dense_targets(labels, object_places(labels)).heat
    assert torch.nonzero(heat == 1).tolist() == [[4, 4], [12, 12]]


def test_foreground_and_border_follow_the_labels():
    labels = two_objects()
    targets = dense_targets(labels, object_places(labels))
    expected = (labels > 0).reshape(32, 2, 32, 2).mean(axis=(1, 3), dtype=np.float32)
    assert torch.equal(targets.foreground, torch.from_numpy(expected))
    assert (targets.border <= targets.foreground).all()
    assert targets.border[4, 4] == 1
    assert targets.border[8, 8] == 0


def test_the_focal_loss_without_focus_is_the_cross_entropy():
    logits, target = torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(0)), torch.eye(5).expand(3, 5, 5)
    expected = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((-2, -1))
    assert torch.allclose(focal_loss(logits, target, gamma=0.0), expected)


def test_the_dice_loss_is_small_for_a_right_mask_and_near_one_for_a_wrong_one():
    target = torch.zeros(20, 20)
    target[5:15, 5:15] = 1
    sure = 20 * (2 * target - 1)
    assert dice_loss(sure, target) < 0.01
    assert dice_loss(-sure, target) > 0.98


def test_the_balanced_loss_does_not_depend_on_the_size_of_the_object():
    values = []
    for side in (4, 16):
        target = torch.zeros(64, 64)
        target[:side, :side] = 1
        values.append(balanced_loss(torch.zeros(64, 64), target))
    assert values[0] == pytest.approx(float(values[1]), rel=1e-5)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_the_mask_loss_falls_as_the_mask_gets_better(balance):
    target = torch.zeros(1, 16, 16)
    target[:, 4:12, 4:12] = 1
    losses = [mask_loss(scale * (2 * target - 1), target, balance=balance).item() for scale in (-1.0, 0.0, 2.0, 8.0)]
    assert losses == sorted(losses, reverse=True)


def test_mask_iou_counts_thresholded_pixels():
    logits, target = torch.full((4, 4), -1.0), torch.zeros(4, 4)
    logits[:2], target[:1] = 1.0, 1.0
    assert mask_iou(logits, target) == 0.5


def test_the_heat_loss_prefers_the_right_centres():
    heat = torch.zeros(1, 8, 8)
    heat[0, 3, 3] = 1
    right = torch.full((1, 8, 8), -4.0)
    right[0, 3, 3] = 4.0
    assert heat_loss(right, heat) < heat_loss(right.flip(-1), heat)


def batch_of(labels):
    tensor = torch.from_numpy(labels)[None]
    return tensor, [object_places(labels)], torch.tensor([[16.0, 8.0]])


def test_first_points_lie_on_their_objects_and_background_points_off_them():
    labels = two_objects()
    tensor, places, origins = batch_of(labels)
    for seed in range(20):
        batch = first_prompts(
            tensor,
            places,
            origins,
            per_crop=5,
            background_per_crop=(3,),
            use_boxes=False,
            rng=np.random.default_rng(seed),
        )
        assert batch.is_object.tolist() == [True, True, False, False, False]
        for point, truth, is_object in zip(batch.points[:, 0], batch.truth, batch.is_object, strict=True):
            x, y = ((point - origins[0] + 0.5) / 2).floor().int().tolist()
            assert bool(truth[y, x]) == bool(is_object)


def test_first_boxes_hold_most_of_their_objects():
    tensor, places, origins = batch_of(two_objects())
    batch = first_prompts(
        tensor, places, origins, per_crop=5, background_per_crop=(3,), use_boxes=True, rng=np.random.default_rng(0)
    )
    assert batch.points.shape == (2, 0, 2)
    assert (batch.boxes[:, 2:] > batch.boxes[:, :2]).all()


def test_a_crop_without_objects_gives_no_prompts():
    tensor, places, origins = batch_of(np.zeros((32, 32), np.int64))
    rng = np.random.default_rng(0)
    assert (
        first_prompts(tensor, places, origins, per_crop=5, background_per_crop=(3,), use_boxes=False, rng=rng) is None
    )


def test_error_points_lie_where_the_mask_is_wrong_and_say_how():
    tensor, places, origins = batch_of(two_objects())
    rng = np.random.default_rng(0)
    batch = first_prompts(tensor, places, origins, per_crop=5, background_per_crop=(0,), use_boxes=False, rng=rng)
    for logits, expected in ((torch.full_like(batch.truth, -1.0), 1), (torch.full_like(batch.truth, 1.0), 0)):
        new = batch.with_error_points(logits, torch.Generator().manual_seed(0))
        assert new.labels[:, 1].tolist() == [expected] * 2
        for point, truth in zip(new.points[:, 1], batch.truth, strict=True):
            x, y = ((point - origins[0]) / 2).int().tolist()
            assert truth[y, x] == expected


@pytest.mark.parametrize("shift", range(4))
def test_what_is_taught_lies_where_the_object_lies_when_it_is_upsampled_in_use(shift):
    """One label of each 2 x 2 pixels would put every mask half a pixel beside its object."""
    y, x = np.indices((64, 64))
    labels = (np.hypot(y - 30.3 - shift / 4, x - 33.1 + shift / 4) < 11).astype(np.int32)
    upsampler = LogitUpsampler((32, 32), ModelFrame((64, 64), 64))
    dense = dense_targets(labels, object_places(labels)).foreground.numpy()
    for taught in (dense, covered(torch.from_numpy(labels == 1), 2).numpy()):
        again = upsampler.window(20 * (taught - 0.5), Box(0, 0, 64, 64)) > 0
        assert np.argwhere(again).mean(axis=0) == pytest.approx(np.argwhere(labels).mean(axis=0), abs=0.12)
        assert np.count_nonzero(again) == pytest.approx(np.count_nonzero(labels), rel=0.06)
