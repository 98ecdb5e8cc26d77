"""Runs a job in child processes and kills them: `python workflows_killed.py FOLDER`, for test_workflows_kill.py.

Forked from a process that has imported everything but computed nothing, so that a run costs no start.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from napari_sam.workflows.segmentation import segment
from workflows.workflows_scenes import TILES, scene, tiny_checkpoint

Progress = Callable[[str, int, int], None]


def start(output: Path, model: Path, progress: Progress | None = None) -> int:
    """The process id of a child that does the whole job and ends with 0."""
    child = os.fork()
    if child == 0:
        try:
            table = output.with_name("t.csv")
            segment(scene((300, 310)), output, model, tiling=TILES, table=table, progress=progress)
            os._exit(0)
        finally:
            os._exit(1)
    return child


def die_in(stage: str, step: int) -> Progress:
    """Kills this process as soon as a stage has come so far."""

    def progress(name: str, done: int, total: int) -> None:
        if name == stage and done >= step:
            os.kill(os.getpid(), signal.SIGKILL)

    return progress


def wait_for(child: int) -> str:
    status = os.waitpid(child, 0)[1]
    return "killed" if os.WIFSIGNALED(status) else f"ended {os.waitstatus_to_exitcode(status)}"


def kill_by_the_clock(output: Path, model: Path, longest: float) -> str:
    """Kills a run at a moment that no line of its code chose, `longest` seconds after its start or sooner.

    How fast a run is depends on what else the machine does: one that was through before is thrown away, and another
    killed in half the time.
    """
    moments = random.Random(0)
    for _ in range(8):
        child = start(output, model)
        time.sleep(moments.uniform(0.4, 1.0) * longest)
        os.kill(child, signal.SIGKILL)
        ended = wait_for(child)
        if ended == "killed":
            break
        shutil.rmtree(output.parent)
        longest /= 2
    return ended


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    model = tiny_checkpoint(folder / "tiny.safetensors")
    begun = time.monotonic()
    print("calm", wait_for(start(folder / "calm" / "out.ome.zarr", model)))
    lasts = time.monotonic() - begun
    killed = folder / "killed" / "out.ome.zarr"
    print("at some moment", kill_by_the_clock(killed, model, 0.5 * lasts))
    print("in the tiles", wait_for(start(killed, model, die_in("tiles", 20))))
    print("in the merge", wait_for(start(killed, model, die_in("merge", 40))))
    print("in the labels", wait_for(start(killed, model, die_in("labels", 1))))
    print("at last", wait_for(start(killed, model)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
