"""A session told again in the plainest way: dense arrays, a full copy of everything at each step."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SHAPE = (2, 12, 16)


@dataclass
class Part:
    """One plane of a draft."""

    stack: list[Any] = field(default_factory=list)
    """One entry a prompt: [masks, choice], or None where no answer is known."""
    given: Any = None
    """Pixels it has without any prompt."""

    def pixels(self):
        if self.stack:
            entry = self.stack[-1]
            return None if entry is None else entry[0][entry[1]]
        return self.given


@dataclass
class Model:
    labels: Any = field(default_factory=lambda: np.zeros(SHAPE, np.uint32))
    drafts: dict[int, dict[str, Any]] = field(default_factory=dict)
    """By number: {"plane": ..., "parts": {plane: Part}, "reopened": bool}."""
    current: int | None = None
    verdicts: dict[int, str | None] = field(default_factory=dict)
    prompts: dict[tuple[int, tuple[int, ...]], int] = field(default_factory=dict)
    """How many prompts a committed object has in a plane."""

    def tidy(self):
        """Forget what is known of objects, or planes of them, that have no pixels."""
        there = {(int(label), (z,)) for z in range(SHAPE[0]) for label in np.unique(self.labels[z]) if label}
        self.prompts = {key: n for key, n in self.prompts.items() if key in there}
        labels = {label for label, _ in there}
        self.verdicts = {label: verdict for label, verdict in self.verdicts.items() if label in labels}

    def commit(self, numbers, policy):
        """Whether anything was committed."""
        committed = []
        for number in sorted(numbers):
            draft, before = self.drafts[number], self.labels.copy()
            if draft["reopened"]:
                self.labels[self.labels == number] = 0
            got_any = False
            for plane, part in sorted(draft["parts"].items()):
                pixels = part.pixels()
                if pixels is not None and pixels.any():
                    taken = allowed(pixels, self.labels[plane], number, policy)
                    self.labels[plane][taken] = number
                    got_any |= bool(taken.any())
            if not got_any:
                self.labels = before
                continue
            committed.append(number)
        for number in committed:
            for z in range(SHAPE[0]):
                self.prompts.pop((number, (z,)), None)
            for plane, part in self.drafts[number]["parts"].items():
                self.prompts[number, plane] = len(part.stack)
            self.verdicts[number] = None
            del self.drafts[number]
        if self.current in committed:
            self.current = None
        return bool(committed)


def allowed(mask, old, label, policy):
    """What a new object may take, by the words of the policy."""
    if policy == "overwrite":
        return mask
    free = mask & ((old == 0) | (old == label))
    if policy == "keep_pixels":
        return free
    kept = np.zeros_like(mask)
    for piece in pieces(mask):
        parts = [part for part in pieces(free) if (part & piece).any()]
        if parts:
            kept |= max(parts, key=lambda part: part.sum())
    return kept


def pieces(mask):
    """The 8-connected pieces of a mask, by flooding, in reading order."""
    left, found = mask.copy(), []
    while left.any():
        piece, edge = np.zeros_like(mask), [tuple(np.argwhere(left)[0])]
        while edge:
            y, x = edge.pop()
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and left[y, x]:
                left[y, x], piece[y, x] = False, True
                edge += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        found.append(piece)
    return found


class History:
    """Undo and redo by keeping all copies."""

    def __init__(self):
        self.copies = [Model()]
        self.at = 0
        self.highest = 0

    @property
    def now(self) -> Model:
        return self.copies[self.at]

    def act(self) -> Model:
        """A copy to change: a new step."""
        new = copy.deepcopy(self.now)
        self.copies[self.at + 1 :] = [new]
        self.at += 1
        return new

    def drop(self) -> None:
        """Forget the step begun last: it was refused. What could be done again is forgotten with it."""
        self.copies.pop()
        self.at -= 1

    def settle(self) -> None:
        self.now.tidy()
        self.highest = max(self.highest, int(self.now.labels.max()))

    def next_label(self) -> int:
        return 1 + max([self.highest, *self.now.drafts])
