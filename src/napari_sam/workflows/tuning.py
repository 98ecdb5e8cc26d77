"""Tune by example: from a few good objects to the limits that keep objects like them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ConfigError
from napari_sam.workflows.refilter import Features, ObjectFilterConfig

FEWEST_EXAMPLES = 3
"""Of fewer, nothing is known about their spread."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Limits made from examples, and what they come to."""

    limits: ObjectFilterConfig
    kept: int
    """Objects of the result within the limits."""
    total: int

    def as_text(self) -> str:
        """One line for a person."""
        limits = self.limits
        return (
            f"predicted IoU from {limits.min_predicted_iou:.3f}, stability from {limits.min_stability_score:.3f}, "
            f"area {limits.min_area_px} to {limits.max_area_px} px: keeps {self.kept} of {self.total} objects"
        )


def propose_limits(features: Features, good: Collection[int]) -> Proposal:
    """Limits that keep objects like the good ones.

    N examples show a part of the range that such objects have: for evenly spread values the range goes on by
    (largest - smallest) / (N - 1) at both ends on average. The limits are widened by that much, sizes on a logarithmic
    scale; scores have no upper limit. So every example passes, and more examples make the limits tighter.

    Parameters
    ----------
    features : mapping of column name to array of shape (N,)
        One row an object of the result: `label`, `predicted_iou`, `stability_score`, `area_px`.
    good : collection of int
        Labels of at least three good objects.

    Returns
    -------
    Proposal

    Raises
    ------
    ConfigError
        If there are too few examples, or one is no object of the result.
    """
    chosen = sorted(set(good))
    if len(chosen) < FEWEST_EXAMPLES:
        raise ConfigError(f"pick at least {FEWEST_EXAMPLES} good objects, got {len(chosen)}; ten are plenty.")
    labels = np.asarray(features["label"], dtype=np.int64)
    strangers = sorted(set(chosen) - set(labels.tolist()))
    if strangers:
        raise ConfigError(f"no object of the result has the label {strangers[0]}; pick objects that the run found.")
    rows = np.isin(labels, chosen)
    smallest, largest = _widened(np.log(np.maximum(features["area_px"][rows], 1).astype(np.float64)))
    limits = ObjectFilterConfig(
        min_predicted_iou=_lowest_score(features["predicted_iou"][rows]),
        min_stability_score=_lowest_score(features["stability_score"][rows]),
        # Rounded outwards, and never past an example because of the logarithm's last digit.
        min_area_px=min(int(np.exp(smallest)), int(features["area_px"][rows].min())),
        max_area_px=max(int(np.ceil(np.exp(largest))), int(features["area_px"][rows].max())),
    )
    return Proposal(limits, int(np.count_nonzero(limits.keeps(features))), len(labels))


def _lowest_score(scores: NDArray[np.float64]) -> float:
    lowest, _ = _widened(scores)
    return float(np.clip(np.floor(lowest * 1000) / 1000, 0, max(scores.min(), 0)))


def _widened(values: NDArray[np.float64]) -> tuple[float, float]:
    """The range of the values and what N of them leave unseen on average at each end."""
    lowest, highest = float(values.min()), float(values.max())
    margin = (highest - lowest) / (len(values) - 1)
    return lowest - margin, highest + margin
