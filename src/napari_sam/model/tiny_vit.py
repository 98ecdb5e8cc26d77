"""MobileSAM's image encoder: TinyViT (Wu et al. 2022) as Zhang et al. 2023 distilled the paper's encoder into it.

One stage of inverted residual convolutions, then three stages of windowed attention with a learned bias for each
distance. The last downsampling keeps its size, so the embedding has the paper's stride of 16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.errors import ConfigError
from napari_sam.model.config import TinyVitConfig
from napari_sam.model.vit import embedding_neck, join_windows, split_windows

STAGES = 4
EXPANSION = 4
"""Inner channels of the inverted residual blocks over their outer ones."""
CLASSES = 1000
"""Classes of the network that TinyViT was before it became an image encoder."""
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

    def __init__(
        self, channels_in: int, channels_out: int, *, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        convolution = nn.Conv2d(
            channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.add_module("c", convolution)
        self.add_module("bn", nn.BatchNorm2d(channels_out))


class PatchEmbed(nn.Module):
    """(B, 3, H, W) image to (B, width, H / 4, W / 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(3, width // 2, kernel=3, stride=2), nn.GELU(), ConvNorm(width // 2, width, kernel=3, stride=2)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.seq(x)
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
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class PatchMerging(nn.Module):
    """(B, C, H, W) to the next stage's width and, by `stride`, its size."""

    def __init__(self, width: int, width_out: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, width_out)
        self.conv2 = ConvNorm(width_out, width_out, kernel=3, stride=stride, groups=width_out)
        self.conv3 = ConvNorm(width_out, width_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return out


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
        height, width = x.shape[-2:]
        windows = split_windows(x.permute(0, 2, 3, 1), self.window_size)  # (B n, side, side, C)
        x = x + join_windows(self.attn(windows), height, width).permute(0, 3, 1, 2)
        x = self.local_conv(x)
        out: Tensor = x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


class NormMlp(nn.Module):
    """Layer norm, then two linear layers; channels last."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return out


class WindowAttention(nn.Module):
    """Layer norm and multi-head self-attention, with a learned bias for each distance |dy|, |dx| between tokens."""

    bias_index: Tensor

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, side * side))
        self.register_buffer("bias_index", _distance_index(side), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, side, side, C) tokens, each a mix of all values of its window."""
        batch, side, _, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, side * side, self.heads, -1)  # the last: 3 C / heads
        q, k, v = qkv.transpose(1, 2).chunk(3, dim=-1)  # each (B, heads, side^2, C / heads)
        bias = self.attention_biases[:, self.bias_index].to(q.dtype)  # (heads, side^2, side^2)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, side, side, width))
        return out


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
