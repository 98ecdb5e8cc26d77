"""The whole network: image encoder, prompt encoder, mask decoder and, where there are any, the heads of our own."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.model.config import ConvConfig, SamConfig, TinyVitConfig, VitConfig
from napari_sam.model.conv_encoder import ConvEncoder
from napari_sam.model.instance_head import InstanceHead
from napari_sam.model.mask_decoder import MaskDecoder
from napari_sam.model.prompt_encoder import PromptEncoder
from napari_sam.model.proposal_head import ProposalHead
from napari_sam.model.transformer import TwoWayTransformer


class Sam(nn.Module):
    """Segment Anything as a torch module with the published state-dict names.

    Call :func:`build_sam` to make one. The parts are used one by one (`preprocess`, `image_encoder`,
    `prompt_encoder`, `mask_decoder`), since one embedding serves many prompts.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        config: SamConfig,
        *,
        image_encoder: nn.Module,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        proposal_head: ProposalHead | None,
        instance_head: InstanceHead | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.proposal_head = proposal_head
        self.instance_head = instance_head
        # Not persistent: the published checkpoints do not hold them.
        self.register_buffer("pixel_mean", torch.tensor(config.pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(config.pixel_std).view(3, 1, 1), persistent=False)

    def preprocess(self, x: Tensor) -> Tensor:
        """(..., 3, H, W) in 0 to 255, at most `image_size` a side: normalised, zero-padded at the right and bottom."""
        h, w = x.shape[-2:]
        return F.pad(self.normalised(x), (0, self.config.image_size - w, 0, self.config.image_size - h))

    def normalised(self, x: Tensor) -> Tensor:
        """(..., 3, H, W) in 0 to 255 as the encoder wants it: less the mean, over the deviation of its training."""
        out: Tensor = (x - self.pixel_mean) / self.pixel_std
        return out


def build_sam(config: SamConfig) -> Sam:
    """A network with random weights, as `config` describes it."""
    width = config.prompt_embed_dim
    prompt_encoder = PromptEncoder(
        embed_dim=width,
        embedding_size=config.embedding_size,
        image_size=config.image_size,
        mask_in_channels=config.mask_in_channels,
        position_scales=config.position_scales,
        text_embed_dim=config.text_embed_dim,
    )
    transformer = TwoWayTransformer(
        depth=config.decoder_depth, width=width, heads=config.decoder_heads, mlp_dim=config.decoder_mlp_dim
    )
    mask_decoder = MaskDecoder(
        transformer=transformer,
        width=width,
        num_multimask_outputs=config.num_multimask_outputs,
        iou_head_hidden_dim=config.iou_head_hidden_dim,
    )
    return Sam(
        config,
        image_encoder=_build_encoder(config),
        prompt_encoder=prompt_encoder,
        mask_decoder=mask_decoder,
        proposal_head=ProposalHead(width) if config.has_proposals else None,
        instance_head=InstanceHead(width) if config.has_instances else None,
    )


def _build_encoder(config: SamConfig) -> nn.Module:
    # Imported here: a network needs only its own encoder's module.
    match config.encoder:
        case ConvConfig():
            return ConvEncoder(
                config.encoder,
                out_channels=config.prompt_embed_dim,
                image_size=config.image_size,
                position_scales=config.position_scales,
            )
        case TinyVitConfig():
            from napari_sam.model.tiny_vit import TinyVit

            return cast(
                nn.Module, TinyVit(config.encoder, image_size=config.image_size, out_channels=config.prompt_embed_dim)
            )
        case VitConfig():
            from napari_sam.model.vit import ImageEncoderVit

            return cast(
                nn.Module,
                ImageEncoderVit(
                    config.encoder,
                    image_size=config.image_size,
                    patch_size=config.embedding_stride,
                    out_channels=config.prompt_embed_dim,
                ),
            )
