"""A text as a prompt like any other, for networks that were taught so (paper, section 7.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike

from napari_sam.errors import PromptError
from napari_sam.predict.decoding import Prediction
from napari_sam.predict.embedding import ImageEmbedding
from napari_sam.predict.prompts import check_prompts
from napari_sam.predict.text import unit_rows
from napari_sam.predict.upsampling import LogitUpsampler

if TYPE_CHECKING:
    from napari_sam.model.loading import SamModel


def predict_text(
    model: SamModel,
    embedding: ImageEmbedding,
    text_embeddings: ArrayLike,
    points_xy: ArrayLike | None = None,
    point_labels: ArrayLike | None = None,
    multimask: bool = False,
) -> Prediction:
    """Masks of what CLIP embeddings mean, with points where a text alone picks the wrong thing.

    Parameters
    ----------
    model : SamModel
        Whose config has `text_embed_dim`; see :func:`napari_sam.training.text.teach_text`.
    embedding : ImageEmbedding
        From :func:`napari_sam.embed_image` with the same model.
    text_embeddings : array of shape (P, D)
        Of texts or of pictures; made to have length 1.
    points_xy, point_labels : arrays of shape (P, N, 2) and (P, N), optional
        As of :func:`napari_sam.predict_masks`.
    multimask : bool
        Three masks for each, or one.

    Raises
    ------
    PromptError
        If the embeddings have another shape than the model takes, or the points do not fit them.
    """
    embedding.require_model(model)
    sam, given = model.sam, np.asarray(text_embeddings, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] != sam.config.text_embed_dim or not np.isfinite(given).all():
        raise PromptError(
            f"text_embeddings must be finite and have shape (P, {sam.config.text_embed_dim}), as model {model.name!r} "
            f"takes them (0: it takes none), got {given.shape}."
        )
    text = torch.from_numpy(unit_rows(given).astype(np.float32)).to(model.device)
    points = None
    if points_xy is not None:
        frame = embedding.frame
        checked = check_prompts(
            frame.image_size, embedding.low_res_size, points_xy=points_xy, point_labels=point_labels
        )
        if checked.points_xy is None or checked.point_labels is None or len(checked) != len(given):
            raise PromptError(f"there are {len(given)} texts and {len(checked)} sets of points; give one set a text.")
        places = np.ascontiguousarray(frame.points_to_model(checked.points_xy), dtype=np.float32)
        points = (torch.from_numpy(places).to(model.device), torch.from_numpy(checked.point_labels).to(model.device))
    with torch.inference_mode():
        sparse, dense = sam.prompt_encoder(points, text=text)
        logits, iou = sam.mask_decoder(
            embedding.embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=multimask
        )
    upsampler = LogitUpsampler(embedding.low_res_size, embedding.frame)
    return Prediction(iou.cpu().numpy(), logits.cpu().numpy(), upsampler, sam.config.mask_threshold)
