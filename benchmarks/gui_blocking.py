"""How long the window is ever blocked during an automatic run: the longest gap between two ticks of its event loop.

    xvfb-run -s "-screen 0 1600x1200x24" python benchmarks/gui_blocking.py [--side 2048] [--limit-ms 100]

A timer ticks in the GUI thread; while the thread does anything else, it cannot. Gaps before Segment is pressed and
after the result is shown are not counted. Of each gap it is told how much the thread worked itself, how long it was
ready but another program had the processor, and how long it waited (for Python's lock, or a software renderer): on a
machine that does other things, only the first is ours. Exit code 1 if the thread's own work is longer than the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from loop_probe import LoopProbe
from napari_sam.ui import AutomaticSegmentation
from napari_sam.workflows.samples.images import nuclei

PATIENCE_S = 300


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


def measured_run(viewer: napari.Viewer, side: int) -> LoopProbe:
    """One run from the press to the shown result."""
    viewer.layers.clear()
    viewer.add_image(field(side), name="nuclei")
    widget = AutomaticSegmentation(viewer)
    viewer.window.add_dock_widget(widget, name="Automatic segmentation", area="right")
    settle(1)
    probe = LoopProbe()
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
    asked = parser.parse_args()
    with contextlib.suppress(ImportError):
        import torch

        # One processor is left to the window, as a user with a desktop would have it.
        torch.set_num_threads(max(torch.get_num_threads() - 1, 1))
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1280, 800)
    # The first labels of a process make napari compile its colour look-up, and the first run loads the network.
    measured_run(viewer, 256)
    started = time.perf_counter()
    probe = measured_run(viewer, asked.side)
    print(f"{asked.side} x {asked.side}, {time.perf_counter() - started:.1f} s\n{probe.report(asked.limit_ms)}")
    viewer.close()
    return int(max(gap.own for gap in probe.gaps) > asked.limit_ms)


if __name__ == "__main__":
    sys.exit(main())
