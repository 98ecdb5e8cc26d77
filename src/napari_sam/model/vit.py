"""The paper's image encoder: a vision transformer with windowed and global attention (paper, section 3, appendix A).

Most blocks attend inside windows, a few over the whole image; both know relative positions, decomposed into a part
along the rows and a part along the columns (Li et al. 2022, "Exploring Plain Vision Transformer Backbones").

On a CPU a block works on a few rows of tokens at a time: what one step leaves for the next is still in the cache, and
no temporary is so large that its memory is mapped and unmapped each time, which costs much of the time otherwise.
Without gradients its matrix products go to oneDNN (see `products`), those of attention over the whole image as well.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.errors import ConfigError
from napari_sam.model.config import VitConfig
from napari_sam.model.layers import LayerNorm2d, MlpBlock
from napari_sam.model.products import can_use_onednn, linear

ROWS_AT_ONCE = 4
"""Rows of tokens that a CPU brings through a layer at once. For an image of 64 x 64 tokens their attention logits to
all tokens, of one head, take 4 MB; two rows and eight were slower."""


def split_windows(x: Tensor, size: int, padding: Tensor | None = None) -> Tensor:
    """Windows (B n, size, size, C) of a (B, H, W, C) map, padded at the right and bottom to whole windows.

    `padding` (C,) is what the padding holds; left out, it is zero.
    """
    height, width = x.shape[1:3]
    if padding is None:
        x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
    elif width % size or height % size:
        padded = padding.expand(len(x), height + -height % size, width + -width % size, -1).clone()
        padded[:, :height, :width] = x
        x = padded
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
        height = x.shape[1]
        on_cpu = x.device.type == "cpu"
        rows = ROWS_AT_ONCE if on_cpu else height
        if self.window_size is None:
            mixed = self._mix_all(x, rows)
        else:
            size = self.window_size
            bands = x.split(size if on_cpu else height, dim=1)
            mixed = torch.cat([self._mix_windows(band, size) for band in bands], dim=1)
        parts = zip(x.split(rows, dim=1), mixed.split(rows, dim=1), strict=True)
        return torch.cat([self._finish(part, values) for part, values in parts], dim=1)

    def _mix_all(self, x: Tensor, rows: int) -> Tensor:
        """For each token of (B, h, w, width) the values of the whole image that it attends to, `rows` at a time."""
        q, k, v = torch.cat([self.attn.project(self.norm1(part)) for part in x.split(rows, dim=1)], dim=3)
        mixed = [self.attn.mix(part, k, v, first_row=i * rows) for i, part in enumerate(q.split(rows, dim=2))]
        return torch.cat(mixed, dim=1)

    def _mix_windows(self, x: Tensor, size: int) -> Tensor:
        """For each token of (B, h, w, width) the values of its window that it attends to."""
        height, width = x.shape[1:3]
        # Padding is attended to like any token: the published weights were trained so. It need not be computed, though:
        # all of it has the keys and values of a token of zeros.
        qkv = split_windows(
            self.attn.apply_qkv(self.norm1(x)), size, padding=self.attn.apply_qkv(x.new_zeros(x.shape[3]))
        )
        return join_windows(self.attn.mix(*self.attn.split_heads(qkv)), height, width)

    def _finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Tokens `x` after the values they attended to were added, and the MLP."""
        x = x + linear(mixed, self.attn.proj.weight, self.attn.proj.bias)
        hidden = linear(self.norm2(x), self.mlp.lin1.weight, self.mlp.lin1.bias, "gelu")
        return x + linear(hidden, self.mlp.lin2.weight, self.mlp.lin2.bias)


class Attention(nn.Module):
    """Multi-head self-attention over a `side` x `side` square of tokens, with relative positions."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values of (B, h, w, width) tokens: (3, B, heads, h, w, c)."""
        return self.split_heads(self.apply_qkv(x))

    def apply_qkv(self, x: Tensor) -> Tensor:
        """(..., width) tokens to (..., 3 width)."""
        return linear(x, self.qkv.weight, self.qkv.bias)

    def split_heads(self, qkv: Tensor) -> Tensor:
        """(B, h, w, 3 width) as (3, B, heads, h, w, c)."""
        out: Tensor = qkv.unflatten(3, (3, self.heads, -1)).permute(3, 0, 4, 1, 2, 5)
        return out

    def mix(self, q: Tensor, k: Tensor, v: Tensor, *, first_row: int = 0) -> Tensor:
        """The values that queries (B, heads, h, w, c) attend to: (B, h, w, width).

        Keys and values (B, heads, side, side, c) are of the whole square, the queries of its rows from `first_row` on.
        """
        by_row, by_column = self._position_bias(q, first_row)
        k, v = k.flatten(2, 3), v.flatten(2, 3)
        heads = zip(*(x.unbind(1) for x in (q, k, v, by_row, by_column)), strict=True)
        # One head at a time: the attention logits of all heads of a global block take more memory than the weights.
        return torch.cat([_mix_head(*parts) for parts in heads], dim=-1)

    def _position_bias(self, q: Tensor, first_row: int) -> tuple[Tensor, Tensor]:
        """What relative positions add to the attention logits of queries (B, heads, h, w, c), by the row and by the
        column of the key: each (B, heads, h, w, side)."""
        rows = _by_distance(self.rel_pos_h)[first_row : first_row + q.shape[2]]
        by_row = torch.einsum("bnhwc,hkc->bnhwk", q, rows)
        by_column = torch.einsum("bnhwc,wkc->bnhwk", q, _by_distance(self.rel_pos_w))
        return by_row, by_column


def _mix_head(q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
    """What queries (B, h, w, c) attend to among values (B, side^2, c) with keys of the same shape: (B, h, w, c)."""
    if can_use_onednn(q) and len(q) == 1:
        logits = linear(q * q.shape[-1] ** -0.5, k[0]).unflatten(3, by_row.shape[3:] + by_column.shape[3:])
        logits += by_row[..., :, None]
        logits += by_column[..., None, :]
        return linear(logits.flatten(3).softmax(-1), v[0].T)
    bias = (by_row[..., :, None] + by_column[..., None, :]).flatten(3, 4).flatten(1, 2)  # (B, h w, side^2)
    mixed = F.scaled_dot_product_attention(q.flatten(1, 2)[:, None], k[:, None], v[:, None], attn_mask=bias[:, None])
    return mixed.view(q.shape)


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
