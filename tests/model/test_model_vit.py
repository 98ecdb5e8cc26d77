"""The ViT image encoder: equal to the reference, differentiable, strict about its input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.errors import ConfigError
from napari_sam.model import vit
from napari_sam.model.config import SamConfig, VitConfig
from napari_sam.model.presets import PRESETS
from napari_sam.model.sam import build_sam
from napari_sam.model.vit import ImageEncoderVit, join_windows, split_windows
from oracles.reference import build_reference_preset, build_reference_sam, randomise


def images(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def encoder(**changes: object) -> ImageEncoderVit:
    config = VitConfig(**{"width": 32, "depth": 2, "heads": 2, "global_blocks": (1,), "window_size": 3, **changes})
    return ImageEncoderVit(config, image_size=64, patch_size=16, out_channels=16)


@pytest.mark.parametrize(
    ("window_size", "global_blocks"),
    [(5, (1, 3)), (4, (1, 3)), (5, ()), (5, (0, 1, 2, 3)), (14, (2,))],
    ids=["padded windows", "windows that fit", "windows only", "global only", "window larger than the image"],
)
@torch.no_grad()
def test_a_small_encoder_equals_the_reference(window_size, global_blocks):
    reference = build_reference_sam(window_size=window_size, global_attention_blocks=global_blocks)
    config = VitConfig(width=64, depth=4, heads=4, global_blocks=global_blocks, window_size=window_size)
    ours = ImageEncoderVit(config, image_size=128, patch_size=16, out_channels=64).eval()
    ours.load_state_dict(reference.image_encoder.state_dict(), strict=True)
    expected = reference.image_encoder(images(2, 128))
    assert 0.5 < expected.std() < 2
    torch.testing.assert_close(ours(images(2, 128)), expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)  # one forward of each takes seconds alone, minutes beside other work
@torch.no_grad()
def test_the_whole_vit_b_equals_the_reference():
    reference = build_reference_preset("vit_b")
    ours = build_sam(PRESETS["vit_b"]).eval()
    ours.load_state_dict(reference.state_dict(), strict=True)
    expected = reference.image_encoder(images(1, 1024))
    assert expected.shape == (1, 256, 64, 64)
    assert 0.5 < expected.std() < 2
    torch.testing.assert_close(ours.image_encoder(images(1, 1024)), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 3, 4, 100])
@torch.no_grad()
def test_the_rows_done_at_once_change_nothing(monkeypatch, rows):
    reference = build_reference_sam(image_size=112, window_size=4)  # 7 x 7 tokens: neither number divides them
    config = VitConfig(width=64, depth=4, heads=4, global_blocks=(1, 3), window_size=4)
    ours = ImageEncoderVit(config, image_size=112, patch_size=16, out_channels=64).eval()
    ours.load_state_dict(reference.image_encoder.state_dict(), strict=True)
    monkeypatch.setattr(vit, "ROWS_AT_ONCE", rows)
    torch.testing.assert_close(ours(images(2, 112)), reference.image_encoder(images(2, 112)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("window_size", [3, 4, 14])
def test_what_is_done_without_gradients_equals_the_plain_way(count, window_size):
    ours = encoder(window_size=window_size)
    randomise(ours, seed=0)
    expected = ours(images(count, 64)).detach()
    with torch.no_grad():
        out = ours(images(count, 64))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_images_of_a_batch_do_not_see_each_other():
    ours = encoder().eval()
    both = ours(images(2, 64))
    torch.testing.assert_close(ours(images(2, 64)[1:]), both[1:], rtol=0, atol=1e-5)


@torch.no_grad()
def test_autocast_to_bf16_stays_near_full_precision():
    reference = build_reference_sam()
    expected = reference.image_encoder(images(1, 128))
    config = VitConfig(width=64, depth=4, heads=4, global_blocks=(1, 3), window_size=5)
    ours = ImageEncoderVit(config, image_size=128, patch_size=16, out_channels=64).eval()
    ours.load_state_dict(reference.image_encoder.state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = ours(images(1, 128))
    assert (out.float() - expected).abs().mean() < 0.02  # the embedding's standard deviation is 1


@settings(deadline=None, max_examples=30)
@given(height=st.integers(1, 12), width=st.integers(1, 12), size=st.integers(1, 5))
def test_windows_joined_again_are_the_map_they_were_split_from(height, width, size):
    tokens = torch.arange(2.0 * height * width * 3).reshape(2, height, width, 3)
    windows = split_windows(tokens, size)
    assert windows.shape[1:] == (size, size, 3)
    assert windows.sum() == tokens.sum()  # the padding is zero
    assert torch.equal(join_windows(windows, height, width), tokens)


@pytest.mark.parametrize("size", [2, 3], ids=["windows that fit", "padded windows"])
def test_padding_holds_what_it_was_told(size):
    tokens, padding = torch.zeros(1, 4, 4, 2), torch.tensor([1.0, 2.0])
    windows = split_windows(tokens, size, padding=padding)
    padded = (-(-4 // size) * size) ** 2 - 16
    assert windows.sum(dim=(0, 1, 2)).tolist() == [padded, 2 * padded]
    assert torch.equal(join_windows(windows, 4, 4), tokens)


def test_neighbours_share_a_window():
    tokens = torch.arange(16.0).reshape(1, 4, 4, 1)
    assert split_windows(tokens, 2)[1, :, :, 0].tolist() == [[2, 3], [6, 7]]


def test_gradients_reach_every_parameter_of_the_vit_encoder():
    ours = encoder()
    out = ours(images(1, 64))
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    assert [n for n, p in ours.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_an_image_of_another_size_is_named():
    with pytest.raises(ValueError, match=r"\(B, 3, 64, 64\), got \(1, 3, 64, 48\)"):
        encoder()(torch.zeros(1, 3, 64, 48))


def test_heads_that_do_not_divide_the_width_are_named():
    with pytest.raises(ConfigError, match=r"multiple of heads = 3, got 32"):
        encoder(heads=3)


def test_a_global_block_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match=r"depth = 2\), got \[2, 7\]"):
        encoder(global_blocks=(1, 2, 7))


def test_the_embedding_stride_is_the_patch_size():
    config = SamConfig(
        encoder=VitConfig(width=32, depth=1, heads=2, global_blocks=(0,)), image_size=64, embedding_stride=8
    )
    assert build_sam(config).image_encoder(images(1, 64)).shape == (1, 256, 8, 8)
