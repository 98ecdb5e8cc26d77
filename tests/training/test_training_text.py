"""Text prompts taught in miniature: the network sees pictures of objects only, and is then asked with words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_sam.errors import ConfigError, PromptError, TrainingError
from napari_sam.model import ConvConfig, SamConfig, SamModel, build_sam
from napari_sam.predict import embed_image
from napari_sam.predict.text_prompts import predict_text
from napari_sam.training.text import TextTrainConfig, teach_text, text_prompts
from predict.predict_clip import ColourClip

CONFIG = SamConfig(
    encoder=ConvConfig(widths=(8, 8, 16, 16, 16), depths=(1, 1, 1, 1, 1), centre_channels=8),
    image_size=64,
    embedding_stride=8,
    prompt_embed_dim=16,
    decoder_heads=2,
    decoder_mlp_dim=32,
    iou_head_hidden_dim=16,
    text_embed_dim=3,
)
SIDE = 14


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def squares(seed):
    """A red, a green and a blue square (labels 1, 2, 3) somewhere in three of the four quarters of a dark image."""
    rng = np.random.default_rng(seed)
    pixels, labels = rng.integers(0, 30, (64, 64, 3)).astype(np.uint8), np.zeros((64, 64), np.int64)
    for label, quarter in enumerate(rng.permutation(4)[:3], start=1):
        y, x = (32 * np.array(divmod(int(quarter), 2)) + rng.integers(2, 32 - SIDE - 1, 2)).tolist()
        pixels[y : y + SIDE, x : x + SIDE, label - 1] += 200
        labels[y : y + SIDE, x : x + SIDE] = label
    return pixels, labels


def as_model(sam):
    return SamModel(sam.eval(), "tiny", "0" * 64, torch.device("cpu"), sam.config, {})


def iou(mask, truth):
    return (mask & truth).sum() / (mask | truth).sum()


@pytest.fixture(scope="module")
def taught():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    sam = build_sam(CONFIG)
    config = TextTrainConfig(steps=300, learning_rate=4e-3, images_per_step=4, objects_per_image=3, rounds=1)
    logged = teach_text(sam, ColourClip(), [squares(seed) for seed in range(60)], config)
    return as_model(sam), logged


def answers(model, seed, **points):
    """The masks of the words red, green and blue in an image the network has not seen, and the truth."""
    pixels, labels = squares(seed)
    words = ColourClip().embed_texts(["red", "green", "blue"])
    masks = predict_text(model, embed_image(model, pixels), words, **points).masks[:, 0]
    return masks, [labels == label for label in (1, 2, 3)]


def test_words_find_what_only_pictures_taught(taught):
    model, logged = taught
    assert np.mean([step["iou1"] for step in logged[-20:]]) > np.mean([step["iou1"] for step in logged[:20]]) + 0.3
    right, wrong = [], []
    for seed in range(1000, 1010):
        masks, truths = answers(model, seed)
        right += [iou(masks[i], truths[i]) for i in range(3)]
        wrong += [iou(masks[i], truths[j]) for i in range(3) for j in range(3) if i != j]
    assert np.mean(right) > 0.6
    assert np.mean(wrong) < 0.1


def test_what_a_network_learned_travels_with_its_weights(taught, tmp_path):
    from napari_sam.model import load_model, save_checkpoint

    model, _ = taught
    save_checkpoint(tmp_path / "text.safetensors", model.sam, model.config)
    again = load_model(tmp_path / "text.safetensors", device="cpu")
    before, _ = answers(model, 1000)
    pixels, _ = squares(1000)
    words = ColourClip().embed_texts(["red", "green", "blue"])
    after = predict_text(again, embed_image(again, pixels), words).masks[:, 0]
    # Weights are stored in 16 bits.
    assert all(iou(a, b) > 0.9 for a, b in zip(before, after, strict=True))


def test_a_crop_of_each_object_is_the_prompt_and_its_mask_the_truth():
    sam, clip = build_sam(CONFIG), ColourClip()
    images = [squares(0), squares(1)]
    batch = text_prompts(sam, clip, images, TextTrainConfig(objects_per_image=9), np.random.default_rng(0))
    assert batch.text.shape == (6, 3)
    assert batch.crop.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(batch.text.norm(dim=1), 1, rtol=1e-6)
    colours = batch.text.argmax(dim=1) + 1
    for row, (owner, colour) in enumerate(zip(batch.crop.tolist(), colours.tolist(), strict=True)):
        want = (images[owner][1] == colour).reshape(32, 2, 32, 2).mean(axis=(1, 3))
        np.testing.assert_allclose(batch.truth[row], want)


def test_a_network_without_text_has_no_further_weights_and_says_so():
    plain, with_text = (build_sam(replace(CONFIG, text_embed_dim=width)) for width in (0, 3))
    further = set(with_text.state_dict()) - set(plain.state_dict())
    assert further == {"prompt_encoder.text_projection.weight", "prompt_encoder.text_projection.bias"}
    assert set(plain.state_dict()) <= set(with_text.state_dict())
    with pytest.raises(ConfigError, match="this network takes no text prompts"):
        plain.prompt_encoder(text=torch.zeros(1, 3))
    with pytest.raises(ConfigError, match="text_embed_dim must be 0"):
        replace(CONFIG, text_embed_dim=-1)


def test_a_text_is_one_more_token_after_the_points():
    encoder = build_sam(CONFIG).prompt_encoder
    points, labels, text = torch.rand(2, 3, 2) * 64, torch.ones(2, 3, dtype=torch.long), torch.rand(2, 3)
    alone, dense = encoder((points, labels))
    both, same_dense = encoder((points, labels), text=text)
    torch.testing.assert_close(both[:, :-1], alone)
    torch.testing.assert_close(both[:, -1], encoder.text_projection(text))
    torch.testing.assert_close(dense, same_dense)
    assert encoder(text=text)[0].shape == (2, 1, 16)


def test_a_point_beside_a_text_changes_the_answer():
    torch.manual_seed(0)
    model = as_model(build_sam(CONFIG))
    image = embed_image(model, squares(0)[0])
    words = ColourClip().embed_texts(["red"])
    alone = predict_text(model, image, words).low_res_logits
    both = predict_text(model, image, words, points_xy=[[[5, 9]]], point_labels=[[1]]).low_res_logits
    assert alone.shape == both.shape == (1, 1, 32, 32)
    assert not np.allclose(alone, both)


def test_embeddings_and_points_that_do_not_fit_are_refused():
    model = as_model(build_sam(CONFIG))
    image = embed_image(model, squares(0)[0])
    with pytest.raises(PromptError, match=r"must be finite and have shape \(P, 3\).*got \(1, 4\)"):
        predict_text(model, image, np.ones((1, 4)))
    with pytest.raises(PromptError, match="there are 2 texts and 1 sets of points"):
        predict_text(model, image, np.ones((2, 3)), points_xy=[[1, 2]])


def test_training_data_that_cannot_teach_are_refused():
    sam = build_sam(replace(CONFIG, text_embed_dim=5))
    with pytest.raises(TrainingError, match="no image has an object of 100 px or more"):
        teach_text(sam, ColourClip(), [(squares(0)[0], np.zeros((64, 64), np.int64))])
    with pytest.raises(TrainingError, match=r"embeddings of 3 numbers and this network takes 5; build it with"):
        teach_text(sam, ColourClip(), [squares(0)])
