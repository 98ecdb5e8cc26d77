"""One run at a time on labels: at a URL an object beside them names the run, and is renewed while that lives.

Runs with one record exclude each other by a lock in it (`FolderLock`); those with different ones by a lock of that kind
beside labels on this machine, and by the one here at a URL, where they may be on different machines. It lies beside the
label image, so that nobody finds it in a zarr hierarchy. No two machines' clocks are compared: how old it is, the store
tells, by an object written a moment ago.
"""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from napari_sam.errors import OutputError
from napari_sam.images.remote import file_system
from napari_sam.images.urls import RemotePath
from napari_sam.tiling.lock import FolderLock, Holder
from napari_sam.tiling.remote_labels import output_errors_at
from napari_sam.tiling.writing import output_errors, write_bytes

LOCK_SUFFIX = "-napari-sam-lock"
"""After the name of the label image."""
RECORD_ID = "record-id"
"""A file in a run's folder: the number by which a lock names that folder, whatever its path is elsewhere."""
RENEW_SECONDS = 60.0
LEFT_BEHIND_SECONDS = 600.0
"""A lock of another machine that was not renewed for so long is taken over."""
SETTLE_SECONDS = 1.0
"""Between writing the lock and reading it again: of two runs at a store that refuses neither, the last one stays."""

LAST_WORD_SECONDS = 10.0
"""How long the end of a run waits until its lock is removed, where the network hangs."""

_TRIES = 3


@dataclass(frozen=True, slots=True)
class Claim:
    """What stands in a lock: which run writes there."""

    holder: Holder
    run_folder: str
    """With its whole path on the holder's machine."""
    record: str
    """See RECORD_ID."""
    token: str
    """Of this run alone."""
    since: str
    """By the clock of the holder's machine, to be shown and not compared."""

    def to_bytes(self) -> bytes:
        """What `parse` reads, as JSON, with the time at which this was called."""
        told = {"run_folder": self.run_folder, "record": self.record, "token": self.token, "since": self.since}
        return json.dumps(self.holder.to_json() | told | {"renewed": _now_text()}, indent=2).encode() + b"\n"

    @classmethod
    def parse(cls, content: bytes) -> Claim | None:
        """The claim in an object, None where it is cut off or says something else."""
        try:
            read = json.loads(content)
        except (ValueError, RecursionError):
            return None
        holder = Holder.parse(read)
        if holder is None:
            return None
        told = [read.get(name) for name in ("run_folder", "record", "token", "since")]
        return cls(holder, *told) if all(isinstance(text, str) for text in told) else None

    def __str__(self) -> str:
        # Quoted: whoever may write to the place could have put signs there that a terminal obeys.
        host, folder, since = ascii(self.holder.host), ascii(self.run_folder), ascii(self.since)
        return f"a run on {host} (process {self.holder.pid}, record {folder}, since {since})"


