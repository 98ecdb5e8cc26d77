"""What a network looks like: the one description from which it is built and that travels with its weights.

`SamConfig` and one encoder config make a :class:`napari_sam.model.sam.Sam`. Both turn into JSON and back, so that a
checkpoint of our own format (safetensors) carries its architecture in its header.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from napari_sam.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class VitConfig:
    """The paper's image encoder: a plain vision transformer with windowed and some global attention blocks."""

    kind: ClassVar[str] = "vit"
    width: int = 768
    """Channels of the tokens."""
    depth: int = 12
    """Number of transformer blocks."""
    heads: int = 12
    """Attention heads of each block."""
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    """Blocks that attend over the whole image; the others attend inside windows."""
    window_size: int = 14
    """Side of an attention window, in tokens."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLPs over the tokens' width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyVitConfig:
    """MobileSAM's image encoder: convolutions first, then three stages of windowed attention."""

    kind: ClassVar[str] = "tiny_vit"
    widths: tuple[int, ...] = (64, 128, 160, 320)
    """Channels of the four stages."""
    depths: tuple[int, ...] = (2, 2, 6, 2)
    """Blocks of the four stages."""
    heads: tuple[int, ...] = (2, 4, 5, 10)
    """Attention heads of the four stages (the first is convolutional and has none)."""
    window_sizes: tuple[int, ...] = (7, 7, 14, 7)
    """Side of the attention windows of the four stages, in tokens."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLPs over the tokens' width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvConfig:
    """A small convolutional pyramid for CPUs; each embedding pixel also carries where the centre of its object lies."""

    kind: ClassVar[str] = "conv"
    widths: tuple[int, ...] = (32, 64, 128, 160, 224)
    """Channels at strides 2, 4, 8, 16 and 32."""
    depths: tuple[int, ...] = (1, 2, 3, 3, 2)
    """Residual blocks at these strides."""
    centre_channels: int = 64
    """Channels of the positional encoding of object centres."""


EncoderConfig = VitConfig | TinyVitConfig | ConvConfig
_ENCODERS: dict[str, type[VitConfig] | type[TinyVitConfig] | type[ConvConfig]] = {
    c.kind: c for c in (VitConfig, TinyVitConfig, ConvConfig)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SamConfig:
    """A whole Segment Anything network. The defaults are the published ones (paper, appendix A)."""

    encoder: EncoderConfig
    """The image encoder; all that differs between the published models."""
    image_size: int = 1024
    """Side of the square frame the image is resized and padded to, in pixels."""
    embedding_stride: int = 16
    """Pixels of the frame per pixel of the image embedding."""
    prompt_embed_dim: int = 256
    """Channels of image embedding, prompt tokens and decoder."""
    mask_in_channels: int = 16
    """Hidden channels of the convolutions that embed a mask prompt."""
    decoder_depth: int = 2
    """Two-way transformer blocks."""
    decoder_heads: int = 8
    """Attention heads in the decoder."""
    decoder_mlp_dim: int = 2048
    """Hidden width of the decoder's MLP."""
    iou_head_hidden_dim: int = 256
    """Hidden width of the head that predicts the masks' IoU."""
    num_multimask_outputs: int = 3
    """Masks given for an ambiguous prompt, besides the one for an unambiguous prompt."""
    position_scales: tuple[float, ...] = (1.0,)
    """Standard deviations of the random frequencies of the positional encoding: a larger one tells nearer places
    apart."""
    has_proposals: bool = False
    """Whether the network has a proposal head (a map of object centres)."""
    has_instances: bool = False
    """Whether it has an instance head (foreground and borders), which grows regions from the proposals."""
    text_embed_dim: int = 0
    """Channels of a CLIP embedding that the prompt encoder takes as a prompt; 0 for a network that takes none."""
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    """Subtracted from the RGB image, in 0 to 255."""
    pixel_std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    """The image is divided by this after the subtraction."""
    mask_threshold: float = 0.0
    """Mask logits above this belong to the mask."""

    def __post_init__(self) -> None:
        if self.image_size % self.embedding_stride:
            raise ConfigError(
                f"image_size must be a multiple of embedding_stride = {self.embedding_stride}, got {self.image_size}."
            )
        if self.prompt_embed_dim % (2 * len(self.position_scales)):
            raise ConfigError(
                f"prompt_embed_dim must be a multiple of {2 * len(self.position_scales)} (two channels for each of the "
                f"{len(self.position_scales)} position_scales), got {self.prompt_embed_dim}."
            )
        if self.text_embed_dim < 0:
            raise ConfigError(f"text_embed_dim must be 0 (no text prompts) or more, got {self.text_embed_dim}.")
        if self.has_instances and not self.has_proposals:
            raise ConfigError("has_instances needs has_proposals: regions grow from the proposal head's centres.")

    @property
    def embedding_size(self) -> int:
        """Side of the image embedding."""
        return self.image_size // self.embedding_stride

    def to_json(self) -> str:
        """This network as JSON text, for a checkpoint's header."""
        fields = asdict(self)
        fields["encoder"] = {"kind": self.encoder.kind, **fields["encoder"]}
        return json.dumps(fields, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> SamConfig:
        """The network described by `text`; raises ConfigError where it is not one of :meth:`to_json`."""
        try:
            fields = {k: _tuples(v) for k, v in json.loads(text).items()}
            encoder = dict(fields.pop("encoder"))
            made = _ENCODERS[encoder.pop("kind")](**{k: _tuples(v) for k, v in encoder.items()})
            return SamConfig(encoder=made, **fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"not the description of a network: {error!r} in {text[:200]!r}.") from error


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
