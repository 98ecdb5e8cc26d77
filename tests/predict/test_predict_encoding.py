"""The image encoder shared by threads: each image gets its own answer, the same in any company."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from napari_sam.errors import ConfigError
from napari_sam.model.loading import SamModel
from napari_sam.predict import AutoMaskConfig, EncoderBatches, OutOfMemoryWarning, embed_image, encoding, generate_masks
from napari_sam.predict.encoding import encode_pixels


class NotingEncoder(nn.Module):
    """Says what it was shown, and may have room for a few images only."""

    def __init__(self, encoder: nn.Module, room: int = 99) -> None:
        super().__init__()
        self.encoder, self.room = encoder, room
        self.shown: list[tuple[int, ...]] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        self.shown.append(tuple(pixels.shape))
        return self.encoder(pixels)


@pytest.fixture
def noting(model: SamModel) -> SamModel:
    model.sam.image_encoder = NotingEncoder(model.sam.image_encoder)
    return model


def ask_together(encode: EncoderBatches, images: list[torch.Tensor]) -> list[torch.Tensor]:
    """The answers to images that are asked for by as many threads at once."""
    start = threading.Barrier(len(images))

    def ask(pixels: torch.Tensor) -> torch.Tensor:
        start.wait()
        return encode(pixels)

    with ThreadPoolExecutor(len(images)) as pool:
        return list(pool.map(ask, images))


def images(count: int, side: int = 128) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(1, 3, side, side, generator=rng) for _ in range(count)]


def test_each_thread_gets_the_answer_to_its_own_image(noting):
    given = images(8)
    made = ask_together(EncoderBatches(noting, 4), given)
    assert noting.sam.image_encoder.shown == [(4, 3, 128, 128)] * 2
    for pixels, answer in zip(given, made, strict=True):
        torch.testing.assert_close(answer, encode_pixels(noting, pixels), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 5, 7])
def test_a_batch_that_nobody_fills_goes_with_empty_images(noting, count):
    given = images(count)
    made = ask_together(EncoderBatches(noting, 4), given)
    assert set(noting.sam.image_encoder.shown) == {(4, 3, 128, 128)}
    for pixels, answer in zip(given, made, strict=True):
        torch.testing.assert_close(answer, encode_pixels(noting, pixels), atol=1e-5, rtol=1e-5)


def test_images_of_other_sizes_are_batches_of_their_own():
    class Means(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean(dim=(2, 3), keepdim=True)

    sizes = [32, 64, 32, 64, 32, 96]
    given = [pixels for i, side in enumerate(sizes) for pixels in images(i + 1, side)[-1:]]
    model = SamModel(nn.Module(), "means", "0" * 64, torch.device("cpu"), None, {})
    model.sam.image_encoder = noting = NotingEncoder(Means())
    made = ask_together(EncoderBatches(model, 2), given)
    assert sorted(noting.shown) == [(2, 3, side, side) for side in (32, 32, 64, 96)]
    for pixels, answer in zip(given, made, strict=True):
        torch.testing.assert_close(answer, pixels.mean(dim=(2, 3), keepdim=True))


def test_an_error_of_the_encoder_reaches_all_who_asked_and_the_next_batch_is_served(noting, monkeypatch):
    encode = EncoderBatches(noting, 2)
    monkeypatch.setattr(noting.sam.image_encoder, "forward", lambda pixels: 1 / 0)
    caught = []

    def ask(pixels):
        with pytest.raises(ZeroDivisionError):
            encode(pixels)
        caught.append(True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(ask, images(2)))
    assert caught == [True, True]
    monkeypatch.undo()
    assert len(ask_together(encode, images(2))) == 2


def test_a_batch_too_large_for_the_memory_is_halved_and_says_so(noting):
    noting.sam.image_encoder.room = 2
    encode = EncoderBatches(noting, 4)
    with pytest.warns(OutOfMemoryWarning, match="with 4 images at once: going on with 2. tiles_per_batch=2 avoids"):
        made = encode(images(1)[0])
    encode(images(1)[0])  # the next one is not tried in vain: a warning would be an error
    assert noting.sam.image_encoder.shown == [(2, 3, 128, 128)] * 4
    torch.testing.assert_close(made, encode_pixels(noting, images(1)[0]), atol=1e-5, rtol=1e-5)


def test_embeddings_and_masks_are_those_of_an_encoder_of_ones_own(blob_model, clouds, monkeypatch):
    monkeypatch.setattr(encoding, "PATIENCE_SECONDS", 0.001)
    encode, image = EncoderBatches(blob_model, 2), clouds(90, 128)
    shared = embed_image(blob_model, image, encode=encode)
    torch.testing.assert_close(shared.embedding, embed_image(blob_model, image).embedding, atol=1e-5, rtol=1e-5)
    config = AutoMaskConfig(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    masks, alone = generate_masks(blob_model, image, config, encode=encode), generate_masks(blob_model, image, config)
    assert [mask.box for mask in masks] == [mask.box for mask in alone]
    assert len(masks) > 3
    np.testing.assert_allclose([m.predicted_iou for m in masks], [m.predicted_iou for m in alone], atol=1e-4)


def test_an_empty_batch_is_refused(model):
    with pytest.raises(ConfigError, match=r"at least 1 image, got 0; 4 is usual on a GPU"):
        EncoderBatches(model, 0)
