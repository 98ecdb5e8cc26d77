"""A label image at a URL: nothing can be renamed there, so what makes it an image is written last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from napari_sam.errors import NapariSamError, OutputError
from napari_sam.images.remote import RemoteStore, file_system, open_store, problem_of
from napari_sam.images.urls import READ_ONLY_PROTOCOLS, RemotePath
from napari_sam.tiling.multiscale import MARKER, OWN_KEY

_PROBE = f"{MARKER}-test"
"""A file that is written and removed again, to see whether that is allowed."""


def check_remote_labels(place: RemotePath, *, overwrite: bool) -> None:
    """Refuse a URL at which labels could not be written, or would cost something else; to be asked before a long run.

    A small file is written and removed again, since nothing else tells whether that is allowed. Whether another run
    writes there is asked by `check_not_held`.

    Raises
    ------
    OutputError
        If the protocol cannot write, there is no such bucket, access is refused, or something is there that is not
        ours or may not be replaced.
    ConfigError
        If the package for the protocol is not installed.
    """
    if place.protocol in READ_ONLY_PROTOCOLS:
        raise OutputError(
            f"{place} can be read, but nothing can be written by {place.protocol}; write to s3://BUCKET/NAME.ome.zarr, "
            "gs://BUCKET/NAME.ome.zarr, or a path of this machine."
        )
    fs = file_system(place)
    with output_errors_at(place):
        entries = [entry for entry in _entries(fs, place) if not entry.endswith(f"/{_PROBE}")]
        is_unfinished = fs.exists(f"{place}/{MARKER}")
        if entries and not is_unfinished and not _is_own(fs, place):
            raise OutputError(
                f"there is something at {place} that was not written by napari-sam, so it is not replaced; choose "
                "another output name, or move it away."
            )
        if entries and not is_unfinished and not overwrite:
            raise OutputError(
                f"{place} already holds labels; choose another output name, or ask for it to be overwritten."
            )
        fs.pipe_file(f"{place}/{_PROBE}", b"napari-sam may write here.\n")
        fs.rm_file(f"{place}/{_PROBE}")


@contextmanager
def new_remote_labels(place: RemotePath) -> Iterator[RemoteStore]:
    """A zarr store to write a label image to, in place of older labels, which are removed first.

    While a file called as MARKER stands in it, it is not whole: the block did not end, or not well. The next run
    removes what is left then. The block has to write the attributes of the root last. A whole run keeps others away
    by `held_output`; that nobody came all the same is looked at once more at the end.

    Raises
    ------
    OutputError
        If the place refuses, or another run wrote there meanwhile.
    """
    fs = file_system(place)
    mark = f"napari-sam is writing labels here, or was stopped while doing so: {uuid4().hex}\n".encode()
    with output_errors_at(place):
        # The mark first: killed while it removes old labels, the next run still knows that they are ours.
        fs.pipe_file(f"{place}/{MARKER}", mark)
        for entry in _entries(fs, place):
            if not entry.endswith(f"/{MARKER}"):
                fs.rm(entry, recursive=True)
    yield open_store(place, read_only=False)
    with output_errors_at(place):
        if not fs.exists(f"{place}/{MARKER}") or fs.cat_file(f"{place}/{MARKER}") != mark:
            raise OutputError(
                f"another run wrote labels to {place} at the same time, so these may be a mixture; run the same again "
                "when no other run does."
            )
        fs.rm_file(f"{place}/{MARKER}")


def _entries(fs: Any, place: RemotePath) -> list[str]:
    """What lies at a place, folders not entered; empty if there is no such place."""
    try:
        return [str(name).rstrip("/") for name in fs.ls(str(place), detail=False)]
    except FileNotFoundError:
        return []


def _is_own(fs: Any, place: RemotePath) -> bool:
    """Whether the folder was written by this package."""
    try:
        attributes = json.loads(fs.cat_file(f"{place}/zarr.json"))["attributes"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False
    return isinstance(attributes, dict) and OWN_KEY in attributes


@contextmanager
def output_errors_at(place: RemotePath) -> Iterator[None]:
    """Turn what a file system refuses inside the block into an OutputError about `place`."""
    try:
        yield
    except NapariSamError:
        raise
    except Exception as error:  # each protocol's library has errors of its own
        raise OutputError(f"labels cannot be written to {place}: {problem_of(error)}") from error
