"""The paper's image encoder: a vision transformer with windowed and global attention (paper, section 3, appendix A).

Most blocks attend inside windows, a few over the whole image; both know relative positions, decomposed into a part
along the rows and a part along the columns (Li et al. 2022, "Exploring Plain Vision Transformer Backbones").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.errors import ConfigError
from napari_sam.model.config import VitConfig
from napari_sam.model.layers import LayerNorm2d, MlpBlock


def split_windows(x: Tensor, size: int) -> Tensor:
    """Windows (B n, size, size, C) of a (B, H, W, C) map, zero-padded at the right and bottom to whole windows."""
    height, width = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
    rows, columns = x.shape[1] // size, x.shape[2] // size
    x = x.reshape(-1, rows, size, columns, size, x.shape[3])
    return x.transpose(2, 3).flatten(0, 2)


def join_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """The (B, `height`, `width`, C) map that :func:`split_windows` made `windows` of, its padding removed."""
    size = windows.shape[1]
    rows, columns = -(-height // size), -(-width // size)
    x = windows.reshape(-1, rows, columns, size, size, windows.shape[3])
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :height, :width]


def embedding_neck(width: int, out_channels: int) -> nn.Sequential:
    """Tokens (B, `width`, h, w) to image embedding (B, `out_channels`, h, w)."""
    return nn.Sequential(
        nn.Conv2d(width, out_channels, kernel_size=1, bias=False),
        LayerNorm2d(out_channels),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out_channels),
    )


class ImageEncoderVit(nn.Module):
    """(B, 3, S, S) preprocessed image to (B, C, S / patch, S / patch) image embedding.

    Parameters
    ----------
    config : VitConfig
        Width, depth, heads and windows of the transformer.
    image_size : int
        S, in pixels; absolute and relative positions are learned for this size.
    patch_size : int
        Side of the square of pixels that becomes one token.
    out_channels : int
        C, the channels of the image embedding.

    Raises
    ------
    ConfigError
        If the heads do not divide the width, or a global block does not exist.
    """

    def __init__(self, config: VitConfig, *, image_size: int, patch_size: int, out_channels: int) -> None:
        super().__init__()
        _check(config)
        side = image_size // patch_size
        self.image_size = image_size
        self.patch_embed = PatchEmbed(patch_size, config.width)
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, side, side, config.width), std=0.02))
        self.blocks = nn.ModuleList(
            Block(config, window_size=None if i in config.global_blocks else config.window_size, image_tokens=side)
            for i in range(config.depth)
        )
        self.neck = embedding_neck(config.width, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """The image embedding; raises ValueError where `x` is not (B, 3, S, S)."""
        if x.ndim != 4 or x.shape[1:] != (3, self.image_size, self.image_size):
            size = self.image_size
            raise ValueError(f"need images (B, 3, {size}, {size}), got {tuple(x.shape)}; Sam.preprocess pads them.")
        x = self.patch_embed(x) + self.pos_embed  # (B, h, w, width)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return out


class PatchEmbed(nn.Module):
    """(B, 3, S, S) image to (B, h, w, width) tokens, one a patch."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x)
        return out.permute(0, 2, 3, 1)


class Block(nn.Module):
    """Attention inside windows (or over the whole image where `window_size` is None), then an MLP."""

    def __init__(self, config: VitConfig, *, window_size: int | None, image_tokens: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = Attention(config.width, config.heads, side=window_size or image_tokens)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = MlpBlock(config.width, int(config.width * config.mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, width) tokens, updated."""
        x = x + self._attend(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def _attend(self, x: Tensor) -> Tensor:
        if self.window_size is None:
            out: Tensor = self.attn(x)
            return out
        # Padding is attended to like any token: the published weights were trained so.
        return join_windows(self.attn(split_windows(x, self.window_size)), x.shape[1], x.shape[2])


class Attention(nn.Module):
    """Multi-head self-attention over a `side` x `side` square of tokens, with relative positions."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))

    def forward(self, x: Tensor) -> Tensor:
        """(B, side, side, width) tokens, each a mix of all values."""
        batch, side, _, width = x.shape
        qkv = self.qkv(x).reshape(batch, side * side, 3, self.heads, 1, width // self.heads)
        heads = qkv.permute(3, 2, 0, 4, 1, 5)  # (heads, 3, B, 1, side^2, width / heads)
        # One head at a time: the position bias of all heads of a global block takes more memory than the weights.
        mixed = [F.scaled_dot_product_attention(q, k, v, attn_mask=self._position_bias(q, side)) for q, k, v in heads]
        out: Tensor = self.proj(torch.cat(mixed, dim=-1).reshape(batch, side, side, width))
        return out

    def _position_bias(self, q: Tensor, side: int) -> Tensor:
        """What relative positions add to the attention logits of queries (B, 1, side^2, c): (B, 1, side^2, side^2)."""
        q = q.reshape(-1, side, side, q.shape[3])
        by_row = torch.einsum("bhwc,hkc->bhwk", q, _by_distance(self.rel_pos_h))  # k: row of the key
        by_column = torch.einsum("bhwc,wkc->bhwk", q, _by_distance(self.rel_pos_w))  # k: column of the key
        return (by_row[..., :, None] + by_column[..., None, :]).reshape(-1, 1, side * side, side * side)


def _by_distance(table: Tensor) -> Tensor:
    """Rows of a (2 side - 1, C) table of distances for each query and key: (side, side, C)."""
    places = torch.arange((len(table) + 1) // 2, device=table.device)
    return table[places[:, None] - places[None, :] + len(places) - 1]


def _check(config: VitConfig) -> None:
    if config.width % config.heads:
        raise ConfigError(f"width must be a multiple of heads = {config.heads}, got {config.width}.")
    missing = [i for i in config.global_blocks if not 0 <= i < config.depth]
    if missing:
        raise ConfigError(f"global_blocks must lie in [0, depth = {config.depth}), got {missing}.")
