"""What the scripts that make the pictures of the widgets share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from qtpy.QtWidgets import QApplication

IMAGES = Path(__file__).parent / "images"
SIZE = (1280, 800)
"""Width and height of the window."""
PATIENCE_S = 300.0


def settle(seconds: float) -> None:
    """Let the window work and draw for a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        QApplication.processEvents()
        time.sleep(0.02)


def wait_until(is_done: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Let the window work and draw until something is so; TimeoutError if it never is."""
    until = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > until:
            raise TimeoutError(f"the window was not ready for its picture after {seconds:g} s")
        settle(0.02)
