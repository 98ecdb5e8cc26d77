"""Run-length encoded masks in the order and the text form of COCO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import ImageError

MAX_RUN = int(np.iinfo(np.uint32).max)
MAX_GROUPS = 12
"""Characters a number may have: 60 bits, far above any image."""


@dataclass(frozen=True, slots=True, eq=False)
class Rle:
    """A binary mask as run lengths, column by column; the first run is of zeros.

    The counts are brought to one form (no run of length zero but the first), so two masks are equal exactly if
    their pixels are.
    """

    height: int
    width: int
    counts: NDArray[np.uint32]
    """Lengths of the runs, alternately of zeros and ones; read-only."""

    def __post_init__(self) -> None:
        if self.height < 0 or self.width < 0:
            raise ImageError(f"the sides of a mask must be at least 0, got ({self.height}, {self.width}).")
        counts = _checked_counts(self.counts, self.height, self.width)
        counts.setflags(write=False)
        object.__setattr__(self, "height", int(self.height))
        object.__setattr__(self, "width", int(self.width))
        object.__setattr__(self, "counts", counts)

    @classmethod
    def encode(cls, mask: ArrayLike) -> Rle:
        """Run lengths of `mask` (H, W); everything but zero is inside.

        Raises
        ------
        ImageError
            If `mask` is not 2-D.

        Examples
        --------
        >>> Rle.encode([[0, 1], [1, 1]]).counts
        array([1, 3], dtype=uint32)
        """
        pixels = np.asarray(mask)
        if pixels.ndim != 2:
            raise ImageError(f"a mask must have shape (H, W), got {pixels.shape}; encode one mask at a time.")
        flat = pixels.astype(bool, copy=False).ravel(order="F")
        changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        first = [0, 0] if flat.size and flat[0] else [0]
        counts = np.diff(np.concatenate([first, changes, [flat.size]]))
        return cls(pixels.shape[0], pixels.shape[1], counts)

    @classmethod
    def from_coco(cls, coco: Mapping[str, Any]) -> Rle:
        """The mask of a COCO dictionary: `size` [h, w] and `counts` as text, bytes or a list of numbers.

        Raises
        ------
        ImageError
            If a key is missing, the text is damaged, or the counts do not add up to h * w.
        """
        if not {"size", "counts"} <= coco.keys():
            raise ImageError(f"a COCO mask needs the keys 'size' and 'counts', got {sorted(coco)}.")
        height, width = coco["size"]
        counts = coco["counts"]
        if isinstance(counts, str | bytes):
            counts = counts_from_text(counts)
        return cls(height, width, counts)

    def decode(self) -> NDArray[np.bool_]:
        """The pixels, shape (H, W), bool."""
        inside = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(inside, self.counts).reshape(self.width, self.height).T

    @property
    def area(self) -> int:
        """Number of pixels inside."""
        return int(self.counts[1::2].sum(dtype=np.int64))

    def to_coco(self) -> dict[str, Any]:
        """`{"size": [h, w], "counts": text}`, readable by pycocotools and fit for JSON."""
        return {"size": [self.height, self.width], "counts": counts_to_text(self.counts)}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rle):
            return NotImplemented
        same_size = (self.height, self.width) == (other.height, other.width)
        return same_size and np.array_equal(self.counts, other.counts)

    def __hash__(self) -> int:
        return hash((self.height, self.width, self.counts.tobytes()))


def counts_to_text(counts: ArrayLike) -> str:
    """COCO's text form of run lengths.

    From the fourth on, each length is written as its difference to the one two before. A number becomes groups of
    five bits, lowest first, each one character from "0" on; bit 5 says that more follow, bit 4 of the last is the sign.

    Parameters
    ----------
    counts : array of shape (K,), integers
        Up to 64 bits wide: a frame of 100 000 x 100 000 has runs above 32 bits.

    Examples
    --------
    >>> counts_to_text([6, 1, 40, 4])
    '61X13'
    """
    values = np.array(counts, dtype=np.int64)
    values[3:] -= np.asarray(counts, dtype=np.int64)[1:-2]
    groups, used = [], []
    unfinished = np.ones(len(values), dtype=bool)
    while unfinished.any():
        low = values & 0x1F
        values = values >> 5
        more = unfinished & np.where(low & 0x10, values != -1, values != 0)
        groups.append(low + 0x20 * more + ord("0"))
        used.append(unfinished)
        unfinished = more
    if not groups:
        return ""
    codes: NDArray[np.uint8] = np.stack(groups, axis=1)[np.stack(used, axis=1)].astype(np.uint8)
    return codes.tobytes().decode("ascii")


def counts_from_text(text: str | bytes) -> NDArray[np.int64]:
    """Run lengths from COCO's text form, shape (K,); the inverse of `counts_to_text`.

    Raises
    ------
    ImageError
        If a character does not belong to the code or the last number is cut off.
    """
    raw = text.encode() if isinstance(text, str) else text
    codes = np.frombuffer(raw, dtype=np.uint8).astype(np.int64) - ord("0")
    if not len(codes):
        return codes
    last = codes & 0x20 == 0
    place = _place_in_group(last)
    if codes.min() < 0 or codes.max() > 0x3F or not last[-1] or place.max() >= MAX_GROUPS:
        raise ImageError(
            f"a COCO run-length text is wanted, got {_shortened(raw)}; it may be cut off or in another format, "
            "write it again from the mask."
        )
    starts = np.flatnonzero(place == 0)
    values = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    negative = codes[last] & 0x10 != 0
    values -= np.where(negative, np.int64(1) << (5 * (place[last] + 1)), 0)  # two's complement of 5 bits a group
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _place_in_group(last: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each character its place in its number, from 0; `last` marks the end of each number."""
    index = np.arange(len(last))
    starts = np.concatenate([[0], index[:-1][last[:-1]] + 1])
    place: NDArray[np.int64] = index - starts[np.cumsum(last) - last]
    return place


def _checked_counts(counts: ArrayLike, height: int, width: int) -> NDArray[np.uint32]:
    runs = np.asarray(counts)
    if runs.size == 0:
        runs = np.empty(0, dtype=np.int64)
    if runs.ndim != 1 or not np.issubdtype(runs.dtype, np.integer):
        raise ImageError(f"run lengths must be one row of whole numbers, got {runs.dtype} of shape {runs.shape}.")
    runs = runs.astype(np.int64)
    if (runs < 0).any() or (runs > MAX_RUN).any():
        raise ImageError(
            f"run lengths must lie in [0, {MAX_RUN}], got {runs.min()} to {runs.max()}; cut the mask to its box."
        )
    if runs.sum() != height * width:
        raise ImageError(
            f"run lengths of a {height} x {width} mask must add up to {height * width}, got {runs.sum()}; "
            "check that the size is (height, width) and the runs go down the columns."
        )
    return _without_empty_runs(runs).astype(np.uint32)


def _without_empty_runs(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same pixels with no run of length zero but the first."""
    if runs[1:].all() and runs.any():
        return runs
    inside = np.arange(len(runs)) % 2 == 1
    inside, runs = inside[runs > 0], runs[runs > 0]
    if not len(runs):
        return runs
    starts = np.flatnonzero(np.concatenate([[True], inside[1:] != inside[:-1]]))
    merged = np.add.reduceat(runs, starts)
    return np.concatenate([[0], merged]) if inside[0] else merged


def _shortened(raw: bytes) -> str:
    return repr(raw if len(raw) <= 40 else raw[:40] + b"...")
