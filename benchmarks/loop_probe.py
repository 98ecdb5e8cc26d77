"""What a GUI thread does between two ticks of its event loop: how long, on the processor or waiting, and where."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
from qtpy.QtCore import QTimer

TICK_MS = 2
LOOK_S = 0.005
"""How often the other thread looks where the GUI thread is."""
SHORTEST_LOOKED_AT_MS = 20.0
SHOWN = 6
PACKAGES = ("napari_sam", "napari", "vispy", "dask", "zarr")
"""Where a frame is named from, the most telling first."""


@dataclass(frozen=True, slots=True)
class Gap:
    """The time between two ticks, in ms; `own`, `queued` and `waited` add up to `wall`."""

    wall: float
    own: float
    """On the processor: our code, Qt's and napari's."""
    queued: float
    """Ready to run, but the processor was given to somebody else: the load of the machine."""
    waited: float
    """For a lock (Python's own among them), the disk, or the threads of a software renderer."""
    seen: tuple[tuple[str, int], ...] = ()
    """Where the thread was seen, and how often; the most frequent first."""

    def as_text(self) -> str:
        places = "; ".join(f"{count} x {place}" for place, count in self.seen[:4])
        return (
            f"{self.wall:5.0f} ms: {self.own:4.0f} on the processor, {self.queued:4.0f} queued for it, "
            f"{self.waited:4.0f} waiting   {places}"
        )


class LoopProbe:
    """Notes when the event loop comes round; a second thread looks at what long gaps are spent with (Linux)."""

    def __init__(self) -> None:
        self.gaps: list[Gap] = []
        self._thread = threading.get_ident()
        self._schedule = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._seen: Counter[str] = Counter()
        self._last = self._now()
        self._stop = threading.Event()
        self._timer = QTimer()
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._last = self._now()
        self._timer.start()
        self._watcher.start()

    def stop(self) -> None:
        self._timer.stop()
        self._stop.set()
        self._watcher.join()

    def report(self, limit_ms: float) -> str:
        """How long gaps are by the clock and by the thread's own work, and the longest of both above the limit."""
        wall = np.array([gap.wall for gap in self.gaps])
        own = np.array([gap.own for gap in self.gaps])
        lines = [
            f"longest gap {wall.max():.0f} ms, 99.9 % below {np.percentile(wall, 99.9):.0f} ms, "
            f"{np.count_nonzero(wall > limit_ms)} of {len(wall)} above {limit_ms:.0f} ms",
            f"of the thread's own work {own.max():.0f} ms, 99.9 % below {np.percentile(own, 99.9):.0f} ms, "
            f"{np.count_nonzero(own > limit_ms)} above {limit_ms:.0f} ms",
        ]
        longest = sorted(self.gaps, key=lambda gap: gap.wall)[-SHOWN:]
        busiest = sorted(self.gaps, key=lambda gap: gap.own)[-SHOWN:]
        shown = [gap for gap in self.gaps if gap.wall > limit_ms and (gap in longest or gap in busiest)]
        return "\n".join([*lines, *(gap.as_text() for gap in shown)])

    def _now(self) -> tuple[float, float, float]:
        """Clock, time on the processor and time queued for it, in ms."""
        on_processor, queued, _ = self._schedule.read_text().split()
        return time.perf_counter() * 1e3, int(on_processor) / 1e6, int(queued) / 1e6

    def _tick(self) -> None:
        now, seen, self._seen = self._now(), self._seen, Counter()
        wall, own, queued = (after - before for after, before in zip(now, self._last, strict=True))
        self._last = now
        # The kernel counts in its own ticks: a slice that is not over yet may be missing.
        self.gaps.append(Gap(wall, own, queued, max(wall - own - queued, 0.0), tuple(seen.most_common())))

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            if time.perf_counter() * 1e3 - self._last[0] > SHORTEST_LOOKED_AT_MS:
                self._seen[_place(sys._current_frames().get(self._thread))] += 1


def _place(frame: FrameType | None) -> str:
    """Innermost frame of each package that is known, as one text."""
    found: dict[str, str] = {}
    while frame is not None:
        parts = Path(frame.f_code.co_filename).parts
        package = next((name for name in PACKAGES if name in parts), None)
        if package is not None and package not in found:
            found[package] = f"{Path(*parts[-2:])}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return " < ".join(found[name] for name in PACKAGES if name in found) or "Qt"
