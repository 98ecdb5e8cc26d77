"""The image embedding: computed once for an image, used by every prompt (paper, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from napari_sam.errors import CheckpointError, ImageError, PromptError
from napari_sam.geometry import ModelFrame
from napari_sam.model.conv_encoder import ConvEncoder
from napari_sam.predict.config import Precision
from napari_sam.predict.encoding import Encode, encode_pixels
from napari_sam.predict.instances import InstanceMap, find_instances

if TYPE_CHECKING:
    from napari_sam.model.loading import SamModel
    from napari_sam.model.sam import Sam


@dataclass(frozen=True, slots=True, eq=False)
class ImageEmbedding:
    """What the image encoder made of one image, and the frame it was shown in."""

    embedding: Tensor
    """(1, C, h, w) float32, on the model's device."""
    frame: ModelFrame
    """From image pixels to pixels of the model's frame, and back."""
    proposals: Tensor | None
    """(2h, 2w) float32 logits of "an object's centre lies here", over the padded frame; None without the head."""
    model_name: str
    """Which model made it: an embedding means nothing to another one."""
    instances: InstanceMap | None = None
    """The regions of the image; None without the instance head."""

    @property
    def low_res_size(self) -> tuple[int, int]:
        """(h, w) of the decoder's mask logits: it upscales the embedding four times (paper, appendix A)."""
        return 4 * self.embedding.shape[2], 4 * self.embedding.shape[3]

    @property
    def nbytes(self) -> int:
        """Memory it holds."""
        heads = 0 if self.proposals is None else self.proposals.nbytes
        return self.embedding.nbytes + heads + (0 if self.instances is None else self.instances.nbytes)

    def require_model(self, model: SamModel) -> None:
        """Raise PromptError unless `model` made this embedding."""
        if self.model_name != model.name:
            raise PromptError(
                f"this embedding was made by model {self.model_name!r} and cannot be read by {model.name!r}; "
                f"call embed_image(model, image) with the model that answers the prompts."
            )


def embed_image(
    model: SamModel, image: np.ndarray, *, precision: Precision = "auto", encode: Encode | None = None
) -> ImageEmbedding:
    """The image embedding of `image`, for any number of prompts.

    The image's long side is scaled to the model's frame (bilinear, smoothed where it shrinks), the rest is padding.

    Parameters
    ----------
    model : SamModel
        From :func:`napari_sam.load_model`.
    image : ndarray of shape (H, W), (H, W, 1) or (H, W, 3), uint8
        Gray or RGB in 0 to 255, used as it is.
    precision : "auto" or "fp32"
        "auto" computes in 16 bits where that is faster; the embedding is float32 either way.
    encode : function, optional
        An encoder that threads share, :class:`napari_sam.predict.EncoderBatches`; it has a precision of its own.

    Returns
    -------
    ImageEmbedding

    Raises
    ------
    ImageError
        If `image` is empty, of another shape or not uint8.
    """
    check_image(image)
    sam = model.sam
    frame = ModelFrame((image.shape[0], image.shape[1]), sam.config.image_size)
    pixels = _resized(image, frame.input_size).to(model.device, torch.float32)  # (1, 3, h, w)
    encode = encode or partial(encode_pixels, model, precision=precision)
    return with_heads(model, encode(sam.preprocess(pixels)), frame)


def embed_for_regions(
    model: SamModel, image: np.ndarray, *, precision: Precision = "auto", encode: Encode | None = None
) -> ImageEmbedding:
    """The image embedding of `image` at its own size, for its regions alone.

    A convolutional encoder takes any size, and what it sees of a pixel does not depend on the frame. So an image a
    little larger than the model's frame is neither made smaller nor cut, and nothing but the last few pixels is
    padding. The decoder was trained in the model's frame: give it no prompts of this embedding. An encoder of another
    kind sees the image as :func:`embed_image` shows it.

    Parameters, errors and result are those of :func:`embed_image`.
    """
    sam = model.sam
    if not isinstance(sam.image_encoder, ConvEncoder):
        return embed_image(model, image, precision=precision, encode=encode)
    check_image(image)
    frame = region_frame(sam, (image.shape[0], image.shape[1]))
    pixels = sam.normalised(_resized(image, frame.input_size).to(model.device, torch.float32))
    h, w = frame.input_size
    pixels = F.pad(pixels, (0, -w % ConvEncoder.stride, 0, -h % ConvEncoder.stride), mode="replicate")
    seen = (encode or partial(encode_pixels, model, precision=precision))(pixels)
    side = frame.model_size // sam.config.embedding_stride
    embedding = F.pad(seen, (0, side - seen.shape[3], 0, side - seen.shape[2]))
    return with_heads(model, embedding, frame)


