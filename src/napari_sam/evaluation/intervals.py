"""How far a mean could be off: bootstrap intervals over images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEAST_VALUES = 2
"""Of fewer values nothing can be said about how much they vary."""


def bootstrap_interval(
    values: Sequence[float], clusters: Sequence[int] | None = None, *, rounds: int = 1000, seed: int = 0
) -> list[float] | None:
    """The middle 95 % of the means of `rounds` samples drawn from `values` with replacement.

    Objects of one image are alike, so they are drawn together: with `clusters`, whole images are drawn and the mean is
    over the objects of those. Drawing objects one by one would promise too narrow an interval.

    Parameters
    ----------
    values : sequence of float
    clusters : sequence of int, optional
        For each value the image it comes from. Of a single image the values themselves are drawn: the interval then
        says nothing about other images.
    rounds, seed : int

    Returns
    -------
    [low, high], or None
        None of fewer than two values.

    Examples
    --------
    >>> bootstrap_interval([0.5, 0.5, 0.5])
    [0.5, 0.5]
    """
    if len(values) < LEAST_VALUES:
        return None
    members = np.unique(range(len(values)) if clusters is None else clusters, return_inverse=True)[1]
    if members.max() == 0:
        members = np.arange(len(values))
    sums, counts = np.bincount(members, weights=np.asarray(values, dtype=float)), np.bincount(members)
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(len(sums), size=len(sums)) for _ in range(rounds))
    means = [sums[draw].sum() / counts[draw].sum() for draw in drawn]
    return [float(x) for x in np.percentile(means, [2.5, 97.5])]
