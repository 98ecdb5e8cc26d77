"""Which pairs of a folder cannot teach anything, found and named before a training begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from napari_sam.errors import TrainingError
from napari_sam.geometry import Box
from napari_sam.training.data import Pair
from napari_sam.training.reading import open_files

MAX_LABELS_PX = 16 * 2**20
"""Larger label images are not read to see whether they are empty."""


@dataclass(frozen=True, slots=True)
class BadPair:
    """A pair that cannot be trained with, and why."""

    pair: Pair
    reason: str


def find_bad_pairs(pairs: Sequence[Pair], *, allow_empty: bool = False) -> list[BadPair]:
    """Pairs without labels, that cannot be opened, do not fit, or (unless `allow_empty`) hold no object at all."""
    checked = ((pair, _reason(pair, allow_empty)) for pair in pairs)
    return [BadPair(pair, reason) for pair, reason in checked if reason]


def usable_pairs(
    pairs: Sequence[Pair], *, skip_bad: bool, allow_empty: bool = False, tell: Callable[[str], None] | None = None
) -> list[Pair]:
    """The pairs that can be trained with, in their order.

    Parameters
    ----------
    pairs : sequence of Pair
    skip_bad : bool
        Leave bad pairs out; each is told to `tell`.
    allow_empty : bool
        Whether labels without any object are meant so: an image of background.

    Raises
    ------
    TrainingError
        If there are bad pairs and they are not to be skipped (all of them are named), or nothing is left.
    """
    bad = find_bad_pairs(pairs, allow_empty=allow_empty)
    if bad and not skip_bad:
        listed = "\n".join(f"  {item.reason}" for item in bad)
        raise TrainingError(
            f"{len(bad)} of {len(pairs)} pairs cannot be trained with:\n{listed}\nMend them, or leave them out with "
            "skip_bad (--skip-bad); where an image without objects is meant so, say allow_empty (--allow-empty)."
        )
    for item in bad:
        if tell is not None:
            tell(f"left out: {item.reason}")
    left = {item.pair for item in bad}
    kept = [pair for pair in pairs if pair not in left]
    if not kept:
        raise TrainingError(f"all of the {len(pairs)} pairs are bad, the first: {bad[0].reason}")
    return kept


def _reason(pair: Pair, allow_empty: bool) -> str:
    if not pair.labels.exists():
        return f"{pair.image} has no labels: {pair.labels} does not exist."
    try:
        opened = open_files(pair.image, pair.labels, pair.name)
        height, width = opened.labels.shape
        if allow_empty or height * width > MAX_LABELS_PX or opened.read_labels(Box.of_size((height, width))).any():
            return ""
    except TrainingError as error:
        return str(error)
    return f"{pair.labels} is empty: it holds no object."
