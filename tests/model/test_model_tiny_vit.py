"""The TinyViT image encoder of MobileSAM: equal to the reference, differentiable, of any size."""

import pytest
import torch

from napari_sam.errors import ConfigError
from napari_sam.model import tiny_vit
from napari_sam.model.config import TinyVitConfig
from napari_sam.model.presets import PRESETS
from napari_sam.model.sam import build_sam
from napari_sam.model.tiny_vit import TinyVit
from oracles.reference import build_reference_preset, randomise

CLASSIFIER = {"norm_head.weight", "norm_head.bias", "head.weight", "head.bias"}


def images(count: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def encoder(*, image_size: int = 128, **changes: object) -> TinyVit:
    return TinyVit(TinyVitConfig(**changes), image_size=image_size, out_channels=32)


@torch.no_grad()
def test_the_whole_encoder_equals_mobile_sam():
    reference = build_reference_preset("vit_t")
    ours = build_sam(PRESETS["vit_t"]).eval()
    ours.load_state_dict(reference.state_dict(), strict=True)
    expected = reference.image_encoder(images(1, 1024, 1024))
    assert expected.shape == (1, 256, 64, 64)
    assert 0.5 < expected.std() < 2
    torch.testing.assert_close(ours.image_encoder(images(1, 1024, 1024)), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (112, 112), (48, 160)], ids=["small", "one window", "oblong"])
@torch.no_grad()
def test_the_embedding_is_a_sixteenth_of_any_image(height, width):
    assert encoder().eval()(images(2, height, width)).shape == (2, 32, height // 16, width // 16)


@pytest.mark.parametrize("rows", [6, 16])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 160), (240, 32)], ids=str)
def test_what_is_done_without_gradients_equals_the_plain_way(monkeypatch, height, width, rows):
    monkeypatch.setattr(tiny_vit, "ROWS_AT_ONCE", rows)
    ours = encoder()
    randomise(ours, seed=0)
    expected = ours(images(2, height, width)).detach()
    assert expected.std() > 0.5
    with torch.no_grad():
        out = ours(images(2, height, width))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_changed_statistics_of_a_batch_norm_take_part_at_once():
    ours = encoder().eval()
    before = ours(images(1, 64, 64))
    ours.patch_embed.seq[0].bn.running_var.fill_(0.3)
    assert not torch.allclose(ours(images(1, 64, 64)), before, atol=1e-4)


@torch.no_grad()
def test_in_training_the_statistics_of_the_batch_count_even_without_gradients():
    ours = encoder().train()
    before = ours.patch_embed.seq[0].bn.running_mean.clone()
    ours(images(2, 64, 64))
    assert not torch.equal(ours.patch_embed.seq[0].bn.running_mean, before)


@torch.no_grad()
def test_autocast_to_bf16_stays_near_full_precision():
    ours = encoder()
    randomise(ours, seed=0)
    expected = ours(images(1, 128, 128))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = ours(images(1, 128, 128))
    assert 0.5 < expected.std() < 2
    assert (out.float() - expected).abs().mean() < 0.03


def test_gradients_reach_every_parameter_but_the_unused_classifier():
    ours = encoder()
    out = ours(images(2, 64, 64))
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    assert {n for n, p in ours.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0} == CLASSIFIER
    assert {n for n, p in ours.named_parameters() if not p.requires_grad} == CLASSIFIER


@torch.no_grad()
def test_changed_attention_biases_take_part_at_once():
    ours = encoder().eval()
    before = ours(images(1, 64, 64))
    torch.nn.init.normal_(ours.layers[1].blocks[0].attn.attention_biases, generator=torch.Generator().manual_seed(3))
    assert not torch.allclose(ours(images(1, 64, 64)), before, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": (64, 128, 160)}, r"must each name 4 stages, got .*\(64, 128, 160\)"),
        ({"heads": (2, 4, 7, 10)}, r"multiple of its heads, got \(64, 128, 160, 320\) and \(2, 4, 7, 10\)"),
        ({"image_size": 100}, r"multiple of 16 for TinyViT, got 100"),
    ],
    ids=["three stages", "heads", "image size"],
)
def test_a_configuration_that_cannot_be_built_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        encoder(**changes)
