"""The prompt encoder: equal to the reference for every kind of prompt."""

import pytest
import torch

from oracles.pairs import small_pair, small_prompts

KINDS = list(small_prompts())


@pytest.fixture(scope="module")
def pair():
    return small_pair()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_embeddings_equal_the_reference(pair, kind):
    prompts = small_prompts()[kind].as_arguments()
    expected_sparse, expected_dense = pair[0].prompt_encoder(**prompts)
    sparse, dense = pair[1].prompt_encoder(**prompts)
    torch.testing.assert_close(sparse, expected_sparse, rtol=0, atol=1e-4)
    torch.testing.assert_close(dense, expected_dense, rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_positional_encoding_of_the_grid_equals_the_reference(pair):
    torch.testing.assert_close(
        pair[1].prompt_encoder.get_dense_pe(), pair[0].prompt_encoder.get_dense_pe(), rtol=0, atol=1e-4
    )


@torch.no_grad()
def test_the_place_of_a_padding_point_does_not_matter(pair):
    points, labels = small_prompts()["points with padding"].points
    elsewhere = torch.where((labels == -1)[..., None], points + 50, points)
    assert torch.equal(pair[1].prompt_encoder((points, labels))[0], pair[1].prompt_encoder((elsewhere, labels))[0])


@torch.no_grad()
def test_prompts_are_left_as_they_were(pair):
    prompts = small_prompts()["points, boxes and masks"]
    pair[1].prompt_encoder(**prompts.as_arguments())
    fresh = small_prompts()["points, boxes and masks"]
    assert torch.equal(prompts.points[0], fresh.points[0])
    assert torch.equal(prompts.boxes, fresh.boxes)
    assert torch.equal(prompts.masks, fresh.masks)


@pytest.mark.parametrize("kind", ["one foreground point", "boxes", "masks"])
@torch.no_grad()
def test_an_empty_batch_of_prompts_gives_empty_embeddings(pair, kind):
    sparse, dense = pair[1].prompt_encoder(**small_prompts(0)[kind].as_arguments())
    assert len(sparse) == len(dense) == 0
    assert dense.shape[1:] == (64, 8, 8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@torch.no_grad()
def test_places_keep_full_precision_under_autocast(pair, dtype):
    prompts = small_prompts()["points and boxes"].as_arguments()
    expected, _ = pair[1].prompt_encoder(**prompts)
    with torch.autocast("cpu", dtype=dtype):
        sparse, _ = pair[1].prompt_encoder(**prompts)
        grid = pair[1].prompt_encoder.get_dense_pe()
    assert torch.equal(sparse, expected)
    assert torch.equal(grid, pair[1].prompt_encoder.get_dense_pe())
