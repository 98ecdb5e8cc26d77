"""What a session asks of a model: embed a window once, then answer questions about it quickly. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Mask


@dataclass(frozen=True, slots=True, eq=False)
class WindowQuestion:
    """The prompts of one object, in pixels of the window that was embedded."""

    points_xy: NDArray[np.float64]
    """(N, 2), N may be 0; whole numbers are pixel centres."""
    point_labels: NDArray[np.int64]
    """(N,): 1 on the object, 0 off it."""
    box_xyxy: tuple[float, float, float, float] | None = None
    """Half-open."""
    mask: Mask | None = None
    """A rough mask, in the window's frame; the segmenter makes mask logits of it."""
    mask_logits: NDArray[Any] | None = None
    """(h, w), of an earlier answer in the same window; wins over `mask`."""
    multimask: bool = False
    """Three masks of an ambiguous prompt, or one of a clear one."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowAnswer:
    """M masks for one question."""

    masks: tuple[Mask, ...]
    """In the window's frame, with their predicted IoU."""
    predicted_iou: tuple[float, ...]
    low_res_logits: NDArray[Any]
    """(M, h, w)."""


class Segmenter(Protocol):
    """A promptable model; all methods may be called from several threads."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str:
        """Two segmenters with the same one give the same embeddings and answers."""
        ...

    @property
    def window_px(self) -> int:
        """Side of the square the model looks at, in its own pixels."""
        ...

    def embed(self, pixels: NDArray[np.uint8], /) -> Any:
        """The embedding of (h, w, 3) pixels: slow."""
        ...

    def to_arrays(self, embedding: Any, /) -> dict[str, NDArray[Any]]:
        """The embedding as named arrays, for a file."""
        ...

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]], /) -> Any:
        """The embedding of these arrays; KeyError or ValueError if they are not one."""
        ...

    def nbytes(self, embedding: Any, /) -> int:
        """Memory that an embedding takes."""
        ...

    def decode(self, embedding: Any, question: WindowQuestion, /) -> WindowAnswer:
        """Masks for one question: quick."""
        ...
