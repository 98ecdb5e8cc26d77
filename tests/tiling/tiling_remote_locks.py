"""What the tests of the lock at a URL share: a place in memory, and locks that others left there."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from napari_sam.images.urls import RemotePath
from napari_sam.tiling.lock import Holder
from napari_sam.tiling.remote_lock import Claim, RemoteLock

PLACE = RemotePath("memory", "locked/out.ome.zarr")
LOCK = f"{PLACE}-napari-sam-lock"
ELSEWHERE = Holder(pid=7, host="elsewhere", started="12", numbering="another")


def lock_of(fs, folder: Path, place: RemotePath = PLACE) -> RemoteLock:
    folder.mkdir(exist_ok=True)
    return RemoteLock(fs, place, folder)


def claim(holder: Holder = ELSEWHERE, *, record: str = "other", since: str = "then") -> bytes:
    return Claim(holder, "/there/out.run", record, "token", since).to_bytes()


def leave(fs, content: bytes, *, age: float = 0.0) -> None:
    """A lock that was written `age` seconds ago by the clock of the place."""
    fs.pipe_file(LOCK, content)
    fs.store["/locked/out.ome.zarr-napari-sam-lock"].modified -= timedelta(seconds=age)


def is_taken(fs, folder: Path) -> bool:
    """Whether a run with this folder gets the lock, and lets it go again."""
    lock = lock_of(fs, folder)
    lock.acquire()
    lock.check()
    mine = Claim.parse(fs.cat_file(LOCK)).run_folder == str(folder)
    lock.release()
    return mine and not fs.find("/locked")


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid
