"""The journal of a session: one line an event, each with a check sum, on the disk as the user acts.

A line is a JSON object whose last key is the CRC-32 of the text before it, and whose `n` counts the lines. A program
that is killed leaves at most its last line torn: that one is dropped. Any other damage is named, never skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from napari_sam.annotate.events import JOURNAL_VERSION, Answered, Event, Header, event_from_dict
from napari_sam.errors import JournalError, LedgerError
from napari_sam.tiling.lock import FolderLock
from napari_sam.tiling.writing import output_errors

_CRC_KEY = ', "crc": "'


@dataclass(frozen=True, slots=True)
class JournalContent:
    """What a journal holds."""

    header: Header
    events: tuple[Event, ...]
    """After the header."""
    size: int
    """Bytes of the good lines."""
    dropped: str = ""
    """What was left out and why; empty if the journal is whole."""


def read_journal(path: str | os.PathLike[str]) -> JournalContent:
    """All events of a journal; a torn last line is left out.

    Raises
    ------
    JournalError
        If there is no journal, it is damaged before its end, or a newer version wrote it.
    """
    source = Path(path)
    try:
        data = source.read_bytes()
    except OSError as error:
        raise JournalError(f"the journal {source} cannot be read: {error.strerror or error}.") from error
    lines = data.split(b"\n")
    # What follows the last line break is empty in a whole journal; a line without its break may still be whole.
    lines = lines if lines[-1] else lines[:-1]
    events: list[Event] = []
    size, dropped = 0, ""
    for number, line in enumerate(lines):
        try:
            events.append(_event_of(line, number))
        except _Damaged as damage:
            if number < len(lines) - 1 or number == 0:
                raise JournalError(_damaged_text(source, number, str(damage))) from damage
            dropped = f"the last line ({number + 1}) was not complete and is left out: {damage}"
            break
        except JournalError as error:
            raise JournalError(f"{source}, line {number + 1}: {error}") from error
        size += len(line) + 1
    return _checked(source, events, size, dropped)


class JournalWriter:
    """Appends events to a journal that no other session can open until it is closed."""

    def __init__(self, path: Path, lock: FolderLock, count: int, *, sync: bool = True) -> None:
        self.path = path
        self._lock = lock
        self._count = count
        self._sync = sync
        with output_errors(path):
            self._file = path.open("ab")

    @classmethod
    def create(cls, path: str | os.PathLike[str], header: Header, *, sync: bool = True) -> JournalWriter:
        """Start a new journal.

        Parameters
        ----------
        path : path
            Must not exist yet; missing parent folders are made.
        header : Header
        sync : bool
            Wait for the disk after each act of the user. Without it a power cut may cost acts; a killed program does
            not.

        Raises
        ------
        JournalError
            If there is a file of this name.
        OutputError
            If the disk refuses.
        """
        target = Path(path)
        with output_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        lock = _locked(target)
        try:
            if target.exists() and target.stat().st_size:
                raise JournalError(
                    f"{target} already exists; resume it, or choose another name for the journal of a new session."
                )
            writer = cls(target, lock, 0, sync=sync)
            writer.append(header)
        except BaseException:
            lock.release()
            raise
        return writer

    @classmethod
    def resume(cls, path: str | os.PathLike[str], *, sync: bool = True) -> tuple[JournalWriter, JournalContent]:
        """Go on with a journal; what is torn at its end is cut off.

        Raises
        ------
        JournalError
            As :func:`read_journal`, or if another session holds it.
        """
        target = Path(path)
        if not target.is_file():
            raise JournalError(f"there is no journal {target}; check the name.")
        lock = _locked(target)
        try:
            content = read_journal(target)
            with output_errors(target), target.open("rb+") as file:
                if file.seek(0, os.SEEK_END) < content.size:  # a whole last line that lacks its line break
                    file.write(b"\n")
                file.truncate(content.size)
            return cls(target, lock, 1 + len(content.events), sync=sync), content
        except BaseException:
            lock.release()
            raise

    def append(self, event: Event) -> None:
        """Write one event; when this returns, a killed program does not lose it.

        Raises
        ------
        OutputError
            If the disk refuses. The journal is then as before.
        """
        line = _line_of(event, self._count)
        with output_errors(self.path):
            before = self._file.tell()
            try:
                self._file.write(line)
                self._file.flush()
                # What the model said can be asked again; only what the user did has to outlive a power cut.
                if self._sync and not isinstance(event, Answered):
                    os.fsync(self._file.fileno())
            except OSError:
                self._take_back(before)
                raise
        self._count += 1

    def close(self) -> None:
        """Let other sessions have it."""
        if not self._file.closed:
            with contextlib.suppress(OSError):
                self._file.close()
            self._lock.release()

    def _take_back(self, size: int) -> None:
        """Drop a line that was only half written, and the buffer's rest of it."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            os.truncate(self.path, size)
        self._file = self.path.open("ab")

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Damaged(Exception):
    """A line is not as it was written; the text says in what way."""


def _line_of(event: Event, number: int) -> bytes:
    text = json.dumps({"n": number} | event.to_dict(), ensure_ascii=True, allow_nan=False)[:-1]
    return f'{text}{_CRC_KEY}{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def _event_of(line: bytes, number: int) -> Event:
    text, found, end = line.rpartition(_CRC_KEY.encode())
    if not found or len(end) != 10 or end[8:] != b'"}':
        raise _Damaged("it does not end with a check sum")
    if f"{zlib.crc32(text):08x}".encode() != end[:8]:
        raise _Damaged("its check sum is of another text")
    stored: dict[str, Any] = json.loads(text + b"}")
    if stored.get("n") != number:
        raise _Damaged(f"it is number {stored.get('n')}, expected {number}: lines are missing or come twice")
    return event_from_dict(stored)


def _damaged_text(path: Path, number: int, damage: str) -> str:
    if number == 0:
        return f"{path} is no journal of napari-sam, or its first line is damaged: {damage}."
    return (
        f"{path} is damaged in line {number + 1}: {damage}. Lines up to {number} are good: keep a copy, cut the file "
        "after them and resume it."
    )


def _checked(path: Path, events: list[Event], size: int, dropped: str) -> JournalContent:
    if not events or not isinstance(events[0], Header):
        raise JournalError(f"{path} is no journal of napari-sam: its first line does not say what it is of.")
    if events[0].version > JOURNAL_VERSION:
        raise JournalError(
            f"{path} has the format {events[0].version}, this version reads up to {JOURNAL_VERSION}; update napari-sam."
        )
    return JournalContent(events[0], tuple(events[1:]), size, dropped)


def _locked(path: Path) -> FolderLock:
    """The lock of a journal: NAME.lock beside it."""
    lock = FolderLock(path.parent, f"{path.name}.lock")
    try:
        lock.acquire()
    except LedgerError as error:
        raise JournalError(f"the journal {path} is open in another session: {error}") from error
    return lock
