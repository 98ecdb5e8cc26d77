"""Frozen parts stay to the last bit; low-rank changes are merged into the weights they belong to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from napari_sam.errors import ConfigError
from napari_sam.model.checkpoints import build_from_checkpoint, read_checkpoint, save_checkpoint
from napari_sam.training import averaging
from napari_sam.training.averaging import plain_copy
from napari_sam.training.batches import make_batch
from napari_sam.training.lora import add_lora, merge_lora
from training.training_scenes import CONFIG, NETWORKS, changed, draw_squares, make_trainer, network, weights

PARTS = {"encoder": "image_encoder.", "prompt_encoder": "prompt_encoder.", "decoder": ("mask_decoder.", "proposal_")}


@pytest.fixture(autouse=True)
def _averaged_in_every_step(monkeypatch):
    monkeypatch.setattr(averaging, "EMA_EVERY", 1)  # these trainings are shorter than the usual distance


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("part", PARTS)
def test_a_frozen_part_is_the_same_to_the_last_bit(tmp_path, part, kind):
    made = make_trainer(tmp_path, replace(CONFIG, freeze=(part,)), kind)
    before = weights(made.sam)
    result = made.run()
    for after in (weights(made.sam), weights(result)):
        moved = changed(before, after)
        assert moved
        assert not [name for name in moved if name.startswith(PARTS[part])]


def test_no_gradients_are_computed_for_a_frozen_encoder(tmp_path):
    made = make_trainer(tmp_path, replace(CONFIG, freeze=("encoder",)))
    seen = []
    made.sam.image_encoder.project.register_forward_hook(lambda module, given, output: seen.append(output))
    made.run()
    assert not any(output.requires_grad for output in seen)
    assert not made.sam.image_encoder.training


@pytest.mark.parametrize("kind", NETWORKS)
def test_low_rank_training_leaves_the_encoders_weights_and_statistics_as_they_are(tmp_path, kind):
    before = weights(network(kind).image_encoder)
    made = make_trainer(tmp_path, replace(CONFIG, lora_rank=2, learning_rate=1e-2), kind)
    made.run()
    after = {
        n.replace(".parametrizations.weight.original", ".weight"): v for n, v in weights(made.sam.image_encoder).items()
    }
    assert not [name for name, value in before.items() if not torch.equal(value, after[name])]
    ups = [p for name, p in made.sam.image_encoder.named_parameters() if name.endswith(".up")]
    assert ups
    assert all(bool(p.any()) for p in ups)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_merged_network_equals_the_unmerged_one(tmp_path, kind):
    made = make_trainer(tmp_path, replace(CONFIG, lora_rank=2, learning_rate=1e-2), kind)
    made.run()
    merged = plain_copy(made.averaged)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, got = made.averaged.image_encoder(images), merged.image_encoder(images)
        untouched = network(kind).eval().image_encoder(images)
    assert torch.allclose(expected, got, atol=1e-5)
    assert not torch.allclose(untouched, got, atol=1e-3)
    assert merged.state_dict().keys() == network(kind).state_dict().keys()


def test_merging_a_copy_leaves_the_training_network_as_it_is(tmp_path):
    made = make_trainer(tmp_path, replace(CONFIG, lora_rank=2), "vit")
    before = weights(made.averaged)
    first, second = plain_copy(made.averaged), plain_copy(made.averaged)
    assert not changed(weights(first), weights(second))
    assert not changed(before, weights(made.averaged))
    made.run()


def test_a_merged_network_is_written_and_read_as_any_other(tmp_path):
    result = make_trainer(tmp_path, replace(CONFIG, lora_rank=1), "vit").run()
    path = tmp_path / "merged.safetensors"
    save_checkpoint(path, result, NETWORKS["vit"], dtype=torch.float32)
    read = build_from_checkpoint(path, read_checkpoint(path))
    assert not changed(weights(result), weights(read))


def test_low_rank_changes_sit_on_the_attention_of_a_transformer_and_nowhere_else():
    encoder = network("vit").image_encoder
    add_lora(encoder, 2)
    trained = {name.split(".parametrizations")[0] for name, p in encoder.named_parameters() if p.requires_grad}
    assert trained == {f"blocks.{i}.attn.{layer}" for i in (0, 1) for layer in ("qkv", "proj")}


def test_a_fresh_low_rank_change_changes_nothing():
    layer = nn.Sequential(nn.Conv2d(3, 4, 3))
    before = weights(layer)
    add_lora(layer, 8)
    merge_lora(layer)
    assert not changed(before, weights(layer))


def test_an_encoder_without_layers_for_low_rank_changes_is_refused():
    with pytest.raises(ConfigError, match="lora_rank needs an encoder with attention or convolutions"):
        add_lora(nn.Sequential(nn.Linear(2, 2)), 1)


def test_the_encoder_sees_whole_frames_where_it_can_see_nothing_else(tmp_path):
    for kind, side in (("conv", 32), ("vit", 64), ("tiny_vit", 64)):
        made = make_trainer(tmp_path, kind=kind)
        batch = make_batch(0, draw_squares, CONFIG, made.plan)
        assert batch.images.shape[-1] == side, kind
        assert bool(batch.targets) == (kind == "conv")
