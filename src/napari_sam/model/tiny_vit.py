"""MobileSAM's image encoder: TinyViT (Wu et al. 2022) as Zhang et al. 2023 distilled the paper's encoder into it.

One stage of inverted residual convolutions, then three stages of windowed attention with a learned bias for each
distance. The last downsampling keeps its size, so the embedding has the paper's stride of 16.

On a CPU without gradients, batch norms are folded into their convolutions, and what widens the channels takes some rows
at a time, as in `vit`: the widened values of a whole image, 67 MB, would be fetched from memory at every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.errors import ConfigError
from napari_sam.model.config import TinyVitConfig
from napari_sam.model.products import Activation, can_use_onednn, linear
from napari_sam.model.vit import embedding_neck, join_windows, split_windows

STAGES = 4
EXPANSION = 4
"""Inner channels of the inverted residual blocks over their outer ones."""
CLASSES = 1000
"""Classes of the network that TinyViT was before it became an image encoder."""
ROWS_AT_ONCE = 16
"""Rows that a CPU brings through an inverted residual block at once; an even number."""
MERGE_STRIDES = (2, 2, 1)
"""Of the downsamplings after the first three stages; with the 4 of the patch embedding that makes 16."""


class TinyVit(nn.Module):
    """(B, 3, H, W) preprocessed image to (B, C, H / 16, W / 16) image embedding.

    No parameter depends on the size of the image. `norm_head` and `head`, the classifier of TinyViT's pretraining,
    are not used: they are here, frozen, since the published checkpoints hold them, and so load and save strictly.

    Parameters
    ----------
    config : TinyVitConfig
        Widths, depths, heads and windows of the four stages.
    image_size : int
        Side of the frame in pixels, a multiple of 16.
    out_channels : int
        C, the channels of the image embedding.

    Raises
    ------
    ConfigError
        If the stages are not four, the heads do not divide the widths, or `image_size` is no multiple of 16.
    """

    stride = 16

    def __init__(self, config: TinyVitConfig, *, image_size: int, out_channels: int) -> None:
        super().__init__()
        _check(config, image_size)
        self.patch_embed = PatchEmbed(config.widths[0])
        self.layers = nn.ModuleList(_stage(config, i) for i in range(STAGES))
        self.norm_head = nn.LayerNorm(config.widths[-1]).requires_grad_(False)
        self.head = nn.Linear(config.widths[-1], CLASSES).requires_grad_(False)
        self.neck = embedding_neck(config.widths[-1], out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """The image embedding; H and W are multiples of 16."""
        x = self.patch_embed(x)  # (B, C0, H/4, W/4)
        for stage in self.layers:
            x = stage(x)
        out: Tensor = self.neck(x)  # (B, C, H/16, W/16)
        return out


def _stage(config: TinyVitConfig, i: int) -> Stage:
    width = config.widths[i]
    blocks: list[nn.Module] = [
        TinyVitBlock(width, config.heads[i], window_size=config.window_sizes[i], mlp_ratio=config.mlp_ratio)
        if i
        else MBConv(width)
        for _ in range(config.depths[i])
    ]
    downsample = PatchMerging(width, config.widths[i + 1], stride=MERGE_STRIDES[i]) if i + 1 < STAGES else None
    return Stage(blocks, downsample)


class ConvNorm(nn.Sequential):
    """A convolution without bias and its batch norm, under their published names."""

    c: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(
        self, channels_in: int, channels_out: int, *, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        convolution = nn.Conv2d(
            channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.add_module("c", convolution)
        self.add_module("bn", nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor, activation: Activation = "none") -> Tensor:
        """Convolved, normalised, then activated; in one step where nothing is learned."""
        if self.bn.training or not can_use_onednn(x):
            x = self.bn(self.c(x))
            return F.gelu(x) if activation == "gelu" else x
        weight, bias = self.folded()
        if self.c.kernel_size == (1, 1):
            return linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias, activation).permute(0, 3, 1, 2)
        x = F.conv2d(x, weight, bias, self.c.stride, self.c.padding, groups=self.c.groups)
        return F.gelu(x) if activation == "gelu" else x

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution that does what both do in evaluation mode.

        Made anew each time: it costs little beside the convolution, and the weights may have changed.
        """
        mean, variance = cast(Tensor, self.bn.running_mean), cast(Tensor, self.bn.running_var)
        scale = self.bn.weight * (variance + self.bn.eps).rsqrt()
        return self.c.weight * scale[:, None, None, None], self.bn.bias - mean * scale


class PatchEmbed(nn.Module):
    """(B, 3, H, W) image to (B, width, H / 4, W / 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(3, width // 2, kernel=3, stride=2), nn.GELU(), ConvNorm(width // 2, width, kernel=3, stride=2)
        )

    def forward(self, x: Tensor) -> Tensor:
        first, _, second = self.seq
        out: Tensor = second(first(_pixels_together(x), "gelu"))
        return out


class MBConv(nn.Module):
    """Inverted residual block: widen, convolve each channel by itself, narrow; then the shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = EXPANSION * width
        self.conv1 = ConvNorm(width, inner)
        self.conv2 = ConvNorm(inner, inner, kernel=3, groups=inner)
        self.conv3 = ConvNorm(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        bands = _inner_convolutions(x, self.conv1, self.conv2)
        return torch.cat([F.gelu(x[:, :, rows] + self.conv3(inner)) for rows, inner in bands], dim=2)


class PatchMerging(nn.Module):
    """(B, C, H, W) to the next stage's width and, by `stride`, its size."""

    def __init__(self, width: int, width_out: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, width_out)
        self.conv2 = ConvNorm(width_out, width_out, kernel=3, stride=stride, groups=width_out)
        self.conv3 = ConvNorm(width_out, width_out)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv3(inner) for _, inner in _inner_convolutions(x, self.conv1, self.conv2)], dim=2)


