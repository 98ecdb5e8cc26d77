"""What each round of a step is: how many, which bring a point, and that their gradients are those of their sum."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.errors import ConfigError
from napari_sam.training import schedule
from napari_sam.training.config import TrainConfig, fine_tuning
from napari_sam.training.prompts import first_prompts
from napari_sam.training.rounds import round_loss, teach_rounds
from napari_sam.training.targets import object_places
from training.training_scenes import CONFIG, network

PAPER = TrainConfig(rounds=11, round_chance="all", mask_rounds=2)


@given(seed=st.integers(0, 10_000))
def test_the_papers_rounds_are_eleven_with_two_without_points_the_last_one_among_them(seed):
    rounds, masked = schedule.draw_rounds(PAPER, np.random.default_rng(seed))
    assert rounds == 11
    assert len(masked) == 2
    assert 10 in masked
    assert 0 not in masked


def test_the_other_round_without_a_point_comes_at_every_place():
    drawn = {min(schedule.draw_rounds(PAPER, np.random.default_rng(seed))[1]) for seed in range(300)}
    assert drawn == set(range(1, 10))


@given(seed=st.integers(0, 10_000), most=st.integers(1, 11), mask_rounds=st.integers(0, 2))
def test_few_rounds_keep_enough_points(seed, most, mask_rounds):
    config = TrainConfig(rounds=most, mask_rounds=mask_rounds)
    rounds, masked = schedule.draw_rounds(config, np.random.default_rng(seed))
    assert 1 <= rounds <= most
    assert len(masked) <= mask_rounds
    assert not masked or (rounds >= 3 and rounds - 1 in masked)
    assert rounds - 1 - len(masked) >= min(1, rounds - 1)


def test_each_further_round_is_half_as_likely():
    chances = schedule.round_chances(4)
    assert chances.sum() == pytest.approx(1)
    assert chances[1:] / chances[:-1] == pytest.approx([0.5] * 3)


def test_the_learning_rate_warms_up_and_falls_to_a_hundredth():
    config = TrainConfig(learning_rate=1.0, warmup_steps=10)
    assert schedule.learning_rate(config, 0, 0.0) == pytest.approx(0.1)
    assert schedule.learning_rate(config, 9, 0.0) == pytest.approx(1.0)
    assert schedule.learning_rate(config, 500, 1.0) == pytest.approx(0.01)


def test_the_balanced_loss_is_handed_over_after_the_dense_part():
    config = TrainConfig(dense_share=0.2, balance_share=0.4)
    assert [schedule.balance(config, s) for s in (0.2, 0.4, 0.6, 1.0)] == pytest.approx([1, 0.5, 0, 0])
    assert schedule.balance(replace(config, balance_share=0.0), 0.2) == 0


@pytest.mark.parametrize("kind", ["conv", "vit"])
@pytest.mark.parametrize("masked", [frozenset(), frozenset({2})], ids=["points", "mask only"])
def test_rounds_worked_back_one_by_one_give_the_gradients_of_their_mean(kind, masked):
    sam = network(kind).train()
    step = sam.config.embedding_stride // 4
    labels = torch.zeros(2, 64, 64, dtype=torch.long)
    labels[:, 10:40, 12:44], labels[1, 44:60, 4:20] = 1, 2
    rng = np.random.default_rng(0)
    places = [object_places(crop.numpy()) for crop in labels]
    prompts = first_prompts(
        labels,
        places,
        torch.zeros(2, 2),
        per_crop=2,
        background_per_crop=(1, 1),
        use_boxes=False,
        rng=rng,
        step_px=step,
    )
    side = 64 // sam.config.embedding_stride
    embedding = torch.randn(2, 16, side, side, generator=torch.Generator().manual_seed(0))

    leaf = embedding.clone().requires_grad_()
    said = teach_rounds(sam, prompts, leaf, rounds=3, masked=masked, balance=0.3, seed=5, autocast=nullcontext)
    got = {name: p.grad.clone() for name, p in sam.named_parameters() if p.grad is not None}
    sam.zero_grad()

    plain = embedding.clone().requires_grad_()
    total, former, generator = 0, None, torch.Generator().manual_seed(5)
    whole = sam.prompt_encoder.get_dense_pe()
    for number in range(3):
        sparse, dense = sam.prompt_encoder((prompts.points, prompts.labels), None, former, grid_size=(side, side))
        logits, iou = sam.mask_decoder.predict_all(
            plain[prompts.crop], whole.expand(len(sparse), -1, -1, -1), sparse, dense
        )
        loss, chosen, _ = round_loss(logits, iou, prompts, ambiguous=number == 0, balance=0.3)
        total = total + loss / 3
        former = chosen[:, None].clamp(-20, 20)
        if number + 1 not in masked:
            prompts = prompts.with_error_points(chosen, generator)
    total.backward()
    assert torch.allclose(leaf.grad, plain.grad, atol=1e-6)
    expected = {name: p.grad for name, p in sam.named_parameters() if p.grad is not None}
    assert got.keys() == expected.keys()
    assert all(torch.allclose(got[name], expected[name], atol=1e-5) for name in got)
    assert prompts.points.shape[1] == 4 - len(masked) or prompts.points.shape[1] == 4
    assert {"mask1", "iou3", "iou_error2"} <= said.keys()


@pytest.mark.parametrize("step_px", [2, 4])
def test_prompts_lie_on_their_objects_at_any_resolution_of_the_masks(step_px):
    labels = torch.zeros(1, 64, 64, dtype=torch.long)
    labels[0, 16:48, 20:44] = 1
    places = [object_places(labels[0].numpy())]
    for seed in range(20):
        batch = first_prompts(
            labels, places, torch.zeros(1, 2), per_crop=1, background_per_crop=(2,), use_boxes=False,
            rng=np.random.default_rng(seed), step_px=step_px,
        )  # fmt: skip
        batch = batch.with_error_points(torch.full_like(batch.truth, -1.0), torch.Generator().manual_seed(seed))
        assert batch.truth.shape[1:] == (64 // step_px, 64 // step_px)
        for points, is_object in zip(batch.points, batch.is_object, strict=True):
            on = [bool(labels[0, int(y), int(x)]) for x, y in points[: 2 if is_object else 1]]
            assert all(on) if is_object else not any(on)


REFUSED = {
    "rounds without points": ({"mask_rounds": 3}, "mask_rounds must be 0, 1 or 2, got 3"),
    "chance": ({"round_chance": "some"}, "round_chance must be of halving, all, got some"),
    "part": ({"freeze": ("head",)}, "freeze must be of encoder, prompt_encoder, decoder, got head"),
    "all parts": ({"freeze": ("encoder", "prompt_encoder", "decoder")}, "freeze names every part"),
    "both": ({"freeze": ("encoder",), "lora_rank": 4}, "lora_rank trains a change of the encoder"),
    "figure": ({"select_by": "f1"}, "select_by must be of score, one_click, box, ap50, msa, got f1"),
    "share": ({"dense_share": 2}, r"dense_share must lie in \[0, 1\], got 2"),
    "validation": ({"validate_every": 0}, "validate_every must be at least 1, got 0; leave it out to validate by time"),
}


@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **settings)


def test_fine_tuning_takes_small_steps_and_nothing_but_prompts():
    assert fine_tuning(whole_frames=False).learning_rate < TrainConfig().learning_rate
    assert fine_tuning(whole_frames=True).learning_rate < fine_tuning(whole_frames=False).learning_rate
    assert fine_tuning(whole_frames=False, minutes=2).minutes == 2
    assert fine_tuning(whole_frames=False).dense_share == 0
