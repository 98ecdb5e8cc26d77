"""Low-rank changes of an image encoder (Hu et al. 2021): few weights to train, merged into the old ones at the end."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from napari_sam.errors import ConfigError

ATTENTION_LAYERS = ("qkv", "proj")
"""The linear layers of an attention block, by name."""


class LowRankChange(nn.Module):
    """A weight to the same plus the product of two thin matrices; at first exactly the same."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        inputs = weight.flatten(1).shape[1]
        self.down = nn.Parameter(weight.new_empty(rank, inputs).normal_(std=inputs**-0.5))
        self.up = nn.Parameter(weight.new_zeros(len(weight), rank))

    def forward(self, weight: Tensor) -> Tensor:
        """`weight` of any shape (out, ...), changed."""
        with torch.autocast(weight.device.type, enabled=False):  # weights are summed at full precision
            return weight + (self.up @ self.down).view_as(weight)


def add_lora(encoder: nn.Module, rank: int) -> None:
    """Freeze `encoder` and give its attention layers, or its convolutions if it has none, a change of this rank.

    Raises
    ------
    ConfigError
        If it has neither.
    """
    encoder.requires_grad_(False)
    convolutions = (module for module in encoder.modules() if isinstance(module, nn.Conv2d))
    layers: list[nn.Linear] | list[nn.Conv2d] = list(_attention_layers(encoder)) or list(convolutions)
    if not layers:
        raise ConfigError("lora_rank needs an encoder with attention or convolutions; this one has neither.")
    for layer in layers:
        weight = layer.weight
        thin = min(rank, len(weight), weight.flatten(1).shape[1])
        parametrize.register_parametrization(layer, "weight", LowRankChange(weight.detach(), thin))


def merge_lora(encoder: nn.Module) -> None:
    """Put the changes into the weights; names and layers are then those of the plain network."""
    for module in list(encoder.modules()):
        if parametrize.is_parametrized(module, "weight"):
            _merge(module)


def _merge(layer: nn.Module) -> None:
    """Make a changed layer a plain one.

    Not by torch's own removal: it takes the weight from the layer's class, which copies of the layer share.
    """
    weight = layer.weight.detach().clone()  # type: ignore[operator]
    del layer.parametrizations
    layer.__class__ = type(layer).__mro__[1]
    layer.register_parameter("weight", nn.Parameter(weight))


def _attention_layers(encoder: nn.Module) -> Iterator[nn.Linear]:
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Linear) and name.split(".")[-1] in ATTENTION_LAYERS:
            yield module
