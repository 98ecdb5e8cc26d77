"""Image embedding and prompt embeddings to masks and their predicted IoU (paper, appendix A)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_sam.model.layers import LayerNorm2d, Mlp
from napari_sam.model.transformer import TwoWayTransformer


class MaskDecoder(nn.Module):
    """Two-way transformer, upscaling, and one 1x1 filter per mask token.

    Mask 0 is for an unambiguous prompt (several points, a mask); masks 1 to `num_multimask_outputs` answer an
    ambiguous one (a single point) with whole, part and subpart.
    """

    def __init__(
        self, *, transformer: TwoWayTransformer, width: int, num_multimask_outputs: int, iou_head_hidden_dim: int
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.num_mask_tokens = num_multimask_outputs + 1
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, kernel_size=2, stride=2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            Mlp(width, width, width // 8, 3) for _ in range(self.num_mask_tokens)
        )
        self.iou_prediction_head = Mlp(width, iou_head_hidden_dim, self.num_mask_tokens, 3)

    def forward(
        self, image_embeddings: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor, *, multimask_output: bool
    ) -> tuple[Tensor, Tensor]:
        """Mask logits (P, M, 4h, 4w) and predicted IoU (P, M) of P prompt sets.

        Parameters
        ----------
        image_embeddings : (1 or P, C, h, w) tensor
            One image for all prompts, or one for each.
        image_pe : (1, C, h, w) tensor
            :meth:`PromptEncoder.get_dense_pe`.
        sparse, dense : (P, K, C) and (P, C, h, w) tensors
            From the prompt encoder.
        multimask_output : bool
            M = `num_multimask_outputs` masks for an ambiguous prompt, or the single mask for an unambiguous one.
        """
        masks, iou = self.predict_all(image_embeddings, image_pe, sparse, dense)
        wanted = slice(1, None) if multimask_output else slice(0, 1)
        return masks[:, wanted], iou[:, wanted]

    def predict_all(
        self, image_embeddings: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor]:
        """All masks, the unambiguous one first: (P, 1 + multimask, 4h, 4w) and (P, 1 + multimask)."""
        count = sparse.shape[0]  # not len(): a trace of the network for ONNX would take it for a constant
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # (1 + M, C)
        tokens = torch.cat([own.expand(count, -1, -1), sparse], dim=1)  # (P, 1 + M + K, C)
        image = image_embeddings + dense  # (P, C, h, w)
        tokens, attended = self.transformer(image, image_pe.expand(count, -1, -1, -1), tokens)
        iou_token, mask_tokens = tokens[:, 0], tokens[:, 1 : 1 + self.num_mask_tokens]  # (P, C), (P, M, C)
        pixels = self.output_upscaling(attended.transpose(1, 2).unflatten(2, image.shape[-2:]))  # (P, C/8, 4h, 4w)
        # Each mask token becomes the weights of a 1x1 filter over the upscaled image.
        filters = torch.stack(
            [mlp(t) for mlp, t in zip(self.output_hypernetworks_mlps, mask_tokens.unbind(1), strict=True)], dim=1
        )  # (P, M, C/8)
        masks = (filters @ pixels.flatten(2)).unflatten(2, pixels.shape[-2:])  # (P, M, 4h, 4w)
        return masks, self.iou_prediction_head(iou_token)
