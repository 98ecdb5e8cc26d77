"""The two-way transformer and the mask decoder: equal to the reference, each prompt set answered by itself."""

import pytest
import torch

from oracles.pairs import Prompts, small_pair, small_prompts

KINDS = list(small_prompts())


@pytest.fixture(scope="module")
def pair():
    return small_pair()


@pytest.fixture(scope="module")
def embedding():
    return torch.randn(1, 64, 8, 8, generator=torch.Generator().manual_seed(3))


def decode(sam, embedding, prompts: Prompts, *, multimask: bool):
    """Mask logits and predicted IoU; the call is the same for the reference and for us."""
    encoder = sam.prompt_encoder
    return sam.mask_decoder(
        embedding, encoder.get_dense_pe(), *encoder(**prompts.as_arguments()), multimask_output=multimask
    )


@pytest.mark.parametrize("multimask", [True, False], ids=["multimask", "single mask"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_low_resolution_logits_and_predicted_iou_equal_the_reference(pair, embedding, kind, multimask):
    reference, ours = pair
    prompts = small_prompts()[kind]
    expected_logits, expected_iou = decode(reference, embedding, prompts, multimask=multimask)
    logits, iou = decode(ours, embedding, prompts, multimask=multimask)
    assert logits.shape == (1 if kind == "nothing" else 3, 3 if multimask else 1, 32, 32)
    assert 0.1 < expected_logits.std() < 10
    torch.testing.assert_close(logits, expected_logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(iou, expected_iou, rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_two_way_transformer_equals_the_reference(pair):
    generator = torch.Generator().manual_seed(5)
    image, image_pe, tokens = (torch.randn(shape, generator=generator) for shape in [(2, 64, 8, 8)] * 2 + [(2, 7, 64)])
    expected_tokens, expected_image = pair[0].mask_decoder.transformer(image, image_pe, tokens)
    out_tokens, out_image = pair[1].mask_decoder.transformer(image, image_pe, tokens)
    torch.testing.assert_close(out_tokens, expected_tokens, rtol=0, atol=1e-4)
    torch.testing.assert_close(out_image, expected_image, rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_batch_of_prompts_gives_what_each_gives_alone(pair, embedding):
    prompts = small_prompts()["points, boxes and masks"]
    logits, iou = decode(pair[1], embedding, prompts, multimask=True)
    for i in range(3):
        (points, labels), one = prompts.points, slice(i, i + 1)
        alone = Prompts(points=(points[one], labels[one]), boxes=prompts.boxes[one], masks=prompts.masks[one])
        logits_alone, iou_alone = decode(pair[1], embedding, alone, multimask=True)
        torch.testing.assert_close(logits[one], logits_alone, rtol=0, atol=1e-5)
        torch.testing.assert_close(iou[one], iou_alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_each_prompt_set_may_have_its_own_image(pair):
    embeddings = torch.randn(3, 64, 8, 8, generator=torch.Generator().manual_seed(4))
    prompts = small_prompts()["boxes"]
    logits, _ = decode(pair[1], embeddings, prompts, multimask=False)
    for i in range(3):
        alone, _ = decode(pair[1], embeddings[i : i + 1], Prompts(boxes=prompts.boxes[i : i + 1]), multimask=False)
        torch.testing.assert_close(logits[i : i + 1], alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_all_masks_are_the_single_one_and_then_the_three(pair, embedding):
    prompts = small_prompts()["one foreground point"]
    encoder = pair[1].prompt_encoder
    together, iou = pair[1].mask_decoder.predict_all(
        embedding, encoder.get_dense_pe(), *encoder(**prompts.as_arguments())
    )
    single, single_iou = decode(pair[1], embedding, prompts, multimask=False)
    three, three_iou = decode(pair[1], embedding, prompts, multimask=True)
    torch.testing.assert_close(together, torch.cat([single, three], dim=1), rtol=0, atol=0)
    torch.testing.assert_close(iou, torch.cat([single_iou, three_iou], dim=1), rtol=0, atol=0)
