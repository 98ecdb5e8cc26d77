"""Prompts to embeddings: points, boxes and masks (paper, section 3 and appendix A)."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from napari_sam.errors import ConfigError
from napari_sam.model.layers import LayerNorm2d


class PositionEmbeddingRandom(nn.Module):
    """Random Fourier features of a place in the frame: sine and cosine of `channels / 2` random frequencies."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, channels: int, scales: tuple[float, ...] = (1.0,)) -> None:
        super().__init__()
        per_scale = channels // (2 * len(scales))
        frequencies = torch.cat([scale * torch.randn(2, per_scale) for scale in scales], dim=1)  # (2, channels / 2)
        self.register_buffer("positional_encoding_gaussian_matrix", frequencies)

    def encode(self, places: Tensor) -> Tensor:
        """Encoding (..., channels) of `places` (..., 2), (x, y) in [0, 1] of the frame."""
        places, (along_x, along_y) = 2 * places - 1, self.positional_encoding_gaussian_matrix
        # Not a matrix product: autocast would round it, and with it the places, to half precision.
        angles = 2 * math.pi * (places[..., :1] * along_x + places[..., 1:] * along_y)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def forward(self, size: tuple[int, int]) -> Tensor:
        """Encoding (channels, h, w) of the pixel centres of a grid of `size` (h, w) over the whole frame."""
        matrix = self.positional_encoding_gaussian_matrix
        y, x = (((torch.arange(n, device=matrix.device, dtype=matrix.dtype)) + 0.5) / n for n in size)
        places = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), dim=-1)  # (h, w, 2)
        return self.encode(places).permute(2, 0, 1)


class PromptEncoder(nn.Module):
    """Sparse embeddings of points and boxes, dense embeddings of masks.

    Coordinates are pixels of the model's frame (`image_size` square); a point at whole numbers is the centre of its
    pixel. Labels: 1 on the object, 0 on the background, -1 no point (padding).
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        embedding_size: int,
        image_size: int,
        mask_in_channels: int,
        position_scales: tuple[float, ...] = (1.0,),
        text_embed_dim: int = 0,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.embedding_size = embedding_size
        self.image_size = image_size
        self.pe_layer = PositionEmbeddingRandom(embed_dim, position_scales)
        # Background point, foreground point, upper left and lower right corner of a box.
        self.point_embeddings = nn.ModuleList([nn.Embedding(1, embed_dim) for _ in range(4)])
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_in_channels // 4, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_channels // 4),
            nn.GELU(),
            nn.Conv2d(mask_in_channels // 4, mask_in_channels, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_channels),
            nn.GELU(),
            nn.Conv2d(mask_in_channels, embed_dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, embed_dim)
        # Only where it is asked for: the published checkpoints, which hold none, load strictly.
        self.text_projection = _text_projection(text_embed_dim, embed_dim) if text_embed_dim else None

    def get_dense_pe(self) -> Tensor:
        """Positional encoding (1, C, h, w) of the image embedding's pixels."""
        places: Tensor = self.pe_layer((self.embedding_size, self.embedding_size))
        return places[None]

    def forward(
        self,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        *,
        text: Tensor | None = None,
        grid_size: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Embeddings of P prompt sets.

        Parameters
        ----------
        points : pair of (P, N, 2) float and (P, N) integer tensors, optional
            (x, y) in frame pixels, and their labels.
        boxes : (P, 4) float tensor, optional
            XYXY in frame pixels.
        masks : (P, 1, 4h, 4w) float tensor, optional
            Mask logits at the decoder's output size.
        text : (P, D) float tensor, optional
            CLIP embeddings of length 1, of a text or of an image: one more token each (paper, section 7.5).
        grid_size : (h, w), optional
            Size of the image embedding where it is not the whole frame's (training on crops).

        Returns
        -------
        sparse : (P, K, C) tensor
            One row a point (and one for the missing box), two a box, one a text; K = 0 without any.
        dense : (P, C, h, w) tensor
            The embedded mask, or the learned "no mask" everywhere.
        """
        given = next(
            t for t in (points[0] if points else None, boxes, masks, text, self.no_mask_embed.weight) if t is not None
        )
        count = 1 if given is self.no_mask_embed.weight else len(given)
        parts = []
        if points is not None:
            parts.append(self._embed_points(*points, pad=boxes is None))
        if boxes is not None:
            parts.append(self._embed_boxes(boxes))
        if text is not None:
            parts.append(self._embed_text(text))
        sparse = torch.cat(parts, dim=1) if parts else self.no_mask_embed.weight.new_zeros(count, 0, self.embed_dim)
        if masks is not None:
            return sparse, self.mask_downscaling(masks)
        h, w = grid_size or (self.embedding_size, self.embedding_size)
        return sparse, self.no_mask_embed.weight[:, :, None, None].expand(count, -1, h, w)

    def _encode_pixels(self, pixels: Tensor) -> Tensor:
        """Encoding of (x, y) frame pixels; +0.5: whole numbers are pixel centres, and the frame begins at a corner."""
        dtype = self.pe_layer.positional_encoding_gaussian_matrix.dtype
        return self.pe_layer.encode((pixels.to(dtype) + 0.5) / self.image_size)

    def _embed_points(self, points: Tensor, labels: Tensor, *, pad: bool) -> Tensor:
        if pad:  # the published models saw one more "no point" wherever there was no box
            points = torch.cat([points, points.new_zeros(len(points), 1, 2)], dim=1)
            labels = torch.cat([labels, labels.new_full((len(labels), 1), -1)], dim=1)
        # Only the kinds of points: a zero gradient of the others would let the optimizer shrink them.
        return self._embed_kinds(points, labels.long().clamp(-1, 1), kinds=2)

    def embed_labelled(self, points: Tensor, labels: Tensor) -> Tensor:
        """Embeddings (P, N, C) of points (P, N, 2) with labels (P, N).

        Labels 1 inside, 0 outside, -1 no point; 2 and 3, the corners of a box, as in the published ONNX files.
        """
        return self._embed_kinds(points, labels.long(), kinds=4)

    def _embed_kinds(self, points: Tensor, labels: Tensor, *, kinds: int) -> Tensor:
        places = self._encode_pixels(points)  # (P, N, C)
        is_point = (labels >= 0)[..., None]
        of_kind = torch.stack([self.not_a_point_embed.weight[0], *(self._kind(i) for i in range(kinds))])
        return torch.where(is_point, places, torch.zeros_like(places)) + of_kind[labels + 1]

    def _embed_boxes(self, boxes: Tensor) -> Tensor:
        corners = self._encode_pixels(boxes.reshape(-1, 2, 2))  # (P, 2, C)
        return corners + torch.stack([self._kind(2), self._kind(3)])

    def _embed_text(self, text: Tensor) -> Tensor:
        if self.text_projection is None:
            raise ConfigError(
                "this network takes no text prompts; build one whose config has text_embed_dim, or score masks by a "
                "text instead (napari_sam.predict.text)."
            )
        token: Tensor = self.text_projection(text)
        return token[:, None]

    def _kind(self, index: int) -> Tensor:
        return cast(nn.Embedding, self.point_embeddings[index]).weight[0]


def _text_projection(text_embed_dim: int, embed_dim: int) -> nn.Linear:
    """From an embedding of length 1 to a token that begins as strong as those of points and boxes.

    torch's own start would make it weaker by the square root of three times `text_embed_dim`: hardly heard at first.
    """
    projection = nn.Linear(text_embed_dim, embed_dim)
    nn.init.normal_(projection.weight)
    nn.init.normal_(projection.bias)
    return projection
