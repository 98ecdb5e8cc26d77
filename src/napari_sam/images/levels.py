"""By what factor a pyramid level is smaller than the image, and which level fits a reduced view."""

from __future__ import annotations

MAX_STEP = 2**14


def reduction_factor(size: tuple[int, int], reduced: tuple[int, int]) -> int | None:
    """The power of two by which (H, W) `reduced` is smaller than `size`, rounded up or down; None if there is none."""
    height, width = size
    factor = 1
    while factor <= MAX_STEP:
        # Writers round the size of a level up or down, and none goes below one pixel.
        if all(max(n // factor, 1) <= m <= -(-n // factor) for n, m in ((height, reduced[0]), (width, reduced[1]))):
            return factor
        factor *= 2
    return None


def is_reduction(axes: str, shape: tuple[int, ...], reduced: tuple[int, ...]) -> bool:
    """Whether an array of shape `reduced` can be a smaller view of one of `shape`: rows and columns alone differ."""
    if len(shape) != len(reduced) or any(m != n for a, m, n in zip(axes, shape, reduced, strict=True) if a not in "YX"):
        return False
    y, x = axes.index("Y"), axes.index("X")
    return (reduction_factor((shape[y], shape[x]), (reduced[y], reduced[x])) or 1) > 1
