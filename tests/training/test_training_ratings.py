"""The rating of regions: taught by the IoU with the true objects, on exhaustively labelled crops alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from napari_sam.training import averaging, ratings
from napari_sam.training.batches import CropPlan, make_batch
from napari_sam.training.ratings import best_iou, learn_ratings
from training.training_scenes import CONFIG, changed, draw_squares, make_trainer, network, weights

CPU = torch.device("cpu")


@pytest.mark.parametrize("seed", range(5))
def test_the_best_iou_of_each_region_equals_the_double_loop(seed):
    rng = np.random.default_rng(seed)
    regions = rng.integers(0, 5, (12, 14)).astype(np.int32)
    truth = rng.choice([0, 3, 7, 8], (12, 14))
    expected = []
    for label in range(1, regions.max() + 1):
        mine = regions == label
        ious = [np.count_nonzero(mine & (truth == t)) / np.count_nonzero(mine | (truth == t)) for t in (3, 7, 8)]
        expected.append(max(ious))
    np.testing.assert_allclose(best_iou(regions, truth), expected, rtol=1e-6)


def test_without_regions_or_without_objects_there_is_no_agreement():
    assert len(best_iou(np.zeros((4, 4), np.int32), np.ones((4, 4), np.int64))) == 0
    np.testing.assert_array_equal(best_iou(np.ones((4, 4), np.int32), np.zeros((4, 4), np.int64)), [0])


def frames_of(sam, *, whole=True):
    config = replace(CONFIG, crop_px=64)
    for step in range(2):
        batch = make_batch(step, draw_squares, config, CropPlan.of(sam))
        yield replace(batch, exhaustive=[whole] * len(batch.images))


def seeing_squares():
    """A network whose dense maps are random, with a centre in every cell."""
    sam = network().eval()
    with torch.no_grad():
        sam.proposal_head.out.bias += 6
        sam.instance_head.out.bias += torch.tensor([3.0, 0.0])
    return sam


def test_the_rating_comes_near_the_mean_iou_and_nothing_else_changes(monkeypatch):
    monkeypatch.setattr(ratings, "STEPS", 300)
    sam = seeing_squares()
    before = weights(sam)
    described = [pair for batch in frames_of(sam) for pair in ratings._regions_of(sam, batch)]
    features, ious = (torch.cat(each) for each in zip(*described, strict=True))
    assert len(features) > 8
    learn_ratings(sam, frames_of(sam), CPU)
    assert {name.rpartition(".rating.")[0] for name in changed(before, weights(sam))} == {"instance_head"}
    rated = sam.instance_head.rate(features)
    assert float(((rated - ious) ** 2).mean()) < float(ious.var()) + 0.01
    assert not rated.requires_grad


@pytest.mark.parametrize("whole", [True, False], ids=["exhaustive", "sparse"])
def test_sparsely_labelled_crops_teach_no_rating(whole, monkeypatch):
    monkeypatch.setattr(ratings, "STEPS", 5)
    sam = seeing_squares()
    before = weights(sam)
    learn_ratings(sam, frames_of(sam, whole=whole), CPU)
    assert bool(changed(before, weights(sam))) == whole


def test_a_network_without_the_head_is_left_alone():
    sam = network("vit")
    before = weights(sam)
    learn_ratings(sam, iter(()), CPU)
    assert not changed(before, weights(sam))


def test_a_training_ends_with_a_rating_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(ratings, "STEPS", 20)
    made = make_trainer(tmp_path, replace(CONFIG, steps=2))
    with torch.no_grad():
        made.averaged.proposal_head.out.bias += 6
        made.averaged.instance_head.out.bias += torch.tensor([3.0, 0.0])
    state = weights(made.averaged)
    result = weights(made.run())
    assert "instance_head.rating.0.weight" in changed(state, result)
    assert not changed(
        {k: v for k, v in result.items() if "rating" in k},
        {k: v for k, v in weights(made.run()).items() if "rating" in k},
    )


def test_frames_are_whole_and_as_many_as_asked_for(tmp_path):
    made = make_trainer(tmp_path, replace(CONFIG, frames=10))
    sizes = [tuple(batch.images.shape) for batch in islice(made._frames(), 10)]
    assert sum(size[0] for size in sizes) >= 10
    assert {size[2:] for size in sizes} == {(64, 64)}


def test_prompts_are_taught_in_every_so_many_steps(tmp_path):
    made = make_trainer(tmp_path, replace(CONFIG, steps=4, prompt_every=2, log_every=1))
    made.run()
    assert [row["mask1"] != "" for row in made.log.rows()] == [True, False, True, False]


def test_frozen_norms_keep_their_statistics(tmp_path, monkeypatch):
    monkeypatch.setattr(averaging, "EMA_EVERY", 1)
    made = make_trainer(tmp_path, replace(CONFIG, freeze_norms=True))
    before = weights(made.sam)
    result = weights(made.run())
    names = changed(before, result)
    assert names
    assert not {name for name in names if "running_" in name}
