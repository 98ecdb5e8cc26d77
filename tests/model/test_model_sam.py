"""The whole network: from pixels to masks like the reference, trainable, saved and loaded without loss."""

import pytest
import torch

from napari_sam.model.config import ConvConfig, SamConfig
from napari_sam.model.sam import Sam, build_sam
from oracles.pairs import SMALL, small_pair, small_prompts

TINY_CONV = SamConfig(
    encoder=ConvConfig(widths=(8, 8, 16, 16, 16), depths=(1, 1, 1, 1, 1), centre_channels=16),
    image_size=128,
    embedding_stride=8,
    prompt_embed_dim=32,
    mask_in_channels=8,
    decoder_heads=4,
    decoder_mlp_dim=64,
    iou_head_hidden_dim=32,
    position_scales=(1.0, 4.0),
    has_proposals=True,
)


def pixels(height: int, width: int) -> torch.Tensor:
    return 255 * torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))


def decode_all(sam: Sam, embedding: torch.Tensor, **prompts: object) -> list[torch.Tensor]:
    encoder = sam.prompt_encoder
    return list(sam.mask_decoder.predict_all(embedding, encoder.get_dense_pe(), *encoder(**prompts)))


@pytest.mark.parametrize("multimask", [True, False], ids=["multimask", "single mask"])
@torch.no_grad()
def test_pixels_to_masks_equal_the_reference(multimask):
    reference, ours = small_pair(seed=1)
    image = pixels(128, 90)  # padded at the right
    points, labels = small_prompts()["foreground and background points"].points
    record = {"image": image, "original_size": (128, 90), "point_coords": points, "point_labels": labels}
    expected = reference([record], multimask_output=multimask)[0]

    embedding = ours.image_encoder(ours.preprocess(image)[None])
    logits, iou = ours.mask_decoder(
        embedding,
        ours.prompt_encoder.get_dense_pe(),
        *ours.prompt_encoder((points, labels)),
        multimask_output=multimask,
    )
    torch.testing.assert_close(logits, expected["low_res_logits"], rtol=0, atol=1e-4)
    torch.testing.assert_close(iou, expected["iou_predictions"], rtol=0, atol=1e-4)


@torch.no_grad()
def test_preprocessing_equals_the_reference():
    reference, ours = small_pair()
    image = pixels(57, 128)
    torch.testing.assert_close(ours.preprocess(image), reference.preprocess(image), rtol=0, atol=1e-5)


def test_a_state_dict_comes_back_unchanged():
    first, second = build_sam(SMALL), build_sam(SMALL)
    second.load_state_dict(first.state_dict(), strict=True)
    for name, tensor in second.state_dict().items():
        assert torch.equal(tensor, first.state_dict()[name]), name


@pytest.mark.parametrize("config", [SMALL, TINY_CONV], ids=["vit", "conv with proposals"])
def test_gradients_reach_every_parameter(config):
    torch.manual_seed(0)
    sam = build_sam(config)
    embedding = sam.image_encoder(sam.preprocess(pixels(128, 128))[None])
    side = 4 * config.embedding_size
    points, labels = small_prompts()["foreground and background points"].points
    outputs = decode_all(sam, embedding, points=(points, labels))
    outputs += decode_all(sam, embedding, boxes=small_prompts()["boxes"].boxes)
    outputs += decode_all(sam, embedding, masks=torch.randn(2, 1, side, side))
    if sam.proposal_head is not None:
        outputs.append(sam.proposal_head(embedding))
    sum((out * torch.randn_like(out)).sum() for out in outputs).backward()
    assert [n for n, p in sam.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@torch.no_grad()
def test_the_convolutional_encoder_keeps_the_promised_stride():
    sam = build_sam(TINY_CONV).eval()
    embedding, offsets = sam.image_encoder.embed(torch.randn(2, 3, 96, 64))
    assert embedding.shape == (2, 32, 12, 8)
    assert offsets.shape == (2, 2, 12, 8)


@torch.no_grad()
def test_the_convolutional_encoder_is_told_where_a_crop_lies():
    sam = build_sam(TINY_CONV).eval()
    crop = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    at_origin = sam.image_encoder(crop, origin_px=torch.zeros(1, 2))
    assert torch.equal(sam.image_encoder(crop), at_origin)
    assert not torch.allclose(sam.image_encoder(crop, origin_px=torch.tensor([[64.0, 32.0]])), at_origin, atol=1e-4)


@torch.no_grad()
def test_proposals_begin_by_saying_no_and_have_twice_the_resolution():
    sam = build_sam(TINY_CONV)
    heat = sam.proposal_head(torch.randn(2, 32, 16, 16, generator=torch.Generator().manual_seed(1)))
    assert heat.shape == (2, 1, 32, 32)
    assert heat.sigmoid().mean() < 0.15
