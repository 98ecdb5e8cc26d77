"""One run at a time on one ledger: a lock file that names its holder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from napari_sam.errors import LedgerError
from napari_sam.tiling.writing import output_errors


class FolderLock:
    """Held while a run writes into a folder. A holder that was killed is noticed, and its lock taken over."""

    def __init__(self, folder: Path, name: str = "lock") -> None:
        self.path = folder / name
        self._holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": _start_of(os.getpid())}

    def acquire(self) -> None:
        """Take the lock.

        Raises
        ------
        LedgerError
            If a living process holds it, or one of another machine, which cannot be looked up from here.
        OutputError
            If the folder cannot be written to.
        """
        for _ in range(2):
            with output_errors(self.path):
                if self._create():
                    return
            self._remove_if_left_behind()
        raise LedgerError(
            f"{self.path} was taken by another run at this moment; wait for it, or write to another output."
        )

    def release(self) -> None:
        with contextlib.suppress(OSError):
            if self._read() == self._holder:
                self.path.unlink()

    def __enter__(self) -> FolderLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _create(self) -> bool:
        try:
            with open(self.path, "x", encoding="utf-8") as file:
                json.dump(self._holder, file)
        except FileExistsError:
            return False
        return True

    def _remove_if_left_behind(self) -> None:
        holder = self._read()
        host, pid = holder.get("host"), holder.get("pid")
        if holder and host != self._holder["host"]:
            raise LedgerError(
                f"a run on {host} (process {pid}) holds {self.path}; wait for it, "
                "or remove this file if that run is no longer alive."
            )
        if isinstance(pid, int) and _is_alive(pid) and holder.get("started") in (None, _start_of(pid)):
            raise LedgerError(
                f"process {pid} is running on {self.path.parent} at this moment; wait for it or stop it first."
            )
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        """Who holds it; empty where the file is gone or was cut off while it was written."""
        try:
            holder = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return holder if isinstance(holder, dict) else {}


def _start_of(pid: int) -> str | None:
    """When a process started, in ticks since boot, where the system tells: a number may be given to another process
    later."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":
        import ctypes

        query_limited_information = 0x1000
        handle = ctypes.windll.kernel32.OpenProcess(query_limited_information, False, pid)
        ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
