"""The image encoder, for one caller or shared by several threads in batches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_sam.errors import ConfigError
from napari_sam.predict.config import Precision
from napari_sam.predict.devices import encoder_autocast, iter_batches

if TYPE_CHECKING:
    from napari_sam.model.loading import SamModel

Encode = Callable[[Tensor], Tensor]
"""Normalised pixels (1, 3, H, W) on the model's device -> what the encoder makes of them, (1, C, h, w) float32."""
PATIENCE_SECONDS = 0.05
"""How long an image waits for others. Threads that have no image for the encoder then are busy with something else, or
there are no more images."""


def encode_pixels(model: SamModel, pixels: Tensor, *, precision: Precision = "auto") -> Tensor:
    """What the image encoder makes of normalised pixels (B, 3, H, W) on its device: (B, C, h, w) float32."""
    encoder = model.sam.image_encoder
    with torch.no_grad(), encoder_autocast(encoder, model.device, precision):
        made: Tensor = encoder(pixels)
    return made.float()


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """An image that waits for its batch."""

    pixels: Tensor
    answer: Future[Tensor] = field(default_factory=Future)


class EncoderBatches:
    """An image encoder for several threads: images of one size, asked for at about the same time, are one batch.

    Whoever takes the last place of a batch encodes for all. After `PATIENCE_SECONDS` a batch goes as it is, filled up
    with empty images: a device may add up in another order for another number of images, and what is made of one image
    must not depend on how many others were there.

    Parameters
    ----------
    model : SamModel
    size : int
        Images a batch. There have to be at least as many threads; twice as many, and one half encodes while the other
        makes masks.
    precision : "auto" or "fp32"
        As of :func:`napari_sam.embed_image`.

    Raises
    ------
    ConfigError
        If `size` is below 1.
    """

    def __init__(self, model: SamModel, size: int, *, precision: Precision = "auto") -> None:
        if size < 1:
            raise ConfigError(f"a batch needs at least 1 image, got {size}; 4 is usual on a GPU.")
        self._model = model
        self._size = size
        self._fits = size  # as many as the device's memory was seen to hold
        self._precision = precision
        self._lock = threading.Lock()
        self._waiting: dict[torch.Size, list[_Asked]] = {}

    def __call__(self, pixels: Tensor) -> Tensor:
        """What the encoder makes of normalised pixels (1, 3, H, W) on its device: (1, C, h, w) float32.

        Raises what the encoder raised, in all threads of the batch.
        """
        mine = _Asked(pixels)
        with self._lock:
            waiting = self._waiting.setdefault(pixels.shape, [])
            waiting.append(mine)
            batch = self._waiting.pop(pixels.shape) if len(waiting) == self._size else []
        if not batch:
            try:
                return mine.answer.result(timeout=PATIENCE_SECONDS)
            except TimeoutError:
                batch = self._take(mine)
        if batch:
            self._encode(batch)
        return mine.answer.result()

    def _take(self, mine: _Asked) -> list[_Asked]:
        """The batch in which an image still waits; empty if another thread has it already."""
        with self._lock:
            waiting = self._waiting.get(mine.pixels.shape, [])
            return self._waiting.pop(mine.pixels.shape) if any(asked is mine for asked in waiting) else []

    def _encode(self, batch: list[_Asked]) -> None:
        try:
            given = torch.cat([asked.pixels for asked in batch])
            empty = given.new_zeros(self._size - len(batch), *given.shape[1:])
            made = self._encode_all(torch.cat([given, empty]))
        except BaseException as error:  # the others wait for an answer, whatever it is
            for asked in batch:
                asked.answer.set_exception(error)
            return
        for asked, answer in zip(batch, made.split(1), strict=False):
            asked.answer.set_result(answer)

    def _encode_all(self, pixels: Tensor) -> Tensor:
        parts = iter_batches(
            len(pixels),
            self._fits,
            lambda part: encode_pixels(self._model, pixels[part], precision=self._precision),
            what="image",
            setting="tiles_per_batch",
        )
        answers = []
        for part, made in parts:
            self._fits = min(self._fits, part.stop - part.start) if part.stop < len(pixels) else self._fits
            answers.append(made)
        return torch.cat(answers)
