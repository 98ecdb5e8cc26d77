"""The two-way transformer: prompt tokens and image tokens attend to each other (paper, appendix A, figure 14)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from napari_sam.model.layers import MlpBlock


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than the tokens'."""

    def __init__(self, width: int, heads: int, downsample_rate: int = 1) -> None:
        super().__init__()
        inner = width // downsample_rate
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, Nq, C) queries over (B, Nk, C) keys and values."""
        q, k, v = (self.split_heads(proj(x)) for proj, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v)))
        # Written out: one side has a handful of tokens, where fused attention kernels are slower, most so backwards.
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)  # (B, heads, Nq, Nk)
        mixed = weights @ v  # (B, heads, Nq, inner / heads)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def split_heads(self, x: Tensor) -> Tensor:
        """Projected tokens (B, N, inner) as (B, heads, N, inner / heads)."""
        out: Tensor = x.unflatten(2, (self.heads, -1)).transpose(1, 2)
        return out


class TwoWayAttentionBlock(nn.Module):
    """Self-attention of the tokens, tokens to image, an MLP on the tokens, image to tokens."""

    def __init__(self, width: int, heads: int, mlp_dim: int, *, skip_first_pe: bool, downsample_rate: int = 2) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, heads, downsample_rate)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MlpBlock(width, mlp_dim, nn.ReLU)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, heads, downsample_rate)
        self.skip_first_pe = skip_first_pe

    def forward(self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Updated `tokens` (P, K, C) and `image` (P, N, C)."""
        tokens = self.attend_tokens(tokens, token_pe)
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_pe, image + image_pe, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(image + image_pe, tokens + token_pe, tokens))
        return tokens, image

    def attend_tokens(self, tokens: Tensor, token_pe: Tensor) -> Tensor:
        """Self-attention of the tokens (P, K, C), normalised."""
        if self.skip_first_pe:  # in the first block the tokens ARE their positional encoding
            attended = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_pe
            attended = tokens + self.self_attn(placed, placed, tokens)
        out: Tensor = self.norm1(attended)
        return out


class TwoWayTransformer(nn.Module):
    """`depth` two-way blocks and a last attention of the tokens to the image."""

    def __init__(self, *, depth: int, width: int, heads: int, mlp_dim: int, downsample_rate: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(width, heads, mlp_dim, skip_first_pe=i == 0, downsample_rate=downsample_rate)
            for i in range(depth)
        )
        self.final_attn_token_to_image = Attention(width, heads, downsample_rate)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (P, K, C) and image tokens (P, h w, C) after attending to each other.

        `image` and `image_pe` are (P, C, h, w); `tokens` serve as their own positional encoding throughout.
        """
        image = image.flatten(2).transpose(1, 2)  # (P, h w, C)
        image_pe = image_pe.flatten(2).transpose(1, 2)
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe)
        attended = self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens + attended), image
