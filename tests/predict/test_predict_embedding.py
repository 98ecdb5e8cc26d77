from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam.errors import ConfigError, ImageError, PromptError
from napari_sam.model.loading import SamModel
from napari_sam.predict import embed_image, generate_masks, predict_masks

SMALL_OR_THIN = {
    "one pixel": (1, 1),
    "one row": (1, 40),
    "one column": (40, 1),
    "strip": (2, 100_000),
    "tower": (5000, 3),
}


def test_an_embedding_says_its_frame_and_model(model, clouds):
    embedding = embed_image(model, clouds(96, 64))
    assert embedding.embedding.shape == (1, 64, 8, 8)
    assert embedding.embedding.dtype == torch.float32
    assert embedding.frame.image_size == (96, 64)
    assert embedding.frame.input_size == (128, 85)
    assert embedding.low_res_size == (32, 32)
    assert embedding.proposals is None
    assert embedding.model_name == "small"


def test_the_proposal_heads_map_comes_with_the_embedding(proposing_model, clouds):
    proposals = embed_image(proposing_model, clouds(64, 64)).proposals
    assert proposals.shape == (16, 16)
    assert proposals[4, 4] > 0 > proposals[0, 0]


def test_no_gradient_is_kept(model, clouds):
    assert not embed_image(model, clouds(32, 32)).embedding.requires_grad


@pytest.mark.parametrize("size", [(128, 128), (60, 200)], ids=["as it is", "resized"])
def test_gray_is_rgb_with_equal_channels(model, clouds, size):
    gray = clouds(*size)[..., 0]
    expected = embed_image(model, np.stack([gray] * 3, axis=2)).embedding
    for image in (gray, gray[..., None]):
        np.testing.assert_array_equal(embed_image(model, image).embedding, expected)


def test_a_view_of_a_read_only_array_is_embedded_and_left_as_it_was(model, clouds):
    image = clouds(128, 100)
    before = image.copy()
    image.setflags(write=False)
    turned = embed_image(model, image[::-1, ::-1]).embedding
    np.testing.assert_array_equal(turned, embed_image(model, before[::-1, ::-1].copy()).embedding)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("size", SMALL_OR_THIN.values(), ids=SMALL_OR_THIN)
def test_small_and_thin_images_are_answered(model, clouds, size):
    embedding = embed_image(model, clouds(*size))
    assert embedding.embedding.shape == (1, 64, 8, 8)
    prediction = predict_masks(model, embedding, [[size[1] // 2, size[0] // 2]])
    assert prediction.masks.shape == (1, 3, *size)


WRONG = {
    "a list": ([[1, 2]], "must be a numpy array, got list"),
    "one axis": (np.zeros(5, np.uint8), r"shape \(H, W\) or \(H, W, 3\), got \(5,\)"),
    "RGBA": (np.zeros((4, 4, 4), np.uint8), r"got \(4, 4, 4\); choose one plane.*image\[..., :3\]"),
    "a stack": (np.zeros((2, 4, 4, 3), np.uint8), r"got \(2, 4, 4, 3\)"),
    "16 bit": (
        np.zeros((4, 4), np.uint16),
        r"must be uint8.*got uint16; normalise first \(napari_sam.images.normalise_image\)",
    ),
    "float": (np.zeros((4, 4)), "got float64"),
    "bool": (np.zeros((4, 4), bool), "got bool"),
    "no pixels": (np.zeros((0, 4), np.uint8), r"at least one pixel, got shape \(0, 4\)"),
}


@pytest.mark.parametrize(("image", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("function", [embed_image, generate_masks])
def test_a_wrong_image_is_named(model, function, image, message):
    with pytest.raises(ImageError, match=message):
        function(model, image)


def test_an_unknown_precision_is_refused(model, clouds):
    with pytest.raises(ConfigError, match="precision"):
        embed_image(model, clouds(8, 8), precision="int8")


def test_an_embedding_of_another_model_is_refused(model, clouds):
    other = SamModel(model.sam, "other", "1" * 64, model.device, model.config, {})
    with pytest.raises(PromptError, match=r"made by model 'other' and cannot be read by 'small'.*embed_image"):
        predict_masks(model, embed_image(other, clouds(8, 8)), [[1, 1]])