def _inner_convolutions(x: Tensor, widen: ConvNorm, mix: ConvNorm) -> Iterator[tuple[slice, Tensor]]:
    """Rows of `x` (B, C, H, W), and what `widen` and then the 3x3 convolution `mix` make of them, both with GELU.

    The bands follow each other from the top. Where gradients are wanted, or on a GPU, all rows are one.
    """
    height = x.shape[2]
    if widen.bn.training or not can_use_onednn(x):
        yield slice(0, height), mix(widen(x, "gelu"), "gelu")
        return
    weight, bias = mix.folded()
    for top in range(0, height, ROWS_AT_ONCE):
        bottom = min(top + ROWS_AT_ONCE, height)
        wide = widen(x[:, :, max(top - 1, 0) : bottom + 1], "gelu")
        if top == 0 or bottom == height:  # elsewhere neighbouring rows take the place of the padding
            wide = F.pad(wide, (0, 0, int(top == 0), int(bottom == height)))
        mixed = F.conv2d(wide, weight, bias, mix.c.stride, padding=(0, 1), groups=mix.c.groups)
        yield slice(top, bottom), F.gelu(mixed)


def _pixels_together(x: Tensor) -> Tensor:
    """`x` (B, C, H, W) with the channels of a pixel side by side in memory, where that is faster."""
    return x.contiguous(memory_format=torch.channels_last) if can_use_onednn(x) else x


class Stage(nn.Module):
    """Blocks of one width, then the way to the next stage (the last has none)."""

    def __init__(self, blocks: list[nn.Module], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        if self.downsample is not None:
            x = self.downsample(x)
        return x


class TinyVitBlock(nn.Module):
    """Attention inside windows, a 3x3 convolution across their borders, an MLP; (B, C, H, W) in and out."""

    def __init__(self, width: int, heads: int, *, window_size: int, mlp_ratio: float) -> None:
        super().__init__()
        self.window_size = window_size
        self.attn = WindowAttention(width, heads, side=window_size)
        self.local_conv = ConvNorm(width, width, kernel=3, groups=width)
        self.mlp = NormMlp(width, int(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        x = x + self.attn(x)
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        # As many rows at once as a window has: the hidden values then stay in the cache.
        bands = x.split(self.window_size if can_use_onednn(x) else x.shape[1], dim=1)
        return torch.cat([band + self.mlp(band) for band in bands], dim=1).permute(0, 3, 1, 2)


class NormMlp(nn.Module):
    """Layer norm, then two linear layers; channels last."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = linear(self.norm(x), self.fc1.weight, self.fc1.bias, "gelu")
        return linear(hidden, self.fc2.weight, self.fc2.bias)


class WindowAttention(nn.Module):
    """Layer norm and multi-head self-attention inside windows of `side` x `side` tokens.

    A learned bias for each distance |dy|, |dx| between tokens takes part.
    """

    bias_index: Tensor

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.side = side
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, side * side))
        self.register_buffer("bias_index", _distance_index(side), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) tokens, each a mix of all values of its window."""
        bias = self.attention_biases[:, self.bias_index]  # (heads, side^2, side^2)
        bands = x.split(self.side if can_use_onednn(x) else x.shape[1], dim=1)
        return torch.cat([self._mix(band, bias) for band in bands], dim=1)

    def _mix(self, x: Tensor, bias: Tensor) -> Tensor:
        # Padding is attended to like any token, as the published weights were trained; all of it has the same queries,
        # keys and values, those of a token of zeros.
        padding = linear(self.norm(x.new_zeros(x.shape[3])), self.qkv.weight, self.qkv.bias)
        windows = split_windows(linear(self.norm(x), self.qkv.weight, self.qkv.bias), self.side, padding=padding)
        qkv = windows.reshape(len(windows), self.side**2, self.heads, -1)  # the last: 3 C / heads
        q, k, v = qkv.transpose(1, 2).chunk(3, dim=-1)  # each (B n, heads, side^2, C / heads)
        # A bias of four dimensions: with three, torch does not take its fast way.
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype)[None])
        mixed = mixed.transpose(1, 2).reshape(len(windows), self.side, self.side, -1)
        return linear(join_windows(mixed, *x.shape[1:3]), self.proj.weight, self.proj.bias)


def _distance_index(side: int) -> Tensor:
    """|dy| * side + |dx| between all tokens of a square, (side^2, side^2): the published order of the biases."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    dy, dx = ((places.flatten()[:, None] - places.flatten()).abs() for places in (rows, columns))
    return dy * side + dx


def _check(config: TinyVitConfig, image_size: int) -> None:
    if any(len(values) != STAGES for values in (config.widths, config.depths, config.heads, config.window_sizes)):
        raise ConfigError(f"widths, depths, heads and window_sizes must each name {STAGES} stages, got {config}.")
    if any(width % heads for width, heads in zip(config.widths, config.heads, strict=True)):
        raise ConfigError(f"each of widths must be a multiple of its heads, got {config.widths} and {config.heads}.")
    if image_size % TinyVit.stride:
        raise ConfigError(f"image_size must be a multiple of {TinyVit.stride} for TinyViT, got {image_size}.")
