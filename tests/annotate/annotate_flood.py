"""A stand-in for the model that floods bright pixels: what it says of a window follows from the pixels alone."""

from __future__ import annotations

import threading

import numpy as np
from scipy import ndimage

from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.segmenter import WindowAnswer, WindowQuestion
from napari_sam.geometry import Mask
from napari_sam.images import Normalisation

AS_IT_IS = Normalisation((0.0,), (255.0,))


def bright_image(mask: np.ndarray, axes: str | None = None) -> AnnotatedImage:
    """An image that is white where `mask` is True."""
    return AnnotatedImage.open(mask.astype(np.uint8) * 255, axes=axes, normalisation=AS_IT_IS)


def flooded(bright: np.ndarray, xy: tuple[int, int]) -> np.ndarray:
    """The 4-connected bright region of a pixel."""
    regions, _ = ndimage.label(bright)
    return (regions == regions[xy[1], xy[0]]) & bright


class FloodSegmenter:
    """The bright regions that are pointed at; of an ambiguous prompt also one pixel and all that is bright."""

    name = "flood"

    def __init__(self, window_px: int = 16, fingerprint: str = "flood 1") -> None:
        self.window_px, self.fingerprint = window_px, fingerprint
        self.embedded: list[np.ndarray] = []
        self.questions: list[WindowQuestion] = []
        self.score = 0.9
        self._lock = threading.Lock()

    def embed(self, pixels):
        assert pixels.dtype == np.uint8
        assert max(pixels.shape[:2]) <= self.window_px
        with self._lock:
            self.embedded.append(pixels)
        return pixels[..., 0] > 127

    def to_arrays(self, embedding):
        return {"bright": embedding}

    def from_arrays(self, arrays):
        return arrays["bright"]

    def nbytes(self, embedding):
        return embedding.nbytes

    def decode(self, embedding, question):
        self.questions.append(question)
        regions, _ = ndimage.label(embedding)
        masks, scores = [np.isin(regions, sorted(self._wanted(regions, question)))], [self.score]
        if question.multimask:  # on purpose not in the order of the scores
            x, y = np.round(question.points_xy[0]).astype(int)
            one = np.zeros_like(embedding)
            one[y, x] = True
            masks, scores = [embedding, *masks, one], [0.7, self.score, 0.8]
        return WindowAnswer(
            tuple(Mask.from_array(m, predicted_iou=s) for m, s in zip(masks, scores, strict=True)),
            tuple(scores),
            np.where(np.stack(masks), 1.0, -1.0).astype(np.float32),
        )

    def _wanted(self, regions: np.ndarray, question: WindowQuestion) -> set[int]:
        """Regions under positive points and those that a mask covers by half; without either, those in the box."""
        at = np.round(question.points_xy).astype(int)
        under = regions[at[:, 1], at[:, 0]]
        wanted = {int(r) for r in under[question.point_labels == 1]}
        shown = None if question.mask is None else question.mask.to_array()
        if question.mask_logits is not None:
            shown = question.mask_logits > 0
        if shown is not None:
            covered, total = np.bincount(regions[shown], minlength=regions.max() + 1), np.bincount(regions.ravel())
            wanted |= {int(r) for r in np.flatnonzero(2 * covered >= total)}
        if not wanted and question.box_xyxy is not None:
            x0, y0, x1, y1 = np.round(question.box_xyxy).astype(int)
            wanted = {int(r) for r in np.unique(regions[y0:y1, x0:x1])}
        return wanted - {0} - {int(r) for r in under[question.point_labels == 0]}
