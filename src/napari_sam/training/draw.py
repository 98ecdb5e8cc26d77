"""Which image a training crop is cut from: real pairs by group, and generated ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ConfigError
from napari_sam.training.config import DrawConfig
from napari_sam.training.data import Pair, Sample, SampleCache
from napari_sam.training.generated import GENERATORS

GENERATED_PX = 384
"""Side of a generated image: one or two crops wide."""


class TrainingSet:
    """Draws samples: generated ones, or pairs: first a group, then a part of it, then one of its pairs.

    A group's chance goes with the square root of its size, and so does a part's within its group: small ones are seen
    often enough, large ones more often.
    """

    def __init__(self, pairs: Sequence[Pair], config: DrawConfig) -> None:
        self._cache = SampleCache(pairs)
        self._config = config
        parts: dict[str, dict[str, list[int]]] = {}
        for index, pair in enumerate(pairs):
            parts.setdefault(pair.group, {}).setdefault(pair.subgroup, []).append(index)
        self._groups = {group: list(members.values()) for group, members in parts.items()}
        unknown = set(config.sparse_groups) - set(self._groups)
        if unknown:
            there = ", ".join(self._groups)
            raise ConfigError(f"sparse_groups names {', '.join(sorted(unknown))}; the groups are {there}.")
        self._chances = _root_chances([sum(map(len, parts)) for parts in self._groups.values()])
        self._part_chances = {group: _root_chances([len(p) for p in parts]) for group, parts in self._groups.items()}

    def __call__(self, rng: np.random.Generator) -> tuple[Sample, bool]:
        """A sample, and whether all its objects are labelled."""
        if rng.random() < self._config.generated:
            return _generated(rng), True
        group = list(self._groups)[rng.choice(len(self._groups), p=self._chances)]
        parts = self._groups[group]
        members = parts[rng.choice(len(parts), p=self._part_chances[group])]
        sample = self._cache.draw(members[rng.integers(len(members))], rng)
        return sample, group not in self._config.sparse_groups


def held_out(pairs: Sequence[Pair], config: DrawConfig) -> tuple[list[Pair], list[Pair]]:
    """The pairs to train with and those held out for validation, drawn at random.

    Raises
    ------
    ConfigError
        If the share would leave nothing to train with or nothing to judge.
    """
    if config.val_share == 0:
        return list(pairs), []
    count = max(1, round(config.val_share * len(pairs)))
    if count >= len(pairs):
        raise ConfigError(
            f"val_share = {config.val_share} of {len(pairs)} pairs leaves none to train with; give more pairs, or a "
            "folder for validation."
        )
    chosen = set(np.random.default_rng(config.val_seed).permutation(len(pairs))[:count].tolist())
    return [p for i, p in enumerate(pairs) if i not in chosen], [p for i, p in enumerate(pairs) if i in chosen]


def _root_chances(sizes: Sequence[int]) -> NDArray[np.float64]:
    roots = np.sqrt(sizes)
    return np.asarray(roots / roots.sum())


def _generated(rng: np.random.Generator) -> Sample:
    name = list(GENERATORS)[rng.integers(len(GENERATORS))]
    made = GENERATORS[name](rng, (GENERATED_PX, GENERATED_PX))
    image = made.image if made.image.ndim == 3 else np.repeat(made.image[..., np.newaxis], 3, axis=2)
    return Sample(image, made.labels, name)
