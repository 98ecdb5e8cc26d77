"""What changes over a training: learning rate, size of crops, number and kind of rounds."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from napari_sam.training.config import TrainConfig


def zoom_of(step: int) -> int:
    """How many times the usual side the crops of a step have: most objects are small, large ones must be seen whole."""
    return 4 if step % 16 == 15 else 2 if step % 4 == 3 else 1


def learning_rate(config: TrainConfig, step: int, share: float) -> float:
    """Linear warm-up, then a cosine to 1 % of the peak; `share` of the training is over."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    return config.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def balance(config: TrainConfig, share: float) -> float:
    """Weight of the balanced cross-entropy in the mask loss: from 1 to 0 in the time after the dense part."""
    if config.balance_share == 0:
        return 0.0
    return float(np.clip(1 - (share - config.dense_share) / config.balance_share, 0, 1))


def draw_rounds(config: TrainConfig, rng: np.random.Generator) -> tuple[int, frozenset[int]]:
    """The number of rounds of a step, and which of them, counted from 0, bring no new point.

    As in the paper's appendix A: a first prompt, rounds with one more point each, and two without any, one at a random
    place and the last. A round without a point needs one with a point before it, so that there is a mask to mend.
    """
    chances = round_chances(config.rounds) if config.round_chance == "halving" else np.eye(config.rounds)[-1]
    rounds = int(rng.choice(config.rounds, p=chances)) + 1
    masked = set()
    if config.mask_rounds >= 1 and rounds >= 3:
        masked.add(rounds - 1)
    if config.mask_rounds == 2 and rounds >= 4:
        masked.add(int(rng.integers(1, rounds - 1)))
    return rounds, frozenset(masked)


def round_chances(rounds: int) -> NDArray[np.float64]:
    """Chance of 1, 2, ... rounds: each further one half as likely, since it costs as much as the first."""
    chances = 0.5 ** np.arange(rounds)
    return np.asarray(chances / chances.sum())
