"""The network as ONNX files for programs without torch: one for the image encoder, one for the prompt decoder.

Inputs and outputs are named as in the ONNX files others publish for Segment Anything; what they mean stands at the two
functions. The heads of our own networks are not exported: an ONNX decoder answers as the paper's does.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.errors import CheckpointError
from napari_sam.model.prompt_encoder import PromptEncoder
from napari_sam.model.sam import Sam

OPSET = 18
LARGEST_BYTES = 2**31 - 1
"""What one ONNX file (a protobuf message) can hold."""
ENCODER_INPUT = "image"
ENCODER_OUTPUT = "image_embeddings"
DECODER_INPUTS = ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input")
DECODER_OUTPUTS = ("low_res_masks", "iou_predictions")


def export_decoder(sam: Sam, path: str | os.PathLike[str]) -> None:
    """Write prompt encoder and mask decoder as one ONNX file.

    Inputs: `image_embeddings` (1, C, h, w) float32, `point_coords` (P, N, 2) float32 as (x, y) in pixels of the
    model's frame (the image resized so that its longer side is `image_size`; whole numbers are pixel centres),
    `point_labels` (P, N) int64: 1 inside, 0 outside, 2 and 3 the upper left and lower right corner of a box, -1 nothing
    (prompt sets without a box need one such point at their end, as the published models saw it), `mask_input`
    (P, 1, 4h, 4w) float32 mask logits, and `has_mask_input` (P,) float32, 0 where these are to be ignored.

    Outputs: `low_res_masks` (P, 1 + M, 4h, 4w) mask logits over the model's frame and `iou_predictions` (P, 1 + M):
    first the mask for an unambiguous prompt, then the M for an ambiguous one. P and N are free.

    Parameters
    ----------
    sam : Sam
    path : path

    Raises
    ------
    CheckpointError
        If the onnx package is not installed, or the network is too large for one ONNX file.
    """
    config = sam.config
    side = config.embedding_size
    example = (
        torch.zeros(1, config.prompt_embed_dim, side, side),
        torch.zeros(2, 3, 2),
        torch.tensor([[1, 0, -1], [2, 3, -1]]),
        torch.zeros(2, 1, 4 * side, 4 * side),
        torch.tensor([1.0, 0.0]),
    )
    free = {name: {0: "prompts"} for name in (*DECODER_INPUTS[3:], *DECODER_OUTPUTS)}
    free |= {name: {0: "prompts", 1: "points"} for name in DECODER_INPUTS[1:3]}
    _export(_Decoder(sam), example, path, DECODER_INPUTS, DECODER_OUTPUTS, free)


def export_encoder(sam: Sam, path: str | os.PathLike[str]) -> None:
    """Write the image encoder as an ONNX file.

    Input: `image` (H, W, 3) float32, RGB in 0 to 255, resized so that its longer side is `image_size`; H and W are
    free. Output: `image_embeddings` (1, C, h, w) float32. Normalisation and padding are part of the file.

    Parameters
    ----------
    sam : Sam
    path : path

    Raises
    ------
    CheckpointError
        If the onnx package is not installed, or the network is too large for one ONNX file.
    """
    size = sam.config.image_size
    # Not square: in the trace, height and width must not be taken for one another.
    example = (torch.zeros(size, size // 2, 3),)
    free = {ENCODER_INPUT: {0: "height", 1: "width"}}
    _export(_Encoder(sam), example, path, (ENCODER_INPUT,), (ENCODER_OUTPUT,), free)


class _Encoder(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.image_encoder = sam.image_encoder
        self.size = sam.config.image_size
        self.register_buffer("mean", sam.pixel_mean)
        self.register_buffer("std", sam.pixel_std)

    def forward(self, image: Tensor) -> Tensor:
        pixels = (image.permute(2, 0, 1)[None] - self.mean) / self.std  # (1, 3, H, W)
        padding = (0, self.size - pixels.shape[3], 0, self.size - pixels.shape[2])
        # The encoders ask for the size of what they get: after the padding it is known again.
        padded = F.pad(pixels, padding).reshape(1, 3, self.size, self.size)
        embedding: Tensor = self.image_encoder(padded)
        return embedding


class _Decoder(nn.Module):
    image_pe: Tensor

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.prompt_encoder = sam.prompt_encoder
        self.mask_decoder = sam.mask_decoder
        self.register_buffer("image_pe", sam.prompt_encoder.get_dense_pe().detach())

    def forward(
        self, embedding: Tensor, points: Tensor, labels: Tensor, masks: Tensor, has_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        encoder: PromptEncoder = self.prompt_encoder
        sparse = encoder.embed_labelled(points, labels)  # (P, N, C)
        no_mask = encoder.no_mask_embed.weight[:, :, None, None]
        dense = torch.where(has_mask[:, None, None, None] > 0, encoder.mask_downscaling(masks), no_mask)
        answer: tuple[Tensor, Tensor] = self.mask_decoder.predict_all(embedding, self.image_pe, sparse, dense)
        return answer


def _export(
    module: nn.Module,
    example: tuple[Tensor, ...],
    path: str | os.PathLike[str],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    free: Mapping[str, Mapping[int, str]],
) -> None:
    _require_onnx()
    size = sum(weight.numel() * 4 for weight in module.parameters())
    if size > LARGEST_BYTES:
        raise CheckpointError(
            f"{Path(path).name}: this network has {size / 1e9:.1f} GB of weights, and one ONNX file holds at most 2 "
            "GB; export a smaller model, or its decoder alone."
        )
    module = copy.deepcopy(module).to("cpu", torch.float32).eval()
    with warnings.catch_warnings(), torch.no_grad():
        # The older exporter, which announces that it is: with torch 2.13 it took 3.5 s for a tiny decoder, the newer
        # one 109 s.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            example,
            os.fspath(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=free,
        )


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise CheckpointError(
            "an export to ONNX needs the package onnx, which is not installed; run "
            "`pip install 'napari-sam-tiles[onnx]'`."
        ) from error
