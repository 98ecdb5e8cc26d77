"""What all work on a dask cluster has in common: what is sent, how many workers there are, and what may break."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed import Client, Future, KilledWorker
from distributed.protocol import pickle

from napari_sam import __version__
from napari_sam.errors import NapariSamError, OutputError, TilingError

POLL_SECONDS = 0.2
"""How often a wish to stop is looked for while all workers are busy."""
COUNT_SECONDS = 2.0
"""How often the workers are counted."""
PATIENCE_SECONDS = 300.0
"""How long a run goes on without any worker."""

GO_ON = "finished tiles are kept, and the same command (or call) goes on from there."


def packed(value: Any) -> bytes:
    """What every task needs, as bytes that a worker turns back into it once; whatever the pickler raises."""
    package: bytes = pickle.dumps((__version__, pickle.dumps(value)))
    return package


def unpacked(package: bytes) -> Any:
    """In a worker: what was packed, if both have the same version of this package; TilingError otherwise."""
    version, content = pickle.loads(package)
    if version != __version__:
        raise TilingError(
            f"the worker on {socket.gethostname()} has napari-sam-tiles {__version__}, this run {version}; "
            "install the same version everywhere."
        )
    return pickle.loads(content)


def check_seen(folder: Path) -> None:
    """In a worker: refuse to work where a folder of the run is not seen; OutputError."""
    if not folder.is_dir():
        raise OutputError(
            f"the worker on {socket.gethostname()} does not see {folder}; "
            "choose an output on a file system that all workers share, or go on without these workers."
        )


def result_of(client: Client, future: Future[Any]) -> Any:
    """What a task that has ended gave.

    Raises
    ------
    KilledWorker
        If it took several workers with it.
    NapariSamError
        What it raised itself.
    TilingError
        If the cluster is lost, or the workers lack something: a module, the same Python, ...
    """
    with lost_scheduler(client):
        if future.cancelled():
            raise ConnectionError("its tasks were cancelled")
        error = future.exception() if future.status == "error" else None
        if error is None:
            return future.result()
    if isinstance(error, KilledWorker | NapariSamError):
        raise error
    raise TilingError(
        f"the workers cannot do their part ({type(error).__name__}: {error}); "
        f"they need the same napari-sam-tiles and Python as this process. {GO_ON.capitalize()}"
    ) from error


class Workers:
    """The threads of a cluster's workers, counted now and then; it may grow and shrink meanwhile."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._threads = 0
        self._counted = float("-inf")
        self._seen = time.monotonic()

    def threads(self) -> int:
        """How many tasks can be worked on at once.

        Raises
        ------
        TilingError
            If there has been no worker for some minutes, or the scheduler is gone.
        """
        now = time.monotonic()
        if now - self._counted >= COUNT_SECONDS:
            with lost_scheduler(self._client):
                self._threads = sum(self._client.nthreads().values())
            self._counted = now
            self._seen = now if self._threads else self._seen
        if not self._threads and now - self._seen > PATIENCE_SECONDS:
            raise TilingError(
                f"no worker has been at the dask scheduler {_address(self._client)} for "
                f"{PATIENCE_SECONDS:.0f} s; start workers there and give the same command again: {GO_ON}"
            )
        return self._threads


@contextmanager
def lost_scheduler(client: Client) -> Iterator[None]:
    """Say of a broken connection which one it was, and that nothing is lost."""
    try:
        if client.status not in ("running", "newly-created"):
            raise ConnectionError(f"the connection is {client.status}")
        yield
    except (OSError, TimeoutError) as error:  # dask's own errors of connections are OSErrors
        raise TilingError(
            f"the dask scheduler at {_address(client)} does not answer any more ({error}); {GO_ON}"
        ) from error


def _address(client: Client) -> str:
    return str(getattr(client.scheduler, "address", "an unknown address"))
