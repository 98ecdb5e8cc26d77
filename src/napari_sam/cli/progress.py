"""Progress on the terminal's error stream: one bar a stage, with rate and ETA."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from napari_sam.workflows.estimate import Estimate


class Bars:
    """One progress bar a stage; with `with`, the last one is ended."""

    def __init__(self) -> None:
        self.has_begun = False
        self._stage = ""
        self._bar: tqdm[Any] | None = None

    def update(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps of a stage are done; a total of 0 is not known."""
        self.has_begun = True
        if stage != self._stage or self._bar is None:
            self.close()
            self._stage = stage
            self._bar = tqdm(desc=stage, total=total or None, initial=done, file=sys.stderr)
        self._bar.total = total or None
        self._bar.update(done - self._bar.n)

    def tell_estimate(self, estimate: Estimate) -> None:
        """Say above the bar what the run will need."""
        tqdm.write(f"expected: {estimate.as_text()}", file=sys.stderr)

    def close(self) -> None:
        """End the bar that is shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