class RemoteLock:
    """The lock of one run, to be taken once; `fs` is the file system of `place`, a label image."""

    def __init__(self, fs: Any, place: RemotePath, run_folder: Path) -> None:
        self.path = f"{place}{LOCK_SUFFIX}"
        self._fs, self._place = fs, place
        self._record_file = run_folder / RECORD_ID
        record = _text_of(self._record_file) or uuid4().hex
        self._mine = Claim(Holder.here(), str(run_folder.resolve()), record, uuid4().hex, _now_text())
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="napari-sam-lock", daemon=True)

    def check_free(self) -> None:
        """Refuse a place to which another run writes.

        Raises
        ------
        OutputError
            If a living run holds the lock, or one that cannot be looked up from here and renewed it lately.
        """
        with output_errors_at(self._place):
            found = self._read()
            if found is not None:
                self._refuse_living(found)

    def acquire(self) -> None:
        """Take the lock, and renew it from now on.

        The run folder must be locked already: a lock that an earlier run with this folder left is taken over at once.

        Raises
        ------
        OutputError
            As of `check_free`, or if the place refuses.
        """
        if _text_of(self._record_file) != self._mine.record:
            write_bytes(self._record_file, self._mine.record.encode())
        with output_errors_at(self._place):
            for _ in range(_TRIES):
                found = self._read()
                if found is not None:
                    self._refuse_living(found)
                    self._remove(found)
                if self._create():
                    time.sleep(SETTLE_SECONDS)
                    if self._is_mine(self._read()):
                        self._renewing.start()
                        return
        raise OutputError(
            f"{self.path} was taken by another run at this moment; wait for it, or choose another output name."
        )

    def check(self) -> None:
        """Refuse to go on if another run took the lock over; OutputError."""
        with output_errors_at(self._place):
            found = self._read()
        if self._is_mine(found):
            return
        claim = None if found is None else Claim.parse(found)
        if claim is not None:
            why = f"{claim} took it over, as it was not renewed for a while"
        else:
            why = "somebody removed or changed it, or another run took it over and has ended"
        raise OutputError(
            f"{self.path} is no longer the lock of this run: {why}. From here on this run leaves {self._place} alone; "
            "its tiles are kept, and the same command goes on from them when no other run writes there."
        )

    def release(self) -> None:
        """Let other runs write there; never an error, as what is left behind is noticed."""
        self._ended.set()
        if self._renewing.ident is None:
            self._let_go()
        else:  # by the thread, since a renewal that is still on its way would bring the lock back
            self._renewing.join(LAST_WORD_SECONDS)

    def _refuse_living(self, found: bytes) -> None:
        """OutputError, unless the run that wrote `found` has ended, or had this run's folder."""
        claim, mine = Claim.parse(found), self._mine
        is_same_record = claim is not None and claim.record == mine.record
        if claim is not None and claim.holder.can_be_looked_up():
            if claim.holder.is_alive() and not (is_same_record and claim.holder == mine.holder):
                raise OutputError(
                    f"{claim} writes to {self._place} at this moment; wait for it or stop it first, or choose another "
                    "output name."
                )
            return
        if is_same_record:
            return
        age = self._age_seconds()
        if age is None or age < LEFT_BEHIND_SECONDS:
            raise OutputError(_refusal(self._place, self.path, claim, is_age_known=age is not None))

    def _age_seconds(self) -> float | None:
        """How long ago the lock was renewed, by the clock of the place; None where the place does not tell."""
        probe = f"{self.path}-now-{self._mine.token}"
        self._fs.pipe_file(probe, b"napari-sam asks what time it is here.\n")
        try:
            return float((self._fs.modified(probe) - self._fs.modified(self.path)).total_seconds())
        except NotImplementedError:
            return None
        except FileNotFoundError:  # let go at this moment
            return LEFT_BEHIND_SECONDS
        finally:
            self._fs.rm_file(probe)

    def _create(self) -> bool:
        """Write the lock where there is none; whether that was so."""
        content = self._mine.to_bytes()
        try:
            self._fs.pipe_file(self.path, content, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno == errno.ENOSYS:  # a server without conditional writes
                self._fs.pipe_file(self.path, content)
                return True
            if not self._fs.exists(self.path):
                raise
            return False  # another server's word for it
        return True

    def _read(self) -> bytes | None:
        try:
            return bytes(self._fs.cat_file(self.path))
        except FileNotFoundError:
            return None

    def _remove(self, found: bytes) -> None:
        """Remove the lock if it is still as it was found: another run may have taken it over meanwhile."""
        if self._read() == found:
            with suppress(FileNotFoundError):
                self._fs.rm_file(self.path)

    def _is_mine(self, found: bytes | None) -> bool:
        claim = None if found is None else Claim.parse(found)
        return claim is not None and claim.token == self._mine.token

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            with suppress(Exception):  # the network may be back the next time; `check` tells otherwise
                if not self._is_mine(self._read()):
                    return
                self._fs.pipe_file(self.path, self._mine.to_bytes())
        self._let_go()

    def _let_go(self) -> None:
        with suppress(Exception):  # each protocol's library has errors of its own
            if self._is_mine(self._read()):
                self._fs.rm_file(self.path)


def check_not_held(output: Path | RemotePath, run_folder: Path) -> None:
    """Refuse labels that a run with another record writes at this moment; to be asked before a long run.

    Raises
    ------
    OutputError, LedgerError
        The message names that run.
    """
    if isinstance(output, RemotePath):
        RemoteLock(file_system(output), output, run_folder).check_free()
    else:
        _lock_beside(output).check_free()


def _lock_beside(output: Path) -> FolderLock:
    return FolderLock(output.parent, f"{output.name}{LOCK_SUFFIX}")


@contextmanager
def held_output(output: Path | RemotePath, run_folder: Path) -> Iterator[Callable[[], None]]:
    """Keep runs with other records away from labels while the block runs.

    Parameters
    ----------
    output : path or URL
        The label image.
    run_folder : path
        The record of the run, which must be open: its lock keeps runs with the same record apart.

    Yields
    ------
    function
        To be called before labels are written; an OutputError if another run took over, as after a long sleep of this
        machine. It is called at the end of the block as well.

    Raises
    ------
    OutputError, LedgerError
        If another run writes there, or the place refuses.
    """
    if isinstance(output, Path):
        with output_errors(output):
            output.parent.mkdir(parents=True, exist_ok=True)
        with _lock_beside(output):
            yield lambda: None  # nobody takes over the lock of a process that lives
        return
    lock = RemoteLock(file_system(output), output, run_folder)
    try:
        lock.acquire()
        yield lock.check
        lock.check()
    finally:
        lock.release()


def _refusal(place: RemotePath, path: str, claim: Claim | None, *, is_age_known: bool) -> str:
    """Why a lock is respected whose holder cannot be looked up from here, and what to do."""
    minutes = f"{LEFT_BEHIND_SECONDS / 60:g} minutes"
    who = (
        f"{claim} writes to {place}"
        if claim is not None
        else f"a run that cannot be told writes to {place} (what stands in {path} is cut off, or of another version)"
    )
    if is_age_known:
        advice = f"the same command goes on once it was silent for {minutes}, or when you remove {path}"
    else:
        advice = f"remove {path}, as this place does not tell when it was renewed"
    return f"{who}; wait for it or stop it first. If it is no longer alive, {advice}."


def _text_of(path: Path) -> str:
    """What stands in a small file; empty where it cannot be read."""
    try:
        return path.read_text("utf-8").strip()
    except (OSError, ValueError):
        return ""


def _now_text() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
