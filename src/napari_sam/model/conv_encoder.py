"""A small convolutional image encoder for CPUs: the encoder of the built-in model.

A residual pyramid down to stride 32 and back up to the stride of the embedding, with the fine strides folded in by
pixel unshuffling. Each pixel of the embedding also predicts where the centre of its object lies and carries the
positional encoding of that place, so that the decoder finds "the same object" as a linear match.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.model.config import ConvConfig
from napari_sam.model.prompt_encoder import PositionEmbeddingRandom

CENTRE_UNIT_PX = 32.0
"""The centre offsets are predicted in this many frame pixels, to be of order one."""


def _conv_bn(channels_in: int, channels_out: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
    )


def _twice_as_large(x: Tensor, like: Tensor) -> Tensor:
    """`x` with each value four times, less the last row or column where `like` has an odd number of them."""
    return F.interpolate(x, scale_factor=2.0)[..., : like.shape[2], : like.shape[3]]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _conv_bn(channels, channels)
        self.conv2 = _conv_bn(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(x + self.conv2(F.relu_(self.conv1(x))))


class ConvEncoder(nn.Module):
    """(B, 3, H, W) preprocessed image to (B, C, H / 8, W / 8) image embedding; H and W are multiples of 8."""

    stride = 8

    def __init__(
        self, config: ConvConfig, *, out_channels: int, image_size: int, position_scales: tuple[float, ...]
    ) -> None:
        super().__init__()
        w2, w4, w8, w16, w32 = config.widths
        self.image_size = image_size
        self.stem = _conv_bn(3, w2, stride=2)
        self.down = nn.ModuleList(_conv_bn(a, b, stride=2) for a, b in ((w2, w4), (w4, w8), (w8, w16), (w16, w32)))
        self.stages = nn.ModuleList(
            nn.Sequential(*[ResidualBlock(width) for _ in range(depth)])
            for width, depth in zip(config.widths, config.depths, strict=True)
        )
        self.lateral32 = _conv_bn(w32, w16, kernel=1)
        self.merge16 = ResidualBlock(w16)
        self.lateral16 = _conv_bn(w16, out_channels, kernel=1)
        self.lateral8 = _conv_bn(w8, out_channels, kernel=1)
        self.lateral4 = _conv_bn(4 * w4, out_channels, kernel=1)
        self.lateral2 = _conv_bn(16 * w2, out_channels, kernel=1)
        self.merge8 = nn.Sequential(ResidualBlock(out_channels), ResidualBlock(out_channels))
        self.offset_head = nn.Conv2d(out_channels, 2, kernel_size=3, padding=1)
        self.centre_pe = PositionEmbeddingRandom(config.centre_channels, position_scales)
        self.fuse = _conv_bn(out_channels + config.centre_channels, out_channels, kernel=1)
        self.merge_out = ResidualBlock(out_channels)
        self.project = nn.Conv2d(out_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor, *, origin_px: Tensor | None = None) -> Tensor:
        """The image embedding; see :meth:`embed`."""
        return self.embed(x, origin_px=origin_px)[0]

    def embed(self, x: Tensor, *, origin_px: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Image embedding (B, C, h, w) and centre offsets (B, 2, h, w).

        `origin_px` (B, 2), (x, y), says where in the model's frame the first pixel of `x` lies; training crops are
        smaller than the frame. The offsets lead from each embedding pixel to the centre of its object, (x, y) in
        units of `CENTRE_UNIT_PX`.
        """
        if not self.training:  # on CPUs a quarter faster, together with the ReLUs that work in place
            x = x.contiguous(memory_format=torch.channels_last)
        features = []
        x = F.relu_(self.stem(x))
        for i, stage in enumerate(self.stages):
            x = stage(x if i == 0 else F.relu_(self.down[i - 1](x)))
            features.append(x)
        f2, f4, f8, f16, f32 = features
        up16 = self.merge16(F.relu_(f16 + _twice_as_large(self.lateral32(f32), f16)))
        mixed = self.lateral8(f8) + self.lateral4(F.pixel_unshuffle(f4, 2)) + self.lateral2(F.pixel_unshuffle(f2, 4))
        features8 = self.merge8(F.relu_(mixed + _twice_as_large(self.lateral16(up16), mixed)))
        offsets = self.offset_head(features8).float()
        centres = self.centre_pe.encode(self._centre_places(offsets, origin_px)).permute(0, 3, 1, 2)  # (B, C', h, w)
        fused = F.relu_(self.fuse(torch.cat([features8, centres.to(features8.dtype)], dim=1)))
        return self.project(self.merge_out(fused)), offsets

    def _centre_places(self, offsets: Tensor, origin_px: Tensor | None) -> Tensor:
        """Where each embedding pixel sees its object's centre: (B, h, w, 2), (x, y) in [0, 1] of the frame."""
        h, w = offsets.shape[-2:]
        y, x = (
            torch.arange(n, device=offsets.device, dtype=offsets.dtype) * self.stride + self.stride / 2 for n in (h, w)
        )
        places = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), dim=-1)  # (h, w, 2)
        if origin_px is not None:
            places = places + origin_px[:, None, None, :]
        return (places + offsets.permute(0, 2, 3, 1) * CENTRE_UNIT_PX) / self.image_size
