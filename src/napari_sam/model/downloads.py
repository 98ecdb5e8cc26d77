"""Fetching published checkpoints: through pooch, resumable, verified before they get their name.

While it arrives a file is called `NAME.part`. An interrupted download leaves that behind and the next one goes on from
it where the server knows HTTP ranges; only a file with the registry's hash is renamed to its final name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from tqdm import tqdm

from napari_sam.errors import DownloadError
from napari_sam.model import registry
from napari_sam.model.registry import CheckpointEntry
from napari_sam.model.storage import (
    BUNDLE_VARIABLE,
    CACHE_VARIABLE,
    checkpoint_cache_dir,
    find_checkpoint,
    hash_mismatch,
    how_to_get,
    verify_checkpoint,
)

MIRROR_VARIABLE = "NAPARI_SAM_MIRROR"

Report = Callable[[int, int | None], None]
"""Called with the bytes that are here and the bytes in all, None where the server does not say."""

_MAX_CONNECTIONS = 10
_CONNECT_READ_TIMEOUTS_S = (10, 60)
_PIECE_BYTES = 1 << 18


def download_checkpoint(name: str, *, report: Report | None = None) -> Path:
    """The verified file of a registered checkpoint, downloaded unless it is already on this machine.

    Built-ins and files in the offline bundle are verified and used where they are. `NAPARI_SAM_MIRROR` replaces the
    publisher's address: then only `MIRROR/FILE_NAME` is asked, nothing else.

    Parameters
    ----------
    name : str
        A name in the registry.
    report : callable, optional
        Called as `report(bytes_here, bytes_in_all)`; a progress bar on a terminal's standard error if not given.

    Returns
    -------
    Path
        The file, with the hash that the registry pins.

    Raises
    ------
    CheckpointError
        If there is no such model, or a file of the bundle is not the published one.
    DownloadError
        If it cannot be fetched or written, or did not arrive as published.
    """
    entry = registry.find_entry(name)
    stored = find_checkpoint(entry)
    if stored is not None and stored.place != "cache":
        verify_checkpoint(entry, stored)
        return stored.path
    folder = checkpoint_cache_dir()
    try:
        if report is not None:
            return _fetch_from_any(entry, folder, report)
        with _progress_bar(entry) as bar_report:
            return _fetch_from_any(entry, folder, bar_report)
    except OSError as error:
        raise DownloadError(
            f"cannot write {entry.name} to {folder}: {error.strerror or error}; free some space, or set "
            f"{CACHE_VARIABLE} to a folder that you may write to."
        ) from error


def download_urls(entry: CheckpointEntry) -> tuple[str, ...]:
    """The addresses that `entry` is asked from, in order.

    Raises
    ------
    DownloadError
        If `NAPARI_SAM_MIRROR` is set and is not an http(s) address.
    """
    mirror = os.environ.get(MIRROR_VARIABLE)
    if not mirror:
        return entry.urls
    if not mirror.startswith(("http://", "https://")):
        raise DownloadError(
            f"{MIRROR_VARIABLE} is set to {mirror!r}; it must be an address that begins with http:// or https://. "
            f"For a folder on this machine set {BUNDLE_VARIABLE}."
        )
    return (f"{mirror.rstrip('/')}/{entry.file_name}",)


@contextmanager
def _progress_bar(entry: CheckpointEntry) -> Iterator[Report]:
    # disable=None: no bar where standard error is not a terminal.
    with tqdm(desc=entry.name, unit="B", unit_scale=True, disable=None) as bar:

        def report(here: int, in_all: int | None) -> None:
            bar.total = in_all
            bar.update(here - bar.n)

        yield report


def _fetch_from_any(entry: CheckpointEntry, folder: Path, report: Report) -> Path:
    failures: list[DownloadError] = []
    for url in download_urls(entry):
        try:
            return _fetch(entry, url, folder, report)
        except DownloadError as error:
            failures.append(error)
    if not failures:
        raise DownloadError(how_to_get(entry))
    raise DownloadError("\n".join(map(str, failures))) from failures[-1]


def _fetch(entry: CheckpointEntry, url: str, folder: Path, report: Report) -> Path:
    # pooch keeps a file that already has the right hash, replaces one that has not, and renames only what it verified.
    downloader = ResumingDownloader(entry, folder / f"{entry.file_name}.part", report)
    return Path(pooch.retrieve(url, known_hash=entry.pin, fname=entry.file_name, path=folder, downloader=downloader))


@dataclass(frozen=True, slots=True)
class ResumingDownloader:
    """What pooch lacks: a download that goes on where the last one was interrupted."""

    entry: CheckpointEntry
    part: Path
    """Keeps what has arrived, across calls."""
    report: Report

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        """Put the verified bytes of `url` at `output_file`; pooch's interface for downloaders."""
        resumed = self._size() > 0
        self._receive(url)
        problem = hash_mismatch(self.entry, self.part)
        if problem is not None and resumed:
            # The first part may be of another address or an earlier state of the file: once more, from the start.
            self.part.unlink()
            self._receive(url)
            problem = hash_mismatch(self.entry, self.part)
        if problem is not None:
            self.part.unlink()
            raise DownloadError(
                f"{self.entry.name} did not arrive as published from {url}: {problem}. Nothing was kept; try again "
                f"later, or {self._another_way()}"
            )
        os.replace(self.part, output_file)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _another_way(self) -> str:
        return (
            f"set {MIRROR_VARIABLE} to the address of a mirror, or {BUNDLE_VARIABLE} to a folder that holds "
            f"{self.entry.file_name}."
        )

    def _receive(self, url: str) -> None:
        """Fill the part file, reconnecting for as long as each connection brings something."""
        for _ in range(_MAX_CONNECTIONS):
            before = self._size()
            try:
                self._stream(url, before)
                return
            except requests.RequestException as error:
                reason = error
            if self._size() <= before:
                break
        if self._size() == 0:
            raise DownloadError(
                f"cannot reach {url} ({reason}). Check the network and proxy, or {self._another_way()}"
            ) from reason
        raise DownloadError(
            f"the download of {self.entry.name} from {url} broke off after {self._size():,} bytes ({reason}). They are "
            f"kept: run `napari-sam models download {self.entry.name}` to go on from there, or {self._another_way()}"
        ) from reason

    def _stream(self, url: str, start: int) -> None:
        """One connection: ask for the bytes from `start` and append them."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with requests.get(url, headers=headers, stream=True, timeout=_CONNECT_READ_TIMEOUTS_S) as response:
            if start and response.status_code == requests.codes.requested_range_not_satisfiable:
                return  # There is nothing after what we have: the hash will tell whether that is all.
            if not response.ok:
                raise DownloadError(
                    f"{url} answered {response.status_code} {response.reason} for {self.entry.name}; "
                    f"try again later, or {self._another_way()}"
                )
            here = start if response.status_code == requests.codes.partial_content else 0
            length = response.headers.get("Content-Length")
            in_all = here + int(length) if length else None
            with self.part.open("r+b" if here else "wb") as file:
                file.seek(here)
                for piece in response.iter_content(_PIECE_BYTES):
                    file.write(piece)
                    here += len(piece)
                    self.report(here, in_all)
