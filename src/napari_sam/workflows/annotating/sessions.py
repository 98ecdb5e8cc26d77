"""Annotation sessions with a real model: what the plugin and the command line use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sam.annotate.embeddings import DISK_BYTES, MEMORY_BYTES, EmbeddingStore
from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.segmenter import Segmenter, WindowAnswer, WindowQuestion
from napari_sam.annotate.session import AnnotationSession, SessionConfig
from napari_sam.geometry import Mask, ModelFrame
from napari_sam.model import SamModel, load_model
from napari_sam.model.storage import cache_dir
from napari_sam.predict import ImageEmbedding, LogitUpsampler, embed_image, predict_masks
from napari_sam.predict.embedding import with_heads
from napari_sam.predict.filtering import mask_and_stability

PAINTED_LOGIT = 8.0
"""Logit of a painted pixel, and minus that of others: about what the model itself says where it is sure."""
STABILITY_OFFSET = 1.0
"""As published for automatic masks."""


class SamSegmenter:
    """A network as an annotation session asks it; see :class:`napari_sam.annotate.segmenter.Segmenter`."""

    def __init__(self, model: SamModel) -> None:
        self.model = model

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def fingerprint(self) -> str:
        return self.model.fingerprint

    @property
    def window_px(self) -> int:
        return self.model.config.image_size

    def embed(self, pixels: NDArray[np.uint8], /) -> ImageEmbedding:
        return embed_image(self.model, pixels)

    def to_arrays(self, embedding: ImageEmbedding, /) -> dict[str, NDArray[Any]]:
        return {"embedding": embedding.embedding.cpu().numpy(), "image_size": np.array(embedding.frame.image_size)}

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]], /) -> ImageEmbedding:
        height, width = arrays["image_size"].tolist()
        image, config = arrays["embedding"], self.model.config
        side = config.image_size // config.embedding_stride
        if image.dtype != np.float32 or image.shape != (1, config.prompt_embed_dim, side, side):
            raise ValueError(f"an embedding of {image.dtype} {image.shape} is of another network than {self.name}.")
        tensor = torch.from_numpy(image).to(self.model.device)
        return with_heads(self.model, tensor, ModelFrame((height, width), config.image_size))

    def nbytes(self, embedding: ImageEmbedding, /) -> int:
        return embedding.nbytes

    def decode(self, embedding: ImageEmbedding, question: WindowQuestion, /) -> WindowAnswer:
        logits = question.mask_logits
        if logits is None and question.mask is not None:
            logits = painted_logits(question.mask, embedding)
        has_points = len(question.points_xy) > 0
        prediction = predict_masks(
            self.model,
            embedding,
            points_xy=question.points_xy if has_points else None,
            point_labels=question.point_labels if has_points else None,
            boxes_xyxy=question.box_xyxy,
            mask_logits=logits,
            multimask=question.multimask,
        )
        scores = tuple(float(score) for score in prediction.predicted_iou[0])
        masks = tuple(
            _mask(low, prediction.upsampler, prediction.mask_threshold, score)
            for low, score in zip(prediction.low_res_logits[0], scores, strict=True)
        )
        return WindowAnswer(masks, scores, prediction.low_res_logits[0])


def painted_logits(mask: Mask, embedding: ImageEmbedding) -> NDArray[np.float32]:
    """A painted mask of the window as mask logits (h, w) over the model's frame, as if the model had said it."""
    frame = embedding.frame
    factor_y, factor_x = (
        low / frame.model_size * filled / size
        for low, filled, size in zip(embedding.low_res_size, frame.input_size, frame.image_size, strict=True)
    )
    inside = mask.scaled(factor_y, factor_x, embedding.low_res_size).to_array()
    return np.where(inside, PAINTED_LOGIT, -PAINTED_LOGIT).astype(np.float32)


def _mask(logits: NDArray[np.float32], upsampler: LogitUpsampler, threshold: float, score: float) -> Mask:
    window, pixels, stability = mask_and_stability(logits, upsampler, threshold=threshold, offset=STABILITY_OFFSET)
    return Mask.from_window(pixels, window, upsampler.image_size, predicted_iou=score, stability_score=stability)


def make_segmenter(model: str | os.PathLike[str] | SamModel = "nano", device: str = "auto") -> Segmenter:
    """A model as annotation sessions ask it.

    Parameters
    ----------
    model : str, path or SamModel
        See :func:`napari_sam.load_model`.
    device : str
        "auto", "cpu", "cuda" or "mps"; of no effect for a SamModel, which is on its device.

    Raises
    ------
    CheckpointError, ConfigError
        As `load_model` does.
    """
    return SamSegmenter(model if isinstance(model, SamModel) else load_model(model, device))


def open_store(
    segmenter: Segmenter,
    image: AnnotatedImage,
    *,
    folder: Path | None = None,
    memory_bytes: int = MEMORY_BYTES,
    disk_bytes: int = DISK_BYTES,
) -> EmbeddingStore:
    """The embeddings of an image, kept beyond the end of the program.

    Parameters
    ----------
    segmenter : Segmenter
    image : AnnotatedImage
    folder : Path, optional
        "embeddings" in the cache of this package (the one with downloaded models) if left out.
    memory_bytes, disk_bytes : int
        See :class:`napari_sam.annotate.embeddings.EmbeddingStore`.
    """
    kept = cache_dir() / "embeddings" if folder is None else folder
    return EmbeddingStore(segmenter, image, memory_bytes=memory_bytes, folder=kept, disk_bytes=disk_bytes)


def open_session(
    image: AnnotatedImage,
    journal: str | os.PathLike[str] | None = None,
    *,
    segmenter: Segmenter | None = None,
    config: SessionConfig | None = None,
) -> AnnotationSession:
    """A session on an image: a new one, or, where the journal exists, the one it is of where it ended.

    Parameters
    ----------
    image : AnnotatedImage
        A journal's own normalisation replaces its; take `session.image` from here on.
    journal : path, optional
        Without one, nothing outlives the program.
    segmenter : Segmenter, optional
        That will answer; the journal says so.
    config : SessionConfig, optional

    Returns
    -------
    AnnotationSession
        To be closed.

    Raises
    ------
    JournalError, OutputError
        If the journal is damaged before its end, in use, of another image, or cannot be written.
    """
    name, fingerprint = ("", "") if segmenter is None else (segmenter.name, segmenter.fingerprint)
    # An empty one is of a program that died as it began.
    if journal is None or not Path(journal).exists() or not Path(journal).stat().st_size:
        return AnnotationSession(image, journal, config=config, model=name, fingerprint=fingerprint)
    session = AnnotationSession.resume(journal, image, config=config)
    if segmenter is not None and session.model != (name, fingerprint):
        session.set_model(name, fingerprint)
    return session
