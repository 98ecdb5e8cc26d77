"""Tiles on the workers of a dask cluster: only tiles and what went wrong with them travel, never pixels or masks.

Each worker opens the image and loads the model once, reads its tiles and writes their files. So image and output must
lie where every worker sees them under the same path.
"""

from __future__ import annotations

import functools
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any
from uuid import uuid4

from distributed import Client, Future, KilledWorker
from distributed.protocol import pickle

from napari_sam import __version__
from napari_sam.errors import NapariSamError, OutputError, TilingError
from napari_sam.geometry import Tile
from napari_sam.tiling.functions import Segment
from napari_sam.tiling.store import TileStore
from napari_sam.tiling.tile_job import Record, TileJob

POLL_SECONDS = 0.2
"""How often a wish to stop is looked for while all workers are busy."""
COUNT_SECONDS = 2.0
"""How often the workers are counted."""
PATIENCE_SECONDS = 300.0
"""How long a run goes on without any worker."""
SEEN_SECONDS = 60.0
"""How long a file that a worker wrote may take to be seen here: network file systems remember what was not there."""
LARGEST_PACKAGE_BYTES = 8 << 20
"""Of what is sent with each tile. Where an image is opened by its path it is some kilobytes."""

GO_ON = "finished tiles are kept, and the same command (or call) goes on from there."


def run_on_cluster(
    client: Client,
    job: TileJob,
    make_segment: Callable[[], Segment],
    tiles: Iterable[Tile],
    record: Record,
    should_stop: Callable[[], bool],
) -> None:
    """Segment tiles on the workers of a cluster, a few more at a time than there are threads in it.

    A tile whose worker dies is given to another one; a tile that takes several workers with it has failed. After a
    wish to stop, Ctrl-C or an error, the tiles that were given away are still saved.

    Raises
    ------
    TilingError
        If the cluster is lost or has no workers for some minutes, or what the tiles need cannot be sent to it.
    NapariSamError
        What a worker met before its first tile (no such model, another version, ...), or an output that refuses.
    """
    package = _packed(job, make_segment)
    waiting = iter(tiles)
    running = _Running(client, job.store, record)
    try:
        while not should_stop():
            room = running.room()
            for tile in islice(waiting, room):
                running.begin(tile, package)
            if room and not running:  # without room there may be no worker yet, and tiles left
                return
            running.settle()
    finally:
        while running:
            running.settle()


class _Running:
    """The tiles that were given to a cluster and did not come back yet."""

    def __init__(self, client: Client, store: TileStore, record: Record) -> None:
        self._client = client
        self._store = store
        self._record = record
        self._tiles: dict[Future[Any], Tile] = {}
        self._came_back = threading.Event()
        self._workers = _Workers(client)

    def __len__(self) -> int:
        return len(self._tiles)

    def room(self) -> int:
        """How many more tiles may be given away."""
        threads = self._workers.threads()
        # A quarter more than are worked on, so that no worker waits for this process; not many more, because they all
        # have to be finished after a wish to stop.
        return max(threads + max(threads // 4, 1) - len(self._tiles), 0) if threads else 0

    def begin(self, tile: Tile, package: bytes) -> None:
        key = f"napari-sam-tile-{tile.index}-{uuid4().hex}"
        with self._lost_scheduler():
            future = self._client.submit(_run_tile, package, tile, key=key, pure=False)
        self._tiles[future] = tile
        future.add_done_callback(lambda _: self._came_back.set())

    def settle(self) -> None:
        """Wait a little, and record the tiles that came back."""
        self._came_back.wait(POLL_SECONDS)
        self._came_back.clear()
        for future in [future for future in self._tiles if future.done()]:
            tile = self._tiles.pop(future)
            self._record(tile.index, self._outcome(future, tile))
            future.release()
        self._workers.threads()

    def _outcome(self, future: Future[Any], tile: Tile) -> str | None:
        """What went wrong with a tile, if something did."""
        try:
            with self._lost_scheduler(future):
                problem: str | None = future.result()
        except KilledWorker as error:
            problem = (
                f"{error.allowed_failures + 1} workers died on this tile, perhaps for want of memory; "
                "try fewer workers or smaller tiles"
            )
            self._store.write_failure(tile.index, problem)
        except NapariSamError:
            raise
        except Exception as error:  # whatever a worker lacks: a module, the same Python, ...
            raise TilingError(
                f"the workers cannot segment tiles ({type(error).__name__}: {error}); "
                f"they need the same napari-sam-tiles and Python as this process. {GO_ON.capitalize()}"
            ) from error
        if problem is None:
            _wait_until_seen(self._store, tile)
        return problem

    @contextmanager
    def _lost_scheduler(self, future: Future[Any] | None = None) -> Iterator[None]:
        with lost_scheduler(self._client):
            if future is not None and future.cancelled():
                raise ConnectionError("its tiles were cancelled")
            yield


class _Workers:
    """The threads of a cluster's workers, counted now and then; it may grow and shrink meanwhile."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._threads = 0
        self._counted = float("-inf")
        self._seen = time.monotonic()

    def threads(self) -> int:
        """How many tiles can be worked on at once.

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


def _packed(job: TileJob, make_segment: Callable[[], Segment]) -> bytes:
    """What every tile needs, as bytes that a worker turns back into it once."""
    store = replace(job.store, folder=job.store.folder.resolve())
    try:
        package: bytes = pickle.dumps((__version__, replace(job, store=store), make_segment))
    except Exception as error:  # picklers raise anything
        raise TilingError(
            f"this image cannot be sent to workers ({type(error).__name__}: {error}); "
            "save it as a file or a zarr folder and give its path."
        ) from error
    if len(package) > LARGEST_PACKAGE_BYTES:
        raise TilingError(
            f"an image in memory of {len(package) / 1e6:,.0f} MB would be sent with each tile; "
            "save it as a file or a zarr folder that all workers see, and give its path."
        )
    return package


def _wait_until_seen(store: TileStore, tile: Tile) -> None:
    """Return when the file of a tile is there; OutputError if it does not come."""
    path = store.path(tile.index)
    give_up = time.monotonic() + SEEN_SECONDS
    while not path.exists():
        if time.monotonic() > give_up:
            raise OutputError(
                f"a worker wrote {path}, but it is not there for this process; "
                "choose an output on a file system that all workers share."
            )
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class _Ready:
    """What a worker made of a package."""

    job: TileJob
    segment: Segment


_loading = threading.Lock()


def _run_tile(package: bytes, tile: Tile) -> str | None:
    """Runs in a worker: segment a tile and write its file; what went wrong, if something did."""
    with _loading:  # threads of one worker share one model
        ready = _unpacked(package)
    if ready.job.store.is_finished(tile.index):  # by a worker that died before it could tell
        return None
    return ready.job.run(ready.segment, tile)


@functools.lru_cache(maxsize=1)  # keyed by the package itself: the next run may have another image or model
def _unpacked(package: bytes) -> _Ready:
    version, job, make_segment = _parts(package)
    if version != __version__:
        raise TilingError(
            f"the worker on {socket.gethostname()} has napari-sam-tiles {__version__}, this run {version}; "
            "install the same version everywhere."
        )
    if not job.store.folder.is_dir():
        raise OutputError(
            f"the worker on {socket.gethostname()} does not see {job.store.folder}; "
            "choose an output on a file system that all workers share."
        )
    return _Ready(job, make_segment())


def _parts(package: bytes) -> tuple[str, TileJob, Callable[[], Segment]]:
    parts: Any = pickle.loads(package)
    version, job, make_segment = parts
    return version, job, make_segment
