"""Small models for the tests of predict: the reference and ours with equal random weights, and a readable decoder."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from napari_sam.model.loading import SamModel
from oracles.pairs import small_pair


class BlobDecoder(nn.Module):
    """Draws three nested blobs around the first point of a prompt set, a little shaped by the image.

    A random network answers every point with the same texture all over the image; these masks are small, many and
    different, so the filters have something to decide. The inner product of two random Fourier codes falls off like
    a Gaussian with the distance of their places.
    """

    num_mask_tokens = 4

    def forward(
        self,
        image_embeddings: torch.Tensor,
        image_pe: torch.Tensor,
        sparse_prompt_embeddings: torch.Tensor,
        dense_prompt_embeddings: torch.Tensor,
        multimask_output: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        point = sparse_prompt_embeddings[:, 0]  # (P, C)
        nearness = torch.einsum("pc,chw->phw", point, image_pe[0]) / (point.shape[1] / 2)
        shaped = nearness + 0.15 * torch.tanh(image_embeddings[0].mean(dim=0))
        levels = torch.tensor([0.35, 0.5, 0.65] if multimask_output else [0.5])
        logits = 12 * (shaped[:, None] - levels[:, None, None])  # (P, M, h, w)
        ratings = 0.5 + 0.5 * torch.sin(5 * point.sum(dim=1, keepdim=True) + 2 * torch.arange(len(levels)))
        return F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False), ratings


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def wrap(sam: Any, **fields: Any) -> SamModel:
    """`sam` as `load_model` would return it."""
    values = {"name": "small", "fingerprint": "0" * 64, "device": torch.device("cpu"), "automatic_defaults": {}}
    return SamModel(sam=sam, config=sam.config, **(values | fields))


@pytest.fixture(scope="session")
def _networks() -> tuple[Any, Any]:
    return small_pair(seed=0)


@pytest.fixture
def pair(_networks: tuple[Any, Any]) -> SimpleNamespace:
    """`reference` (its Sam) and `model` (our SamModel) with equal random weights; frame 128 px, logits 32 x 32."""
    reference, ours = copy.deepcopy(_networks)
    return SimpleNamespace(reference=reference, model=wrap(ours))


@pytest.fixture
def model(pair: SimpleNamespace) -> SamModel:
    return pair.model


@pytest.fixture
def blob_pair(pair: SimpleNamespace) -> SimpleNamespace:
    """`pair` with the blob decoder in both."""
    pair.reference.mask_decoder = BlobDecoder()
    pair.model.sam.mask_decoder = BlobDecoder()
    return pair


@pytest.fixture
def blob_model(blob_pair: SimpleNamespace) -> SamModel:
    return blob_pair.model


class PaintedHead(nn.Module):
    """A proposal head that finds the places it was told: (row, column) cells of its map."""

    def __init__(self, *cells: tuple[int, int]) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        heat = torch.full((1, 1, 2 * embedding.shape[2], 2 * embedding.shape[3]), -6.0)
        for i, (row, column) in enumerate(self.cells):
            heat[0, 0, row, column] = 3.0 - 0.1 * i
        return heat


@pytest.fixture
def proposing_model(blob_model: SamModel) -> SamModel:
    """The blob model with proposals at three cells of its 16 x 16 map (8 px each)."""
    blob_model.sam.proposal_head = PaintedHead((4, 4), (4, 12), (11, 8))
    return wrap(blob_model.sam)


@pytest.fixture
def clouds() -> Any:
    """Function of (H, W): a smooth random RGB image."""

    def make(height: int, width: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        coarse = torch.from_numpy(rng.random((1, 3, 2 + height // 12, 2 + width // 12)))
        smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0]
        return (255 * smooth.clamp(0, 1)).permute(1, 2, 0).numpy().astype(np.uint8)

    return make
