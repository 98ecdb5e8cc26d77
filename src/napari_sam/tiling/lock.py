"""One run at a time on one ledger: a lock file that names its holder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from napari_sam.errors import LedgerError
from napari_sam.tiling.writing import output_errors

_LARGEST_PID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lock, told from another one that was given its number later."""

    pid: int
    host: str
    started: str | None = None
    """When it started, where the system tells."""
    numbering: str | None = None
    """Among which processes its number counts, where the system tells: each start of a machine and each container has
    numbers of its own, while two machines may have one name."""

    @classmethod
    def here(cls) -> Holder:
        """This process."""
        return cls(os.getpid(), socket.gethostname(), _start_of(os.getpid()), _numbering())

    @classmethod
    def parse(cls, content: Any) -> Holder | None:
        """The holder that a lock names (JSON as read), None where it names none as this class does."""
        if not isinstance(content, Mapping):
            return None
        pid, host = content.get("pid"), content.get("host")
        started, numbering = content.get("started"), content.get("numbering")
        if not (isinstance(pid, int) and 0 < pid <= _LARGEST_PID and isinstance(host, str)):
            return None
        if not (isinstance(started, str | None) and isinstance(numbering, str | None)):
            return None
        return cls(pid, host, started, numbering)

    def to_json(self) -> dict[str, Any]:
        """What `parse` reads."""
        return asdict(self)

    def can_be_looked_up(self) -> bool:
        """Whether `is_alive` can tell: it is a process of this machine, or was before its end."""
        return self.host == socket.gethostname() and self.numbering in (None, _numbering())

    def is_alive(self) -> bool:
        """Whether that process still runs, if it can be looked up."""
        return _is_alive(self.pid) and self.started in (None, _start_of(self.pid))


class FolderLock:
    """Held while a run writes into a folder. A holder that was killed is noticed, and its lock taken over."""

    def __init__(self, folder: Path, name: str = "lock") -> None:
        self.path = folder / name
        self._holder = Holder.here()

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
            self.check_free()
            self.path.unlink(missing_ok=True)  # left behind by a run that was killed
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
                json.dump(self._holder.to_json(), file)
        except FileExistsError:
            return False
        return True

    def check_free(self) -> None:
        """Refuse a folder that is locked; LedgerError as of `acquire`."""
        holder = self._read()
        if holder is not None and holder.host != self._holder.host:
            raise LedgerError(
                f"a run on {holder.host} (process {holder.pid}) holds {self.path}; wait for it, "
                "or remove this file if that run is no longer alive."
            )
        if holder is not None and holder.is_alive():
            raise LedgerError(
                f"process {holder.pid} is running on {self.path.parent} at this moment; wait for it or stop it first."
            )

    def _read(self) -> Holder | None:
        """Who holds it; None where the file is gone or was cut off while it was written."""
        try:
            return Holder.parse(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError):
            return None


def _start_of(pid: int) -> str | None:
    """When a process started, in ticks since boot, where the system tells: a number may be given to another process
    later."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _numbering() -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
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
