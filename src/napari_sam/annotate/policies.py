"""What becomes of pixels that belong to another object when a new one is committed."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ConfigError

Policy = Literal["overwrite", "keep_pixels", "keep_objects"]
"""- overwrite: the new object takes all pixels of its mask; others lose theirs, and one that loses all is gone.
- keep_pixels: labelled pixels stay as they are; the new object takes the others.
- keep_objects: as keep_pixels, and the new object stays one object too: where others cut a piece of its mask apart,
  only the largest part of that piece is taken. Nothing is left over on the far side of a neighbour.
"""
POLICIES: tuple[Policy, ...] = get_args(Policy)


def check_policy(policy: str) -> None:
    """Refuse a word that is no policy."""
    if policy not in POLICIES:
        raise ConfigError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}.")


def painted_pixels(mask: NDArray[np.bool_], old: NDArray[Any], label: int, policy: Policy) -> NDArray[np.bool_]:
    """Which pixels of `mask` a new object may take where `old` is labelled so far; all three (h, w).

    Raises
    ------
    ConfigError
        If `policy` is another word.
    """
    check_policy(policy)
    if policy == "overwrite":
        return mask
    free: NDArray[np.bool_] = mask & ((old == 0) | (old == label))
    if policy == "keep_pixels" or np.array_equal(free, mask):
        return free
    return _one_part_a_piece(mask, free)


def _one_part_a_piece(mask: NDArray[np.bool_], free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of each connected piece of `mask` the largest connected part that is free; the first of equals."""
    from scipy import ndimage  # loaded where it is needed: most commits overlap with nothing

    neighbours = np.ones((3, 3))
    pieces, _ = ndimage.label(mask, structure=neighbours)
    parts, count = ndimage.label(free, structure=neighbours)
    if not count:
        return free
    areas = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    at = np.unique(parts, return_index=True)[1][-count:]
    piece_of = pieces.ravel()[at]
    order = np.lexsort((np.arange(count), -areas, piece_of))
    best = order[np.concatenate([[True], np.diff(piece_of[order]) != 0])]
    kept = np.zeros(count + 1, np.bool_)
    kept[best + 1] = True
    return np.asarray(kept[parts])
