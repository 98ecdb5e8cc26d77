"""Progress of commands whose steps are few: one line on the terminal's error stream."""

from __future__ import annotations

import sys


def print_progress(stage: str, done: int, total: int) -> None:
    """Show that `done` of `total` steps of a stage are done, over what was shown before."""
    print(f"\r{stage} {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
