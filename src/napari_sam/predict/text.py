"""Which masks a text means: image and text embeddings of a CLIP-like model, compared (paper, section 7.5).

The paper teaches the prompt encoder to take CLIP's embeddings as a prompt (:mod:`napari_sam.training.text`). This way
needs no teaching: the crop around each mask is embedded as an image, and the cosine similarity with the text decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ConfigError, PromptError
from napari_sam.geometry import Box, Mask

Background = Literal["keep", "gray"]
GRAY = 128


class ClipLike(Protocol):
    """Two encoders with one space of embeddings: what is alike in content is near in it."""

    @property
    def name(self) -> str:
        """For reports."""

    @property
    def logit_scale(self) -> float:
        """What cosine similarities are multiplied by before a softmax; CLIP learns it, about 100."""

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(N, D) of N RGB images (h, w, 3) of any size."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) of N texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """How masks are compared with a text."""

    text_thresh: float = 0.5
    """Keep objects whose text score is at least this."""
    against: tuple[str, ...] = ("background",)
    """What else an object may be: the score is the probability of the text beside these. Without any, the score is the
    cosine similarity itself, whose useful range differs from model to model."""
    templates: tuple[str, ...] = ("{}", "a photo of {}")
    """Sentences the text is put into, in place of {}; their embeddings are averaged."""
    crop_margin: float = 1.5
    """Side of the square crop around a mask, as a multiple of its box's longer side."""
    mask_background: Background = "keep"
    """Whether a crop shows what lies around the mask (keep), or gray there."""
    crops_per_batch: int = 64
    """Crops embedded at once."""

    def __post_init__(self) -> None:
        if not -1 <= self.text_thresh <= 1:
            raise ConfigError(f"text_thresh must lie in [-1, 1], got {self.text_thresh}; 0.5 is usual.")
        if not self.templates or any(template.count("{}") != 1 for template in self.templates):
            raise ConfigError(f"each of templates must hold {{}} once, where the text goes, got {self.templates}.")
        if self.crop_margin < 1:
            raise ConfigError(f"crop_margin must be at least 1 (the mask's own box), got {self.crop_margin}.")
        if self.mask_background not in get_args(Background):
            raise ConfigError(
                f"mask_background must be one of {', '.join(get_args(Background))}, got {self.mask_background!r}."
            )
        if self.crops_per_batch < 1:
            raise ConfigError(f"crops_per_batch must be at least 1, got {self.crops_per_batch}.")


class TextScorer:
    """Scores crops by one text; the text is embedded once.

    Parameters
    ----------
    clip : ClipLike
    text : str
        What is looked for, such as "a red cell".
    config : TextConfig, optional

    Raises
    ------
    PromptError
        If the text is empty, or is one of those it is compared with.
    """

    def __init__(self, clip: ClipLike, text: str, config: TextConfig | None = None) -> None:
        self.config = config or TextConfig()
        if not text.strip():
            raise PromptError("the text is empty; say what is looked for, such as 'a red cell'.")
        if text in self.config.against:
            raise PromptError(f"the text {text!r} is also in against; compare it with something else.")
        self._clip = clip
        self._texts = np.stack([self._embed_text(t) for t in (text, *self.config.against)])  # (1 + A, D)

    def __call__(self, crops: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Scores (N,) of N crops (h, w, 3): probabilities beside `against`, or cosine similarities without it."""
        scores = [np.zeros(0)]
        batch: list[NDArray[np.uint8]] = []
        for crop in crops:
            batch.append(crop)
            if len(batch) == self.config.crops_per_batch:
                scores.append(self._score(batch))
                batch = []
        if batch:
            scores.append(self._score(batch))
        return np.concatenate(scores)

    def _score(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        similarity = unit_rows(self._clip.embed_images(crops)) @ self._texts.T  # (n, 1 + A)
        if similarity.shape[1] == 1:
            return np.asarray(similarity[:, 0])
        logits = self._clip.logit_scale * similarity
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(weights[:, 0] / weights.sum(axis=1), dtype=np.float64)

    def _embed_text(self, text: str) -> NDArray[np.float64]:
        sentences = [template.format(text) for template in self.config.templates]
        mean = unit_rows(self._clip.embed_texts(sentences)).mean(axis=0, keepdims=True)
        return np.asarray(unit_rows(mean)[0])


def unit_rows(embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows of length 1; a row of zeros stays one."""
    rows = np.asarray(embeddings, dtype=np.float64)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def crop_window(mask: Mask, margin: float) -> Box:
    """The square around a mask, `margin` times its box's longer side, moved and cut to fit its frame."""
    height, width = mask.frame_size
    side = max(1, round(max(mask.box.size) * margin))
    x, y = mask.box.center_xy
    x0, y0 = (int(min(max(0, round(c - side / 2)), max(0, n - side))) for c, n in ((x, width), (y, height)))
    return Box(x0, y0, x0 + side, y0 + side).clipped(Box.of_size(mask.frame_size))


def crop_of_mask(pixels: NDArray[np.uint8], window: Box, mask: Mask, background: Background) -> NDArray[np.uint8]:
    """What a CLIP model is shown of a mask.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
        Of `window`, at full resolution or reduced.
    window : Box
        :func:`crop_window` of the mask.
    mask : Mask
    background : "keep" or "gray"
    """
    if background == "keep":
        return pixels
    rows = np.arange(pixels.shape[0]) * window.height // pixels.shape[0]
    columns = np.arange(pixels.shape[1]) * window.width // pixels.shape[1]
    inside = mask.window(window)[np.ix_(rows, columns)]
    return np.where(inside[..., None], pixels, np.uint8(GRAY))
