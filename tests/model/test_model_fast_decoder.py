"""The decoder for many prompts on one image answers as the plain decoder does, whatever the prompts and portions."""

import dataclasses

import pytest
import torch

from napari_sam.model import load_model
from napari_sam.model.config import SamConfig, VitConfig
from napari_sam.model.fast_decoder import PreparedImage
from napari_sam.model.presets import NANO
from napari_sam.model.sam import build_sam
from oracles.pairs import SMALL, small_prompts
from oracles.reference import randomise

SMALL_ENCODER = VitConfig(width=16, depth=1, heads=2, global_blocks=())
CONFIGS = {
    "small": SMALL,
    "one block": dataclasses.replace(SMALL, decoder_depth=1),
    "three blocks": dataclasses.replace(SMALL, decoder_depth=3),
    "five masks": dataclasses.replace(SMALL, num_multimask_outputs=5),
    "nano": NANO,
    "published": SamConfig(encoder=SMALL_ENCODER),
}
KINDS = [kind for kind in small_prompts() if "mask" not in kind]


@pytest.fixture(autouse=True)
def _inference_on_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def small():
    return randomise(build_sam(SMALL), seed=0)


def embedding_for(sam, seed: int = 3):
    size = sam.config.embedding_size
    return torch.randn(1, sam.config.prompt_embed_dim, size, size, generator=torch.Generator().manual_seed(seed))


def embedded(sam, prompts):
    """Positional encoding, sparse and dense embeddings of `prompts`, brought from a frame of 128 px to the model's."""
    scale = sam.config.image_size / 128
    points = None if prompts.points is None else (prompts.points[0] * scale, prompts.points[1])
    boxes = None if prompts.boxes is None else prompts.boxes * scale
    return sam.prompt_encoder.get_dense_pe(), *sam.prompt_encoder(points=points, boxes=boxes)


def both_ways(sam, prompts):
    """Logits and predicted IoU of all masks, from the plain decoder and from a prepared image."""
    embedding, (image_pe, sparse, dense) = embedding_for(sam), embedded(sam, prompts)
    plain = sam.mask_decoder.predict_all(embedding, image_pe, sparse, dense)
    image = PreparedImage(sam.mask_decoder, embedding, image_pe, dense[:1])
    attended = image.attend(sparse)
    logits = image.decode_masks(attended, torch.ones_like(attended.predicted_iou, dtype=torch.bool))
    return plain, (logits.view_as(plain[0]), attended.predicted_iou)


def assert_equal_ways(plain, fast):
    assert 0.01 < plain[0].std() < 100
    torch.testing.assert_close(fast[0], plain[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(fast[1], plain[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_prompt_gets_the_plain_decoders_answer(small, kind):
    assert_equal_ways(*both_ways(small, small_prompts()[kind]))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_width_and_depth_gets_the_plain_decoders_answer(name):
    sam = randomise(build_sam(CONFIGS[name]), seed=1)
    assert_equal_ways(*both_ways(sam, small_prompts(2)["points with padding"]))


def test_the_built_in_weights_give_the_plain_decoders_answer():
    sam = load_model("nano", device="cpu").sam
    assert_equal_ways(*both_ways(sam, small_prompts(2)["points and boxes"]))


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_any_number_of_prompts_gets_the_plain_decoders_answer(small, count):
    assert_equal_ways(*both_ways(small, small_prompts(count)["one foreground point"]))


@pytest.fixture(scope="module")
def asked(small):
    """A prepared image, five prompt sets' sparse embeddings, and the plain logits (5, 4, 32, 32)."""
    with torch.inference_mode():
        image_pe, sparse, dense = embedded(small, small_prompts(5)["boxes"])
        embedding = embedding_for(small)
        logits, _ = small.mask_decoder.predict_all(embedding, image_pe, sparse, dense)
        return PreparedImage(small.mask_decoder, embedding, image_pe, dense[:1]), sparse, logits


CHOICES = {
    "none": [[False] * 4] * 5,
    "one mask": [[False] * 4] * 3 + [[False, False, True, False]] + [[False] * 4],
    "one of each": torch.eye(4, dtype=torch.bool)[[2, 0, 3, 3, 1]].tolist(),
    "some": (torch.rand(5, 4, generator=torch.Generator().manual_seed(0)) > 0.5).tolist(),
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_only_the_chosen_masks_are_made_prompt_set_by_prompt_set(asked, choice):
    image, sparse, logits = asked
    chosen = torch.tensor(choice)
    masks = image.decode_masks(image.attend(sparse), chosen)
    assert masks.shape == (int(chosen.sum()), 32, 32)
    torch.testing.assert_close(masks, logits[chosen], rtol=0, atol=1e-4)


def test_portions_of_changing_size_give_the_same_as_all_at_once(asked):
    image, sparse, logits = asked
    every = torch.ones(1, 4, dtype=torch.bool)
    for part in (slice(0, 1), slice(1, 4), slice(4, 5), slice(0, 5)):
        masks = image.decode_masks(image.attend(sparse[part]), every.expand(part.stop - part.start, -1))
        torch.testing.assert_close(masks, logits[part].flatten(0, 1), rtol=0, atol=1e-4)


def test_masks_may_be_asked_for_after_other_prompts_were_answered(asked):
    image, sparse, logits = asked
    first, second = image.attend(sparse[:2]), image.attend(sparse[2:])
    every = torch.ones(3, 4, dtype=torch.bool)
    image.decode_masks(second, every)
    torch.testing.assert_close(image.decode_masks(first, every[:2]), logits[:2].flatten(0, 1), rtol=0, atol=1e-4)


def test_masks_stay_as_they_were_made(asked):
    image, sparse, _ = asked
    every = torch.ones(2, 4, dtype=torch.bool)
    masks = image.decode_masks(image.attend(sparse[:2]), every)
    before = masks.clone()
    image.decode_masks(image.attend(sparse[2:4]), every)
    assert torch.equal(masks, before)


def test_an_embedding_in_any_memory_order_is_read_right(small):
    image_pe, sparse, dense = embedded(small, small_prompts()["boxes"])
    embedding = embedding_for(small)
    last = embedding.contiguous(memory_format=torch.channels_last)
    iou = [
        PreparedImage(small.mask_decoder, e, image_pe, dense[:1]).attend(sparse).predicted_iou
        for e in (embedding, last)
    ]
    torch.testing.assert_close(iou[0], iou[1], rtol=0, atol=1e-6)
