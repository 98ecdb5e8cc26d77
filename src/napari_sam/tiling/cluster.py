"""Tiles on the workers of a dask cluster: only tiles and what went wrong with them travel, never pixels or masks.

Each worker opens the image and loads the model once, reads its tiles and writes their files. So image and output must
lie where every worker sees them under the same path.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import uuid4

from distributed import Client, Future, KilledWorker

from napari_sam.errors import OutputError, TilingError
from napari_sam.geometry import Tile
from napari_sam.tiling.cluster_client import (
    POLL_SECONDS,
    Workers,
    check_seen,
    lost_scheduler,
    packed,
    result_of,
    unpacked,
)
from napari_sam.tiling.functions import Segment
from napari_sam.tiling.store import TileStore
from napari_sam.tiling.tile_job import Record, TileJob

SEEN_SECONDS = 60.0
"""How long a file that a worker wrote may take to be seen here: network file systems remember what was not there."""
LARGEST_PACKAGE_BYTES = 8 << 20
"""Of what is sent with each tile. Where an image is opened by its path it is some kilobytes."""


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
        self._workers = Workers(client)

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
        with lost_scheduler(self._client):
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
            problem: str | None = result_of(self._client, future)
        except KilledWorker as error:
            problem = (
                f"{error.allowed_failures + 1} workers died on this tile, perhaps for want of memory; "
                "try fewer workers or smaller tiles"
            )
            self._store.write_failure(tile.index, problem)
        if problem is None:
            _wait_until_seen(self._store, tile)
        return problem


def _packed(job: TileJob, make_segment: Callable[[], Segment]) -> bytes:
    """What every tile needs, as bytes that a worker turns back into it once."""
    try:
        package = packed((job, make_segment))
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
    parts: tuple[TileJob, Callable[[], Segment]] = unpacked(package)
    job, make_segment = parts
    check_seen(job.store.folder)
    return _Ready(job, make_segment())
