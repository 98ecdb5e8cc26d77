"""Small images, masks and sessions for the tests of annotation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.prompts import Click, Plane
from napari_sam.annotate.questions import Answer
from napari_sam.annotate.session import AnnotationSession, SessionConfig
from napari_sam.geometry import Box, Mask
from napari_sam.images import Normalisation

FRAME = (12, 16)


def picture(text: str) -> NDArray[np.int64]:
    """A label image drawn with digits; a dot is background."""
    rows = [row.strip() for row in text.strip().splitlines()]
    return np.array([[0 if c == "." else int(c, 36) for c in row] for row in rows])


def drawn(labels: Any) -> str:
    """The inverse of `picture`."""
    digits = ".123456789abcdefghijklmnopqrstuvwxyz"
    return "\n".join("".join(digits[value] for value in row) for row in np.asarray(labels))


def lines(text: str) -> str:
    return "\n".join(row.strip() for row in text.strip().splitlines())


def rectangle(x0: int, y0: int, x1: int, y1: int, frame: tuple[int, int] = FRAME, **fields: Any) -> Mask:
    return Mask.from_window(np.ones((y1 - y0, x1 - x0), bool), Box(x0, y0, x1, y1), frame, **fields)


def image_of(shape: Sequence[int] = FRAME, axes: str | None = None) -> AnnotatedImage:
    array = np.zeros(tuple(shape), np.uint8)
    return AnnotatedImage.open(array, axes=axes, normalisation=Normalisation((0.0,), (255.0,)))


def new_session(
    journal: Path | None = None, shape: Sequence[int] = FRAME, axes: str | None = None, **settings: Any
) -> AnnotationSession:
    config = SessionConfig(**{"chunk_px": 16, "sync_journal": False, "policy": "overwrite", **settings})
    ticks = iter(range(10**9))
    return AnnotationSession(
        image_of(shape, axes), journal, config=config, model="toy", fingerprint="f", clock=lambda: float(next(ticks))
    )


def ask_and_answer(
    session: AnnotationSession, masks: Iterable[Mask] | Mask, plane: Plane = (), scores: Sequence[float] | None = None
) -> None:
    """A click, answered with masks."""
    offered = (masks,) if isinstance(masks, Mask) else tuple(masks)
    question = session.add_prompt(Click((1.0, 1.0)), plane)
    ratings = tuple(scores) if scores is not None else tuple(0.9 - 0.1 * i for i in range(len(offered)))
    assert session.accept(Answer(question.revision, offered, ratings))


def commit_new(session: AnnotationSession, mask: Mask, plane: Plane = ()) -> int:
    """A new object of a mask, committed; its label."""
    ask_and_answer(session, mask, plane)
    assert session.current is not None
    label = session.current.object_id
    session.commit()
    return label
