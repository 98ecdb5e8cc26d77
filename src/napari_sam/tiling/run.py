"""Segment the tiles of a plan, some at a time; each finished tile is on the disk before it counts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from napari_sam.errors import TilingError
from napari_sam.geometry import Tile
from napari_sam.tiling.functions import Progress, Read, Segment
from napari_sam.tiling.ledger import Ledger
from napari_sam.tiling.plan import TilePlan
from napari_sam.tiling.store import TileStore
from napari_sam.tiling.tile_job import Record, TileJob
from napari_sam.tiling.watch import RunWatch, in_order

if TYPE_CHECKING:
    from distributed import Client

RunAll = Callable[[Iterable[Tile], Record, Callable[[], bool]], None]
POLL_SECONDS = 0.2
"""How often a wish to stop is looked for while all workers are busy."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run of tiles came to."""

    tiles: int
    """Tiles to segment, without the skipped ones."""
    finished: int
    """Tiles whose masks are in the ledger now."""
    reused: int
    """Of these, tiles that an earlier run had finished."""
    skipped: int
    """Tiles without foreground."""
    failed: dict[int, str]
    """Why each failed tile failed, by index; the next run tries them again."""
    interrupted: bool
    """Whether it was asked to stop before all tiles had their turn."""
    seconds: float

    @property
    def is_complete(self) -> bool:
        """Whether every tile to segment is finished."""
        return self.finished == self.tiles


def run_tiles(
    read: Read,
    plan: TilePlan,
    segment: Segment | None,
    ledger: Ledger,
    *,
    make_segment: Callable[[], Segment] | None = None,
    workers: int = 1,
    cluster: Client | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    watch: RunWatch | None = None,
) -> RunSummary:
    """Segment all tiles of a plan that the ledger does not have yet.

    The result does not depend on the number of workers, on the order in which they finish, nor on where earlier runs
    stopped.

    Parameters
    ----------
    read : Read
        Called from several threads at once; for a cluster it is pickled.
    plan : TilePlan
    segment : Segment
        Called from several threads at once; None with a cluster.
    ledger : Ledger
    make_segment : function without arguments that returns a Segment
        For a cluster: pickled, and called once in each worker (it loads the model there).
    workers : int
        Threads of this process that segment tiles at the same time; a cluster has its own number.
    cluster : distributed.Client, optional
        A dask cluster whose workers read, segment and write the tiles instead.
    progress : function (done, total), optional
        `done` counts finished and failed tiles, those of earlier runs included.
    should_stop : function, optional
        Asked between tiles. Once it says True the tiles being segmented are finished and saved, and no other is begun.
    watch : RunWatch, optional
        Is told of each tile, and says which ones come first.

    Returns
    -------
    RunSummary
        With `interrupted` set after `should_stop` or Ctrl-C; what is finished is saved.

    Raises
    ------
    TilingError
        If the arguments do not fit, or the cluster was lost.
    OutputError
        If a record cannot be written.
    """
    run_all = _choose_worker(TileJob(read, ledger.tiles), segment, make_segment, workers, cluster)
    start = time.perf_counter()
    tally = _Tally(plan, ledger.tiles, progress, watch)
    ledger.tiles.write_skipped(sorted(plan.skipped))
    todo = tally.todo()
    with contextlib.suppress(KeyboardInterrupt):
        run_all(todo, tally.record, should_stop or _never)
    return tally.summary(time.perf_counter() - start)


