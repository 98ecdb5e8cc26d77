"""The stages of a job: timed, told to the user, and left between two steps when the user wishes to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from napari_sam.errors import RunInterrupted
from napari_sam.tiling import Progress
from napari_sam.workflows.allocator import give_back_freed_memory

StageProgress = Callable[[str, int, int], None]
"""(stage, done, total), from any thread; a total of 0 is not known."""


class Stopped(Exception):
    """A wish to stop was met; the text says where."""


@contextmanager
def resumable(run_folder: Path) -> Iterator[None]:
    """Turn Ctrl-C, or a wish to stop, into an error that says what is kept and how to go on."""
    try:
        yield
    except (KeyboardInterrupt, Stopped) as stopped:
        raise RunInterrupted(
            f"stopped {stopped}".rstrip()
            + f"; what is finished is kept in {run_folder}, and the same command (or call) goes on from there."
        ) from None


@contextmanager
def not_resumable() -> Iterator[None]:
    """Turn a wish to stop into the error that says so, of a job that has nothing to go on from."""
    try:
        yield
    except Stopped as stopped:
        raise RunInterrupted(f"stopped {stopped}; nothing was written, the same command begins anew.") from None


class Stages:
    """Seconds of each stage; its steps are told to the user and looked at for a wish to stop."""

    def __init__(
        self, progress: StageProgress | None, should_stop: Callable[[], bool] | None, **seconds: float
    ) -> None:
        self.seconds = dict(seconds)
        self._progress = progress
        self._should_stop = should_stop

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Time a block; what it gets counts its steps, and raises `Stopped` after a wish to stop."""
        started = time.perf_counter()
        give_back_freed_memory()
        yield partial(self._step, name)
        self.seconds[name] = time.perf_counter() - started

    def tell(self, stage: str, done: int, total: int) -> None:
        """Tell the user, without looking for a wish to stop."""
        if self._progress is not None:
            self._progress(stage, done, total)

    def should_stop(self) -> bool:
        """Whether the user wishes to stop."""
        return self._should_stop is not None and self._should_stop()

    def _step(self, stage: str, done: int, total: int) -> None:
        self.tell(stage, done, total)
        if self.should_stop():
            raise Stopped(f"in the stage {stage} after {done} of {total} steps")
