"""The public reference implementations of SAM and MobileSAM, with seeded random weights.

Test-only oracles: `segment-anything-py` and `mobilesam-mirror` (both equal to the authors' repositories byte for
byte). Use as ``from oracles.reference import build_reference_sam``.
"""

from __future__ import annotations

import importlib
import math
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import nn

from oracles.torchvision_stub import importable_references


def import_segment_anything() -> ModuleType:
    """The reference package of Kirillov et al. 2023: `.SamPredictor`, `.SamAutomaticMaskGenerator`, ..."""
    with importable_references():
        return importlib.import_module("segment_anything")


def import_mobile_sam() -> ModuleType:
    """The reference package of MobileSAM (Zhang et al. 2023), which adds the TinyViT encoder."""
    with importable_references():
        return importlib.import_module("mobile_sam")


def randomise(module: nn.Module, seed: int) -> nn.Module:
    """`module` with every parameter and running statistic drawn anew, so that none is 0 and outputs are near 1.

    Weights get variance 1 / fan-in; gains lie near 1; biases, relative and absolute positions near 0.
    Batch-norm gains keep their scale, so residual branches initialised to nothing take part.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(_scaled(name, noise))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
            elif name.endswith("positional_encoding_gaussian_matrix"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator))
    # Some modules (TinyViT's attention) keep copies of parameters in evaluation mode: make them anew.
    return module.train().eval()


def _scaled(name: str, noise: torch.Tensor) -> torch.Tensor:
    if noise.ndim == 1:
        return 1 + 0.1 * noise if name.endswith("weight") else 0.1 * noise
    if any(word in name for word in ("rel_pos", "pos_embed", "attention_biases")):
        return 0.2 * noise
    if any(word in name for word in ("embed", "token")) and noise.ndim == 2 and noise.shape[0] <= 4:
        return noise  # learned prompt and output tokens
    return noise / math.sqrt(noise[0].numel())


def build_reference_sam(
    *,
    image_size: int = 128,
    encoder_width: int = 64,
    encoder_depth: int = 4,
    encoder_heads: int = 4,
    global_attention_blocks: tuple[int, ...] = (1, 3),
    window_size: int = 5,
    embedding_width: int = 64,
    decoder_heads: int = 4,
    decoder_mlp_width: int = 128,
    iou_head_width: int = 32,
    seed: int = 0,
) -> Any:
    """A small reference `Sam` with random weights, in evaluation mode.

    Its image embedding is (1, `embedding_width`, `image_size` / 16, `image_size` / 16). The default window of 5
    does not divide the default 8 x 8 tokens, so window padding takes part.
    """
    modeling = import_segment_anything().modeling
    tokens = image_size // 16
    sam = modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            img_size=image_size,
            embed_dim=encoder_width,
            depth=encoder_depth,
            num_heads=encoder_heads,
            out_chans=embedding_width,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=window_size,
            global_attn_indexes=global_attention_blocks,
        ),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=embedding_width,
            image_embedding_size=(tokens, tokens),
            input_image_size=(image_size, image_size),
            mask_in_chans=16,
        ),
        mask_decoder=modeling.MaskDecoder(
            transformer_dim=embedding_width,
            transformer=modeling.TwoWayTransformer(
                depth=2, embedding_dim=embedding_width, num_heads=decoder_heads, mlp_dim=decoder_mlp_width
            ),
            iou_head_hidden_dim=iou_head_width,
        ),
    )
    return randomise(sam, seed)


def build_reference_preset(name: str, *, seed: int = 0) -> Any:
    """The reference `Sam` at full size, `name` as published ("vit_b", ..., "vit_t"), with random weights."""
    package = import_mobile_sam() if name == "vit_t" else import_segment_anything()
    return randomise(package.sam_model_registry[name](), seed)
