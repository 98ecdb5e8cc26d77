"""How long the window is ever blocked during an automatic run: the longest gap between two ticks of its event loop.

    xvfb-run -s "-screen 0 1600x1200x24" python benchmarks/gui_blocking.py [--side 2048] [--limit-ms 100]

A timer ticks in the GUI thread; while the thread does anything else, it cannot. Gaps before Segment is pressed and
after the result is shown are not counted. Nothing else should run on the machine: what takes the processor away from
the window counts as well. Exit code 1 if a gap is longer than the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Callable

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_sam.ui import AutomaticSegmentation
from napari_sam.workflows.samples import nuclei

TICK_MS = 2
PATIENCE_S = 900
SHOWN_LINES = 6


class LoopProbe:
    """Notes when the event loop comes round; a second thread looks at what a long gap is spent with."""

    def __init__(self, limit_ms: float) -> None:
        self.gaps_ms: list[float] = []
        self.culprits: list[tuple[float, str]] = []
        self._limit_ms = limit_ms
        self._gui_thread = threading.get_ident()
        self._last = time.perf_counter()
        self._stop = threading.Event()
        self._timer = QTimer()
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._last = time.perf_counter()
        self._timer.start()
        self._watcher.start()

    def stop(self) -> None:
        self._timer.stop()
        self._stop.set()
        self._watcher.join()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps_ms.append((now - self._last) * 1000)
        self._last = now

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            waited_ms = (time.perf_counter() - self._last) * 1000
            if waited_ms > self._limit_ms:
                frame = sys._current_frames().get(self._gui_thread)
                lines = traceback.format_stack(frame)[-SHOWN_LINES:] if frame is not None else []
                self.culprits.append((waited_ms, "".join(lines)))


def field(side: int) -> np.ndarray:
    """Nuclei side by side."""
    tile = nuclei().image
    repeats = -(-side // tile.shape[0]), -(-side // tile.shape[1])
    return np.tile(tile, repeats)[:side, :side]


def wait_for(is_done: Callable[[], bool]) -> None:
    """Let the window work until something is so."""
    until = time.monotonic() + PATIENCE_S
    while not is_done():
        if time.monotonic() > until:
            raise TimeoutError(f"not done after {PATIENCE_S} s")
        QApplication.processEvents()
        time.sleep(0.0005)


def settle(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() > until)


def measured_run(viewer: napari.Viewer, side: int, limit_ms: float) -> LoopProbe:
    """One run from the press to the shown result."""
    viewer.layers.clear()
    viewer.add_image(field(side), name="nuclei")
    widget = AutomaticSegmentation(viewer)
    viewer.window.add_dock_widget(widget, name="Automatic segmentation", area="right")
    settle(1)
    probe = LoopProbe(limit_ms)
    probe.start()
    widget.run.click()
    wait_for(widget.run.isEnabled)
    settle(1)
    probe.stop()
    print(widget.status.text())
    viewer.window.remove_dock_widget(widget)
    return probe


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--side", type=int, default=2048, help="of the image, in pixels")
    parser.add_argument("--limit-ms", type=float, default=100.0)
    parser.add_argument("--stacks", action="store_true", help="print what the GUI thread did in the long gaps")
    asked = parser.parse_args()
    with contextlib.suppress(ImportError):
        import torch

        # One processor is left to the window, as a user with a desktop would have it.
        torch.set_num_threads(max(torch.get_num_threads() - 1, 1))
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1280, 800)
    # The first labels of a process make napari compile its colour look-up, and the first run loads the network.
    measured_run(viewer, 256, asked.limit_ms)
    started = time.perf_counter()
    probe = measured_run(viewer, asked.side, asked.limit_ms)
    gaps = np.array(probe.gaps_ms)
    print(
        f"{asked.side} x {asked.side}, {time.perf_counter() - started:.1f} s: longest gap {gaps.max():.0f} ms, "
        f"99.9 % below {np.percentile(gaps, 99.9):.0f} ms, {np.count_nonzero(gaps > asked.limit_ms)} of {len(gaps)} "
        f"above {asked.limit_ms:.0f} ms"
    )
    if asked.stacks:
        for waited_ms, stack in probe.culprits:
            print(f"--- {waited_ms:.0f} ms\n{stack}")
    viewer.close()
    return int(gaps.max() > asked.limit_ms)


if __name__ == "__main__":
    sys.exit(main())
