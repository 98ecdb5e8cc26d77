"""What the model is asked about the current object, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotate.prompts import Plane, Prompt
from napari_sam.errors import AnnotationError
from napari_sam.geometry import Mask

if TYPE_CHECKING:
    from napari_sam.annotate.windows import Window


@dataclass(frozen=True, slots=True)
class Answer:
    """One mask, or three of an ambiguous prompt (whole, part, subpart), with the model's own ratings."""

    revision: int
    """Of the question this answers."""
    masks: tuple[Mask, ...]
    """In the plane's frame."""
    scores: tuple[float, ...]
    """Predicted IoU of each mask."""
    window: Window | None = None
    """What the model looked at; None for an answer read from a journal, or a mask that no model made."""
    logits: NDArray[Any] | None = field(default=None, compare=False, repr=False)
    """Low-resolution mask logits (M, h, w) of `window`; kept in memory only."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "masks", tuple(self.masks))
        object.__setattr__(self, "scores", tuple(float(score) for score in self.scores))
        if not self.masks or len(self.masks) != len(self.scores) or not np.isfinite(self.scores).all():
            raise AnnotationError(
                f"an answer needs at least one mask and one finite score a mask, got {len(self.masks)} masks and "
                f"the scores {self.scores}."
            )

    @property
    def best(self) -> int:
        """Index of the mask with the best score; the first of equals."""
        return int(np.argmax(self.scores))

    def only(self, index: int) -> Answer:
        """The same with one mask."""
        logits = None if self.logits is None else self.logits[index : index + 1]
        return replace(self, masks=(self.masks[index],), scores=(self.scores[index],), logits=logits)


@dataclass(frozen=True, slots=True)
class Question:
    """The prompts of one object in one plane, as they stood at one moment."""

    revision: int
    """Number of this set of prompts: an answer is taken only while the same set is still there."""
    object_id: int
    plane: Plane
    prompts: tuple[Prompt, ...]
    view_step: int = 1
    """Reduction of the pyramid level the user looks at, a power of two."""
    former: Answer | None = None
    """The mask shown before the last prompt: exactly one, with logits where they are still in memory."""
