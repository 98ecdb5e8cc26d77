"""`napari-sam segment` as a process of its own, with something going wrong on purpose: `workflows_faulty.py FAULT
ARGUMENTS...`, for test_workflows_faults.py."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

import torch

from napari_sam.cli import main
from napari_sam.tiling import writing
from napari_sam.workflows import planning


def stuck() -> None:
    """Every tile but the first one takes for ever."""
    generate, calls = planning.generate_masks, [0]

    def waits(*given, **settings):
        calls[0] += 1
        if calls[0] > 1:
            time.sleep(1000)
        return generate(*given, **settings)

    planning.generate_masks = waits


def full_disk(after: int, ending: str) -> None:
    """The disk takes so many files of a kind, and no more."""
    flush, left = writing.flush_to_disk, [after]

    def full(path: Path) -> None:
        if ending in path.name:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        flush(path)

    writing.flush_to_disk = full
    from napari_sam.tiling import labels

    labels.flush_to_disk = full


def erratic_clock() -> None:
    """The time of day jumps back and forth by years."""
    real, calls = time.time, [0]

    def jumps() -> float:
        calls[0] += 1
        return real() + (-1) ** calls[0] * 1e8

    time.time = jumps


FAULTS = {
    "none": lambda: None,
    "stuck": stuck,
    "full at a tile": lambda: full_disk(3, "tile-"),
    "full at the labels": lambda: full_disk(0, "zarr.json"),
    "clock": erratic_clock,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    FAULTS[sys.argv[1]]()
    sys.argv[1:] = sys.argv[2:]
    sys.exit(main())