class _Tally:
    """Which tiles are finished and which failed, as a run goes on; who looks on is told of each."""

    def __init__(self, plan: TilePlan, store: TileStore, progress: Progress | None, watch: RunWatch | None) -> None:
        self._plan = plan
        self._store = store
        self._progress = progress
        self._watch = watch
        self._n_tiles = len(plan.kept)
        self._finished = {tile.index for tile in plan.kept if store.is_finished(tile.index)}
        self._reused = len(self._finished)
        self._failed: dict[int, str] = {}

    def todo(self) -> Iterable[Tile]:
        """The tiles that are not finished yet, in the order in which they are wanted."""
        left = [tile for tile in self._plan.kept if tile.index not in self._finished]
        if self._watch is None:
            return left
        self._watch.planned(self._plan, self._store)
        for index in sorted(self._finished):
            self._watch.tile_done(self._plan.tiles[index], None)
        return in_order(left, self._watch.look_first)

    def record(self, index: int, problem: str | None) -> None:
        """Note that a tile is finished, or what went wrong with it."""
        if problem is None:
            self._finished.add(index)
        else:
            self._failed[index] = problem
        if self._watch is not None:
            self._watch.tile_done(self._plan.tiles[index], problem)
        if self._progress is not None:
            self._progress(len(self._finished) + len(self._failed), self._n_tiles)

    def summary(self, seconds: float) -> RunSummary:
        return RunSummary(
            tiles=self._n_tiles,
            finished=len(self._finished),
            reused=self._reused,
            skipped=len(self._plan.skipped),
            failed=dict(sorted(self._failed.items())),
            interrupted=len(self._finished) + len(self._failed) < self._n_tiles,
            seconds=seconds,
        )


def _choose_worker(
    job: TileJob,
    segment: Segment | None,
    make_segment: Callable[[], Segment] | None,
    workers: int,
    cluster: Client | None,
) -> RunAll:
    if workers < 1:
        raise TilingError(f"workers must be at least 1, got {workers}; one a CPU core or GPU is usual.")
    if cluster is not None:
        if make_segment is None:
            raise TilingError("a cluster needs make_segment, a picklable function that makes the segment function.")
        from napari_sam.tiling.cluster import run_on_cluster  # dask.distributed takes long to import

        return partial(run_on_cluster, cluster, job, make_segment)
    if segment is None:
        raise TilingError("a run in this process needs a segment function, got None; make_segment is for a cluster.")
    if workers == 1:
        return partial(_run_here, job, segment)
    return partial(_run_in_threads, job, segment, workers)


def _run_here(
    job: TileJob, segment: Segment, tiles: Iterable[Tile], record: Record, should_stop: Callable[[], bool]
) -> None:
    """One tile after the other; the pixels of the next one are read meanwhile."""
    waiting = iter(tiles)
    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        ahead = _read_next(reader, job, waiting)
        while ahead is not None and not should_stop():
            tile, pixels = ahead
            ahead = _read_next(reader, job, waiting)
            record(tile.index, job.run(segment, tile, pixels.result))


def _read_next(
    reader: ThreadPoolExecutor, job: TileJob, waiting: Iterator[Tile]
) -> tuple[Tile, Future[NDArray[Any]]] | None:
    tile = next(waiting, None)
    return None if tile is None else (tile, reader.submit(job.read, tile.read, tile.step))


def _run_in_threads(
    job: TileJob, segment: Segment, workers: int, tiles: Iterable[Tile], record: Record, should_stop: Callable[[], bool]
) -> None:
    """Keep some tiles in a pool; after a wish to stop, Ctrl-C or an error, those being segmented are still saved."""
    waiting = iter(tiles)
    running: dict[Future[str | None], int] = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="tile") as pool:
        try:
            while not should_stop():
                running.update(
                    (pool.submit(job.run, segment, tile), tile.index)
                    for tile in islice(waiting, 2 * workers - len(running))
                )
                if not running:
                    return
                _record_done(running, record)
        finally:
            # The latest first: otherwise a worker could begin the one after a tile that was just taken back.
            for future in [future for future in reversed(running) if future.cancel()]:
                del running[future]
            while running:
                _record_done(running, record)


def _record_done(running: dict[Future[str | None], int], record: Record) -> None:
    done, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
    for future in done:
        record(running.pop(future), future.result())


def _never() -> bool:
    return False
