"""The mask decoder for many prompts on one image: the same answers as `MaskDecoder.predict_all`, several times faster.

For inference where all prompt sets share the image embedding and the dense prompt embedding: without mask prompts, or
with a single prompt set. Nothing is approximated; the linear maps are only applied where they cost least:

- before the first image update the image side is the same for all prompts, and is projected once an image;
- later the image tokens are thousands and the prompt tokens a handful, so what the image tokens would be multiplied
  with is moved to the prompt tokens: q . (W x) = (W^T q) . x for scores, sum(a W x) = W sum(a x) for values;
- a constant added to all scores of a softmax changes nothing, and weights that add up to 1 keep a bias as it is;
- the predicted IoU needs no mask, so masks are made of the chosen tokens only;
- transposed convolutions whose kernel is their stride are matrix products, so pixels are put in order once, at the end.

Work goes a few prompt sets at a time over scratch memory that is kept: large temporaries, mapped and unmapped at every
step, cost more than the arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from napari_sam.model.layers import LayerNorm2d
from napari_sam.model.mask_decoder import MaskDecoder
from napari_sam.model.products import linear, products
from napari_sam.model.transformer import Attention, TwoWayAttentionBlock

PROMPTS_AT_ONCE = 4
"""Prompt sets whose image tokens, scores and scratch still fit the last cache of a laptop (nano: 20 MB for four)."""


@dataclass(frozen=True, slots=True, eq=False)
class Attended:
    """What the two-way transformer made of P prompt sets."""

    predicted_iou: Tensor
    """(P, 1 + multimask): of all masks, the unambiguous one first."""
    mask_tokens: Tensor
    """(P, 1 + multimask, C): a mask each."""
    image: Tensor
    """(P, h w, C): the image tokens after they saw the prompts."""


class PreparedImage:
    """One image embedding and what every prompt needs of it.

    Call it inside `torch.inference_mode()` or `torch.no_grad()`, from one thread at a time: it owns scratch memory.

    Parameters
    ----------
    decoder : MaskDecoder
        Its weights are read now: make a new one after they changed.
    image_embedding, image_pe, dense : (1, C, h, w) float32 tensors
        The image, its positional encoding, and the dense prompt embedding that all prompts share.
    """

    def __init__(self, decoder: MaskDecoder, image_embedding: Tensor, image_pe: Tensor, dense: Tensor) -> None:
        self._decoder = decoder
        self._size = (image_embedding.shape[2], image_embedding.shape[3])
        self._scratch = _Scratch()
        self._image = _token_rows(image_embedding + dense)  # (h w, C)
        self._image_pe = _token_rows(image_pe)
        placed = self._image + self._image_pe
        self._first = _FirstBlock(_block(decoder, 0), self._image, placed)
        self._upscaler = _Upscaler(decoder)

    def attend(self, sparse: Tensor) -> Attended:
        """The tokens, image tokens and predicted IoU of P prompt sets with `sparse` embeddings (P, K, C)."""
        decoder, scratch = self._decoder, self._scratch
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])  # (1 + M, C)
        token_pe = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)  # (P, 1 + M + K, C)
        tokens, image = self._first.attend(token_pe, scratch)
        placed = scratch.take("placed", image.shape)
        for i in range(1, len(decoder.transformer.layers)):
            torch.add(image, self._image_pe, out=placed)
            tokens, image = _attend_block(_block(decoder, i), tokens, token_pe, image, placed, scratch)
        torch.add(image, self._image_pe, out=placed)
        # The prompts' own tokens have done their work: nothing reads them any more.
        tokens, token_pe = tokens[:, : len(own)], token_pe[:, : len(own)]
        final = decoder.transformer.final_attn_token_to_image
        tokens = decoder.transformer.norm_final_attn(
            tokens + _token_to_image(final, tokens + token_pe, image, placed, scratch)
        )
        return Attended(decoder.iou_prediction_head(tokens[:, 0]), tokens[:, 1:], image)

    def decode_masks(self, attended: Attended, chosen: Tensor) -> Tensor:
        """Mask logits (n, 4h, 4w) of the n `chosen` masks (P, 1 + multimask) bool, prompt set by prompt set."""
        height, width = self._size
        masks = attended.image.new_empty(int(chosen.sum()), 4 * height, 4 * width)
        done = 0
        for p, wanted in enumerate(chosen.tolist()):
            indices = [m for m, is_wanted in enumerate(wanted) if is_wanted]
            if indices:
                filters = self._upscaler.filters(attended.mask_tokens[p], indices)
                logits = self._upscaler.apply(attended.image[p], filters, self._scratch)  # (16, m, h w)
                part = masks[done : done + len(indices)].view(-1, height, 4, width, 4)
                # (row in 4 x 4, column in 4 x 4, m, h, w) to (m, h, row, w, column)
                part.copy_(logits.view(4, 4, -1, height, width).permute(2, 3, 0, 4, 1))
                done += len(indices)
        return masks


class _Scratch:
    """Memory that is kept from one use of a name to the next, as long as the shape is the same or smaller."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """An uninitialised float32 tensor; what was taken under this name before is overwritten."""
        count = math.prod(shape)
        if name not in self._kept or len(self._kept[name]) < count:
            self._kept[name] = torch.empty(count)
        return self._kept[name][:count].view(shape)


class _FirstBlock:
    """The first two-way block, where all prompts see the same image tokens.

    These are `image` (h w, C), and `placed` with their positional encoding.
    """

    def __init__(self, block: TwoWayAttentionBlock, image: Tensor, placed: Tensor) -> None:
        self._block, self._image = block, image
        to_image, to_token = block.cross_attn_token_to_image, block.cross_attn_image_to_token
        self._keys = _by_head_of(to_image, to_image.k_proj, placed).transpose(1, 2)  # (heads, d, h w)
        self._values = _by_head_of(to_image, to_image.v_proj, image)  # (heads, h w, d)
        self._queries = _by_head_of(to_token, to_token.q_proj, placed).transpose(1, 2)  # (heads, d, h w)

    def attend(self, token_pe: Tensor, scratch: _Scratch) -> tuple[Tensor, Tensor]:
        block, image = self._block, self._image.expand(len(token_pe), -1, -1)
        tokens = block.attend_tokens(token_pe, token_pe)
        attention = block.cross_attn_token_to_image
        weights = self._scores(attention, attention.q_proj(tokens + token_pe), self._keys, scratch)
        torch.softmax(weights, -1, out=weights)
        mixed = torch.stack([w @ self._values for w in weights])  # (P, heads, K, d)
        tokens = block.norm2(tokens + attention.out_proj(mixed.transpose(1, 2).flatten(2)))
        tokens = block.norm3(tokens + block.mlp(tokens))
        attention = block.cross_attn_image_to_token
        weights = self._scores(attention, attention.k_proj(tokens + token_pe), self._queries, scratch)
        torch.softmax(weights, 2, out=weights)
        return tokens, block.norm4(_spread(attention, weights, tokens, image, scratch))

    def _scores(self, attention: Attention, projected: Tensor, image_side: Tensor, scratch: _Scratch) -> Tensor:
        """(P, heads, K, h w) scores of `projected` tokens (P, K, inner) and the image."""
        rows = attention.split_heads(projected)  # (P, heads, K, d)
        rows = rows / math.sqrt(rows.shape[-1])
        scores = scratch.take("scores", (*rows.shape[:3], image_side.shape[-1]))
        for one, out in zip(rows, scores, strict=True):  # as one product the image side would be copied for each
            torch.bmm(one, image_side, out=out)
        return scores


def _attend_block(
    block: TwoWayAttentionBlock, tokens: Tensor, token_pe: Tensor, image: Tensor, placed: Tensor, scratch: _Scratch
) -> tuple[Tensor, Tensor]:
    """A later two-way block: tokens (P, K, C), image tokens (P, h w, C), `placed` with their positional encoding."""
    tokens = block.attend_tokens(tokens, token_pe)
    attended = _token_to_image(block.cross_attn_token_to_image, tokens + token_pe, image, placed, scratch)
    tokens = block.norm2(tokens + attended)
    tokens = block.norm3(tokens + block.mlp(tokens))
    attention = block.cross_attn_image_to_token
    keys = attention.split_heads(attention.k_proj(tokens + token_pe))  # (P, heads, K, d)
    keys = keys / math.sqrt(keys.shape[-1])
    q_weight, q_bias = _by_head(attention, attention.q_proj.weight), _by_head(attention, attention.q_proj.bias[:, None])
    scores = scratch.take("scores", (*keys.shape[:3], placed.shape[1]))
    products((keys @ q_weight).flatten(1, 2), placed, out=scores.flatten(1, 2))
    scores += keys @ q_bias
    torch.softmax(scores, 2, out=scores)
    return tokens, block.norm4(_spread(attention, scores, tokens, image, scratch))


def _token_to_image(attention: Attention, queries: Tensor, image: Tensor, placed: Tensor, scratch: _Scratch) -> Tensor:
    """(P, K, C): `attention` of the tokens `queries` to the image, keys from `placed`, values from `image`."""
    q = attention.split_heads(attention.q_proj(queries))  # (P, heads, K, d)
    q = q / math.sqrt(q.shape[-1])
    folded = (q @ _by_head(attention, attention.k_proj.weight)).flatten(1, 2)  # (P, heads K, C); k's bias cancels
    weights = scratch.take("scores", (*folded.shape[:2], placed.shape[1]))
    products(folded, placed, out=weights)
    torch.softmax(weights, -1, out=weights)
    seen = products(weights, image.transpose(1, 2), out=torch.empty_like(folded))  # (P, heads K, C)
    seen = seen.unflatten(1, q.shape[1:3])
    mixed = seen @ _by_head(attention, attention.v_proj.weight).transpose(1, 2)  # (P, heads, K, d)
    out: Tensor = attention.out_proj(mixed.transpose(1, 2).flatten(2) + attention.v_proj.bias)
    return out


def _spread(attention: Attention, weights: Tensor, tokens: Tensor, image: Tensor, scratch: _Scratch) -> Tensor:
    """`image` (P, h w, C) plus the values of `tokens`, by `weights` (P, heads, K, h w) that add up to 1 over K."""
    values = attention.split_heads(attention.v_proj(tokens))  # (P, heads, K, d)
    out_weight = attention.out_proj.weight.unflatten(1, (attention.heads, -1)).permute(1, 2, 0)  # (heads, d, C)
    projected = (values @ out_weight + attention.out_proj.bias / attention.heads).flatten(1, 2)  # (P, heads K, C)
    spread = scratch.take("spread", image.shape)
    return torch.baddbmm(image, weights.flatten(1, 2).transpose(1, 2), projected, out=spread)


class _Upscaler:
    """The decoder's two transposed convolutions as matrix products, and the masks' filters."""

    def __init__(self, decoder: MaskDecoder) -> None:
        self._mlps = decoder.output_hypernetworks_mlps
        first, norm, _, second, _ = decoder.output_upscaling
        self._norm = cast(LayerNorm2d, norm)
        weight, bias = _as_product(cast(nn.ConvTranspose2d, first))  # (4, C / 4, C), (C / 4, 1)
        # Layer normalisation begins by taking the channels' mean away: from the weights, it is away already.
        self._first_weight = (weight - weight.mean(dim=1, keepdim=True)).flatten(0, 1)  # (4 C / 4, C)
        self._first_bias = (bias - bias.mean()).repeat(4, 1)
        weight, bias = _as_product(cast(nn.ConvTranspose2d, second))
        self._second_weight, self._second_bias = weight.flatten(0, 1), bias.repeat(4, 1)  # (4 C / 8, C / 4)

    def filters(self, mask_tokens: Tensor, indices: list[int]) -> Tensor:
        """(m, C / 8): the 1x1 filters of the mask tokens (1 + multimask, C) at `indices`."""
        return torch.stack([self._mlps[i](mask_tokens[i]) for i in indices])

    def apply(self, image: Tensor, filters: Tensor, scratch: _Scratch) -> Tensor:
        """Mask logits (16, m, h w) of image tokens (h w, C), a row for each pixel of the 4 x 4 in a token."""
        count = len(image)
        first = scratch.take("placed", (len(self._first_weight), count))
        products(self._first_weight[None], image[None], out=first[None])
        first += self._first_bias
        first = first.view(4, -1, count)  # (row and column in 2 x 2, C / 4, h w)
        square = torch.mul(first, first, out=scratch.take("spread", first.shape))
        first *= square.mean(dim=1, keepdim=True).add_(self._norm.eps).rsqrt_()
        first.mul_(self._norm.weight[:, None]).add_(self._norm.bias[:, None])
        torch.ops.aten.gelu_(first)  # in place, which torch.nn.functional.gelu cannot do
        second = scratch.take("upscaled", (4, len(self._second_weight), count))
        products(self._second_weight.expand(4, -1, -1), first.transpose(1, 2), out=second)
        second += self._second_bias
        torch.ops.aten.gelu_(second)
        logits = filters.expand(16, -1, -1) @ second.view(16, -1, count)  # (16, m, h w)
        # From (row, column; row, column of the finer step) to rows together and columns together.
        return logits.view(2, 2, 2, 2, -1).transpose(1, 2).reshape(16, len(filters), count)


def _as_product(layer: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """Weight (4, out, in) and bias (out, 1) of a transposed 2x2 convolution of stride 2: a matrix a pixel it makes."""
    return layer.weight.permute(2, 3, 1, 0).flatten(0, 1), cast(Tensor, layer.bias)[:, None]


def _by_head_of(attention: Attention, projection: nn.Linear, rows: Tensor) -> Tensor:
    """`rows` (n, C), projected, as (heads, n, d)."""
    return attention.split_heads(linear(rows, projection.weight, projection.bias)[None])[0]


def _by_head(attention: Attention, weight: Tensor) -> Tensor:
    """(inner, n) as (heads, d, n)."""
    out: Tensor = weight.unflatten(0, (attention.heads, -1))
    return out


def _block(decoder: MaskDecoder, index: int) -> TwoWayAttentionBlock:
    return cast(TwoWayAttentionBlock, decoder.transformer.layers[index])


def _token_rows(planes: Tensor) -> Tensor:
    """(1, C, h, w) as (h w, C)."""
    return planes[0].flatten(1).T.contiguous()
