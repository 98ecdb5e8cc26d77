"""Whole-image instances from the image embedding: which pixels are objects, where they border, how good a region is.

No part of the published checkpoints. The paper's decoder answers one prompt at a time; a small network learns dense
maps of a whole image far more easily, and the regions they give are offered as answers beside the decoder's
(:mod:`napari_sam.predict.instances`).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

SHAPE_FEATURES = 8
"""What a region is rated by besides its mean features; :func:`napari_sam.predict.regions.region_features`."""


class InstanceHead(nn.Module):
    """Foreground and border logits at four times the resolution of the image embedding, and a rating of regions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up1 = nn.ConvTranspose2d(width, width // 2, kernel_size=2, stride=2)
        self.up2 = nn.ConvTranspose2d(width // 2, width // 4, kernel_size=2, stride=2)
        self.out = nn.Conv2d(width // 4, 2, kernel_size=3, padding=1)
        self.rating = nn.Sequential(
            nn.Linear(width // 4 + SHAPE_FEATURES, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid()
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, 2, 4h, 4w) logits of a (B, C, h, w) embedding: on an object; on an object's border."""
        logits: Tensor = self.out(self.features(embedding))
        return logits

    def features(self, embedding: Tensor) -> Tensor:
        """(B, C / 4, 4h, 4w) what the logits are made of, and what the rating looks at."""
        return F.relu(self.up2(F.relu(self.up1(embedding))))

    def rate(self, features: Tensor) -> Tensor:
        """(N,) predicted IoU of regions, from (N, C / 4 + SHAPE_FEATURES)."""
        rated: Tensor = self.rating(features)[:, 0]
        return rated
