"""A map of object centres from the image embedding: where automatic runs ask for masks.

The paper's semi-automatic stage placed its first prompts with a detector (section 4); this head plays that part. It
is no part of the published checkpoints.
"""

from __future__ import annotations

from torch import Tensor, nn


class ProposalHead(nn.Module):
    """Logits of "an object's centre lies here", at twice the resolution of the image embedding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.up = nn.ConvTranspose2d(width, width // 2, kernel_size=2, stride=2)
        self.out = nn.Conv2d(width // 2, 1, kernel_size=3, padding=1)
        self.act = nn.ReLU()
        nn.init.constant_(self.out.bias, -3.0)  # type: ignore[arg-type]  # centres are rare: start by saying "none"

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, 1, 2h, 2w) centre logits of a (B, C, h, w) image embedding."""
        out: Tensor = self.out(self.act(self.up(self.act(self.mix(embedding)))))
        return out
