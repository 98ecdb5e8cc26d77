"""Which image a training crop is cut from: real pairs by group, and generated ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_sam.errors import ConfigError
from napari_sam.training.data import Pair, Sample, SampleCache
from napari_sam.training.generated import GENERATORS

GENERATED_PX = 384
"""Side of a generated image: one or two crops wide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawConfig:
    """What training samples are drawn from."""

    generated: float = 0.15
    """Part of the samples that are generated images; 0 uses the folder alone."""
    sparse_groups: tuple[str, ...] = ()
    """Groups (folders, or the manifest's `dataset`) in which not every object is labelled: background teaches nothing
    there."""

    def __post_init__(self) -> None:
        if not 0 <= self.generated <= 1:
            raise ConfigError(f"generated must lie in [0, 1], got {self.generated}.")


class TrainingSet:
    """Draws samples: generated ones, or one of a group of pairs.

    A group's chance goes with the square root of its size, so that small groups are seen often enough.
    """

    def __init__(self, pairs: Sequence[Pair], config: DrawConfig) -> None:
        self._cache = SampleCache(pairs)
        self._config = config
        self._groups: dict[str, list[int]] = {}
        for index, pair in enumerate(pairs):
            self._groups.setdefault(pair.group, []).append(index)
        chances = np.sqrt([len(members) for members in self._groups.values()])
        self._chances = chances / chances.sum()
        unknown = set(config.sparse_groups) - set(self._groups)
        if unknown:
            there = ", ".join(self._groups)
            raise ConfigError(f"sparse_groups names {', '.join(sorted(unknown))}; the groups are {there}.")

    def __call__(self, rng: np.random.Generator) -> tuple[Sample, bool]:
        """A sample, and whether all its objects are labelled."""
        if rng.random() < self._config.generated:
            name = list(GENERATORS)[rng.integers(len(GENERATORS))]
            made = GENERATORS[name](rng, (GENERATED_PX, GENERATED_PX))
            image = made.image if made.image.ndim == 3 else np.repeat(made.image[..., np.newaxis], 3, axis=2)
            return Sample(image, made.labels, name), True
        name = list(self._groups)[rng.choice(len(self._groups), p=self._chances)]
        members = self._groups[name]
        return self._cache[members[rng.integers(len(members))]], name not in self._config.sparse_groups
