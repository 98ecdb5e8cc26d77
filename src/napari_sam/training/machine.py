"""What a training asks of the machine: a number format, files written whole, Ctrl-C at the right time."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


def write_state(state: Mapping[str, Any], path: Path) -> None:
    """Write tensors and numbers so that `path` is either as it was or complete."""
    part = path.with_suffix(".tmp")
    with part.open("wb") as file:  # torch's own writer turns a full disk into an error without its reason
        torch.save(dict(state), file)
    os.replace(part, path)


@contextmanager
def interrupts_between_steps() -> Iterator[Callable[[], None]]:
    """Within the block, Ctrl-C is only noted; the function given raises KeyboardInterrupt if there was one.

    A step that is interrupted half way would leave weights that no uninterrupted training has.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # Ctrl-C goes to the main thread
        return
    asked = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: asked.set())

    def look() -> None:
        if asked.is_set():
            raise KeyboardInterrupt

    try:
        yield look
    finally:
        signal.signal(signal.SIGINT, before)
