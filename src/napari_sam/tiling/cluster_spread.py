"""Merging and painting on the workers of a dask cluster: small records travel, masks and labels never.

The job is sent as one package of bytes, which each worker opens once; items and results are as small as the job makes
them. All files are read and written by the workers.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any
from uuid import uuid4

from distributed import Client, Future, KilledWorker

from napari_sam.errors import TilingError
from napari_sam.tiling.cluster_client import (
    GO_ON,
    POLL_SECONDS,
    Workers,
    check_seen,
    lost_scheduler,
    packed,
    result_of,
    unpacked,
)
from napari_sam.tiling.spread import Item, Job, Result, Spread

AHEAD = 2
"""Items in hand for each thread of the workers: one it works on and one more, as their results are taken in order."""
SETTLE_SECONDS = 20.0
"""How long, after an error or a wish to stop, what was begun is waited for."""


def on_cluster(client: Client) -> Spread:
    """By the workers of a cluster. An item whose worker dies is given to another one.

    A TilingError is raised if an item takes several workers with it, if the cluster is lost or has no workers for some
    minutes, or if the workers lack something. What a job itself raises comes as it is.
    """
    return _OnCluster(client)


@dataclass(frozen=True, slots=True)
class _OnCluster:
    client: Client

    @property
    def sends(self) -> bool:
        return True

    def __call__(self, job: Job[Item, Result], items: Iterable[Item]) -> Generator[Result]:
        package, waiting, workers = packed(job), iter(items), Workers(self.client)
        running: deque[Future[Any]] = deque()
        try:
            while True:
                room = AHEAD * workers.threads() - len(running)
                running.extend(self._begun(package, item) for item in islice(waiting, max(room, 0)))
                if running:
                    self._wait_for(running[0], workers)
                    yield self._result(running.popleft())
                elif room:
                    return
                else:  # no worker yet, or no more
                    time.sleep(POLL_SECONDS)
        finally:
            if running:
                self._give_up(running)

    def _begun(self, package: bytes, item: Any) -> Future[Any]:
        with lost_scheduler(self.client):
            return self.client.submit(_run, package, item, key=f"napari-sam-{uuid4().hex}", pure=False)

    def _wait_for(self, future: Future[Any], workers: Workers) -> None:
        came_back = threading.Event()
        future.add_done_callback(lambda _: came_back.set())
        while not came_back.wait(POLL_SECONDS):
            workers.threads()  # looks for a scheduler that is gone

    def _result(self, future: Future[Any]) -> Any:
        try:
            outcome = result_of(self.client, future)
        except KilledWorker as error:
            raise TilingError(
                f"{error.allowed_failures + 1} workers died while they merged tiles or wrote labels, perhaps for want "
                f"of memory; try fewer workers, or more memory for each: {GO_ON}"
            ) from error
        if isinstance(outcome, _Raised):
            raise outcome.error
        return outcome

    def _give_up(self, running: Iterable[Future[Any]]) -> None:
        """Take back what is not wanted any more. What was begun has a moment to end: so nothing is written later."""
        ends = time.monotonic() + SETTLE_SECONDS
        with suppress(Exception):  # on the way out of an error, often that of a cluster that is gone
            while self.client.status == "running" and not all(future.done() for future in running):
                if time.monotonic() > ends:
                    break
                time.sleep(POLL_SECONDS / 4)
            self.client.cancel(list(running))


@dataclass(frozen=True, slots=True)
class _Raised:
    """What a job raised; carried as a result, it is not taken for an error of the cluster."""

    error: Exception


_opening = threading.Lock()


def _run(package: bytes, item: Any) -> Any:
    """Runs in a worker: the job with one item."""
    with _opening:  # threads of one worker share its caches
        job = _opened(package)
    try:
        return job(item)
    except Exception as error:
        return _Raised(error)


@lru_cache(maxsize=1)  # keyed by the package itself: jobs come one after the other
def _opened(package: bytes) -> Job[Any, Any]:
    job: Job[Any, Any] = unpacked(package)
    for folder in job.folders:
        check_seen(folder)
    return job
