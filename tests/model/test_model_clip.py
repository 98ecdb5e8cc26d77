"""CLIP models from files: a tiny one with random weights, against the library it comes from."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
import transformers

from napari_sam.errors import CheckpointError
from napari_sam.model.clip import load_clip

WORDS = ["red", "cell", "a", "photo", "of"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP model of 16 px and 8 channels as `save_pretrained` writes it, with a tokenizer of five words."""
    place = tmp_path_factory.mktemp("clip")
    tower = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokens = [*WORDS[2], *"bcdefghijklmnopqrstuvwxyz", *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    ends = {"bos_token_id": len(vocabulary) - 2, "eos_token_id": len(vocabulary) - 1, "pad_token_id": 0}
    config = transformers.CLIPConfig(
        text_config={**tower, "vocab_size": len(vocabulary), "max_position_embeddings": 12, **ends},
        vision_config={**tower, "image_size": 16, "patch_size": 8},
        projection_dim=6,
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(place)
    (place / "vocab.json").write_text(json.dumps(vocabulary))
    (place / "merges.txt").write_text("#version: 0.2\n")
    (place / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return place


def test_texts_and_images_have_the_embeddings_of_the_library(folder):
    clip = load_clip(folder, "cpu")
    plain = transformers.CLIPModel.from_pretrained(folder)
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    normal = (torch.from_numpy(image / 255.0) - torch.tensor(clip.mean)) / torch.tensor(clip.std)
    words = clip.tokenizer(["red cell"], return_tensors="pt")
    with torch.no_grad():
        want = plain(pixel_values=normal.permute(2, 0, 1)[None].float(), **words)
    got_image, got_text = clip.embed_images([image]), clip.embed_texts(["red cell"])
    assert got_image.shape == got_text.shape == (1, 6)
    for got, embeds in ((got_image, want.image_embeds), (got_text, want.text_embeds)):
        unit = got / np.linalg.norm(got)
        np.testing.assert_allclose(unit, embeds.numpy(), atol=1e-5)
    assert clip.logit_scale == pytest.approx(float(plain.logit_scale.detach().exp()))


def test_images_of_any_size_and_texts_of_any_length_go_in_one_batch(folder):
    clip = load_clip(folder, "cpu")
    images = [np.zeros((3, 50, 3), np.uint8), np.full((16, 16, 3), 9, np.uint8)]
    assert clip.embed_images(images).shape == (2, 6)
    texts = ["red", "a photo of a red cell that is much too long for this model"]
    embedded = clip.embed_texts(texts)
    np.testing.assert_allclose(embedded[0], clip.embed_texts(["red"])[0], atol=1e-5)


def test_a_preprocessor_file_says_how_pixels_are_normalised(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    clip = load_clip(tmp_path, "cpu")
    assert clip.mean == (0.5, 0.5, 0.5)
    assert clip.std == (0.25, 0.25, 0.25)
    assert load_clip(folder, "cpu").mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)


def test_a_folder_without_a_model_is_named_and_nothing_is_fetched(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no config\.json in it.*nothing is fetched by itself"):
        load_clip("openai/clip-vit-base-patch32")
    with pytest.raises(CheckpointError, match=r"is no folder of a CLIP model"):
        load_clip(tmp_path)


def test_a_model_that_is_not_complete_is_named(folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match=r"cannot be loaded: .* It needs config\.json, model\.safetensors"):
        load_clip(tmp_path, "cpu")


def test_without_transformers_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CheckpointError, match=r"need the package transformers.*napari-sam-tiles\[clip\]"):
        load_clip(folder)
