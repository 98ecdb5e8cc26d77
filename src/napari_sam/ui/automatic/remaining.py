"""How long a job will still take, from how fast its steps came."""

from __future__ import annotations

import time
from collections.abc import Callable


class RemainingTime:
    """Watches the steps of a job's stages.

    Parameters
    ----------
    clock : function without arguments, optional
        Seconds since some moment.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage = ""
        self._began = 0.0
        self._paused_at: float | None = None
        self._first = self._done = self._total = 0

    def tell(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` steps of a stage are done; steps of an earlier run say nothing about the speed."""
        if stage != self._stage:
            self._stage, self._began, self._first = stage, self._clock(), done
        self._done, self._total = done, total

    def pause(self) -> None:
        """Time does not count from here on."""
        self._paused_at = self._clock()

    def go_on(self) -> None:
        """Time counts again."""
        if self._paused_at is not None:
            self._began += self._clock() - self._paused_at
            self._paused_at = None

    @property
    def seconds(self) -> float | None:
        """Expected seconds to the end of this stage; None before its first step."""
        steps = self._done - self._first
        if steps < 1:
            return None
        now = self._clock() if self._paused_at is None else self._paused_at
        return (now - self._began) / steps * (self._total - self._done)

    def as_text(self) -> str:
        """Like "about 1:05 left"; empty while nothing is known."""
        seconds = self.seconds
        if seconds is None:
            return ""
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
        return f"about {clock} left"