def region_frame(sam: Sam, image_size: tuple[int, int]) -> ModelFrame:
    """How an image lies before the encoder when only its regions are wanted.

    Up to the model's frame it fills it, as always; from there on to twice as much it is seen as it is; a larger one is
    made as small.
    """
    least, most = sam.config.image_size, largest_region_frame(sam)
    longer = min(max(image_size), most)
    if longer <= least:
        return ModelFrame(image_size, least)
    return ModelFrame(image_size, longer + -longer % ConvEncoder.stride, longer)


def largest_region_frame(sam: Sam) -> int:
    """Side of the largest image of which the regions are seen at full resolution, in pixels."""
    # Twice the frame spares tiles a quarter of the work, as less of it is done twice; four times would spare a tenth
    # more and take a gigabyte.
    return 2 * sam.config.image_size if isinstance(sam.image_encoder, ConvEncoder) else sam.config.image_size


def with_heads(model: SamModel, embedding: Tensor, frame: ModelFrame) -> ImageEmbedding:
    """What the encoder made, (1, C, h, w) float32 on the model's device, with all that the model's heads see in it."""
    sam = model.sam
    require_finite(embedding, model, "the image embedding")
    with torch.no_grad():
        centres = None if sam.proposal_head is None else sam.proposal_head(embedding)[0, 0]  # (2h, 2w)
        instances = None
        if sam.instance_head is not None and centres is not None:
            instances = find_instances(sam.instance_head, embedding, centres, frame)
    if centres is not None:
        require_finite(centres, model, "the proposals")
    if instances is not None:
        require_finite(torch.from_numpy(instances.ratings), model, "the ratings of the instance head")
    return ImageEmbedding(embedding, frame, centres, model.name, instances)


def require_finite(values: Tensor, model: SamModel, what: str) -> None:
    """Raise CheckpointError if a network gave NaN or infinity: no filter lets such a mask through, so that an image
    would look empty that is not."""
    if not bool(torch.isfinite(values).all()):
        raise CheckpointError(
            f"{what} by model {model.name!r} on {model.device} holds NaN or infinity; its weights are damaged, or "
            "numbers of 16 bits are too small for it: verify the checkpoint, or use device cpu."
        )


def check_image(image: np.ndarray) -> None:
    """Raise ImageError unless `image` is a gray or RGB uint8 image with at least one pixel."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"an image must be a numpy array, got {type(image).__name__}; read or compute it first.")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise ImageError(
            f"an image must have shape (H, W) or (H, W, 3), got {image.shape}; choose one plane and one or three "
            f"channels, for RGBA image[..., :3]."
        )
    if image.dtype != np.uint8:
        raise ImageError(
            f"an image must be uint8 (0 to 255), got {image.dtype}; normalise first "
            f"(napari_sam.images.normalise_image)."
        )
    if image.size == 0:
        raise ImageError(f"an image needs at least one pixel, got shape {image.shape}.")


def _resized(image: np.ndarray, size: tuple[int, int]) -> Tensor:
    """(1, 3, *size) uint8, bilinear, smoothed where it shrinks.

    By Pillow, on every device: the published models were fed so, and torch's own interpolation differs from it by a
    grey level here and there.
    """
    if image.shape[:2] != size:
        # Pillow knows no image of one channel with a third axis.
        given = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
        image = np.asarray(given.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    channels_last = np.array(image if image.ndim == 3 else image[..., None])  # a copy: torch wants one it may write to
    return torch.from_numpy(channels_last).permute(2, 0, 1)[None].expand(1, 3, -1, -1)
