"""Results on disk: what stood there before stays until the new one is complete, and each failure says what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from napari_sam.errors import OutputError
from napari_sam.images.urls import local_path

_ADVICE = {
    errno.ENOSPC: "The disk is full: free some space or choose another place, then run the same command again.",
    errno.EDQUOT: "Your disk quota is used up: free some space or choose another place.",
    errno.EFBIG: "The file system does not take a file of this size: choose another place.",
    errno.EACCES: "Choose a folder you may write to.",
    errno.EPERM: "Choose a folder you may write to.",
    errno.EROFS: "This file system is read-only: choose another place.",
    errno.ENOTDIR: "A part of this path is a file, not a folder: choose another path.",
    errno.EEXIST: "A part of this path is a file, not a folder: choose another path.",
    errno.EISDIR: "A folder has this name: choose another name or remove the folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses inside the block into an :class:`OutputError` about `path`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        advice = _ADVICE.get(error.errno or 0, "Choose another place, or mend the cause and run it again.")
        raise OutputError(f"cannot write {path}: {reason}. {advice}") from error


@contextmanager
def atomic_path(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """A temporary name beside `path`; what is written there becomes `path` when the block ends well.

    Missing parent folders are made. An existing file is replaced in one step at the end; after any error it is as
    it was, and the temporary file is gone.

    Parameters
    ----------
    path : Path
    shared : bool
        Several processes may write the same content at once: each under a name of its own. What a killed one leaves is
        not found by the next write, so this is for folders that somebody tidies.

    Raises
    ------
    OutputError
        If `path` is a folder, or on any refusal of the operating system (full disk, no permission, ...).
    ConfigError
        If `path` is a URL.
    """
    local_path(path)  # else a folder "s3:" would be made here
    unique = f".{uuid4().hex}" if shared else ""
    partial = path.with_name(f"{path.name}{unique}.partial")
    with output_errors(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            flush_to_disk(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, *, shared: bool = False) -> None:
    """Write a file so that at any instant it is either complete on the disk or not there; OutputError if that fails.

    `shared`: as of `atomic_path`.
    """
    with atomic_path(path, shared=shared) as partial:
        partial.write_bytes(content)


def flush_to_disk(path: Path) -> None:
    """Return only when the bytes of the file `path` are on the disk, so that a later rename cannot overtake them."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
