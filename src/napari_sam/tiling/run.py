"""Segment the tiles of a plan, some at a time; each finished tile is on the disk before it counts."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Literal

from napari_sam.errors import TilingError
from napari_sam.geometry import Mask, Tile
from napari_sam.tiling.functions import Progress, Read, Segment
from napari_sam.tiling.ledger import Ledger
from napari_sam.tiling.objects import COARSE_PROMPT
from napari_sam.tiling.plan import TilePlan
from napari_sam.tiling.reprompt import enlarged
from napari_sam.tiling.store import TileStore
from napari_sam.tiling.watch import RunWatch, in_order

ExecutorName = Literal["threads", "processes"]
Record = Callable[[int, str | None], None]
"""(tile index, what went wrong with it)."""
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


@dataclass(frozen=True, slots=True)
class TileJob:
    """What a worker needs to turn a tile into a file; a plain value, so that it can be sent to other processes."""

    read: Read
    store: TileStore

    def run(self, segment: Segment, tile: Tile) -> str | None:
        """Segment one tile and write its file; what went wrong, if something did.

        Only a record that cannot be written is raised: then every other tile would be lost as well.
        """
        try:
            found = segment(self.read(tile.read, tile.step))
            masks = [in_image(mask, tile, self.store.image_size) for mask in found if mask.area]
        except Exception as error:  # one bad tile (unreadable chunk, out of memory, ...) must not cost the others
            text = f"{type(error).__name__}: {error}"
            self.store.write_failure(tile.index, text)
            return text
        self.store.write(tile.index, masks)
        return None


def run_tiles(
    read: Read,
    plan: TilePlan,
    segment: Segment | None,
    ledger: Ledger,
    *,
    make_segment: Callable[[], Segment] | None = None,
    workers: int = 1,
    executor: ExecutorName = "threads",
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
        Called from several threads at once; for processes it is pickled.
    plan : TilePlan
    segment : Segment
        Called from several threads at once; None with `executor="processes"`.
    ledger : Ledger
    make_segment : function without arguments that returns a Segment
        For `executor="processes"`: pickled, and called once in each worker (it loads the model there).
    workers : int
        Tiles segmented at the same time.
    executor : "threads" or "processes"
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
        If the arguments do not fit, or a worker process died.
    OutputError
        If a record cannot be written.
    """
    run_all = _choose_worker(TileJob(read, ledger.tiles), segment, make_segment, workers, executor)
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
    executor: ExecutorName,
) -> RunAll:
    if workers < 1:
        raise TilingError(f"workers must be at least 1, got {workers}; one a CPU core or GPU is usual.")
    if executor == "processes":
        if make_segment is None:
            raise TilingError(
                'executor="processes" needs make_segment, a picklable function that makes the segment function.'
            )
        return partial(_run_in_processes, job, make_segment, workers)
    if executor != "threads":
        raise TilingError(f'executor must be "threads" or "processes", got {executor!r}.')
    if segment is None:
        raise TilingError('executor="threads" needs a segment function, got None; make_segment is for processes.')
    if workers == 1:
        return partial(_run_here, job, segment)
    return partial(_run_in_threads, job, segment, workers)


def _run_here(
    job: TileJob, segment: Segment, tiles: Iterable[Tile], record: Record, should_stop: Callable[[], bool]
) -> None:
    for tile in tiles:
        if should_stop():
            return
        record(tile.index, job.run(segment, tile))


def _run_in_threads(
    job: TileJob, segment: Segment, workers: int, tiles: Iterable[Tile], record: Record, should_stop: Callable[[], bool]
) -> None:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="tile")
    _run_pooled(pool, partial(job.run, segment), 2 * workers, tiles, record, should_stop)


def _run_in_processes(
    job: TileJob,
    make_segment: Callable[[], Segment],
    workers: int,
    tiles: Iterable[Tile],
    record: Record,
    should_stop: Callable[[], bool],
) -> None:
    # "spawn" on every system: a fork would copy the locks of torch's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(job, make_segment))
    try:
        _run_pooled(pool, _run_in_worker, 2 * workers, tiles, record, should_stop)
    except BrokenExecutor as error:
        raise TilingError(
            f"a worker process died ({error}), perhaps for want of memory; "
            "run the same again with fewer workers or smaller tiles: finished tiles are kept."
        ) from error


def _run_pooled(
    pool: Executor,
    run_tile: Callable[[Tile], str | None],
    in_flight: int,
    tiles: Iterable[Tile],
    record: Record,
    should_stop: Callable[[], bool],
) -> None:
    """Keep `in_flight` tiles in the pool; after a wish to stop, Ctrl-C or an error, those being segmented are still
    saved."""
    waiting = iter(tiles)
    running: dict[Future[str | None], int] = {}
    with pool:
        try:
            while not should_stop():
                running.update(
                    (pool.submit(run_tile, tile), tile.index) for tile in islice(waiting, in_flight - len(running))
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


@dataclass
class _Worker:
    """What a worker process was started with: a pool hands its tasks nothing but their arguments, so this must be
    global there."""

    job: TileJob
    make_segment: Callable[[], Segment]
    segment: Segment | None = None


_worker: _Worker | None = None


def _start_worker(job: TileJob, make_segment: Callable[[], Segment]) -> None:
    global _worker
    # Ctrl-C reaches every process of a terminal; only the first one decides, the workers finish their tiles.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker = _Worker(job, make_segment)


def _run_in_worker(tile: Tile) -> str | None:
    if _worker is None:
        raise TilingError("a tile came to a process that was not started as a worker; use run_tiles.")
    if _worker.segment is None:  # here and not at the start, so that its error reaches the user as it is
        _worker.segment = _worker.make_segment()
    return _worker.job.run(_worker.segment, tile)


def in_image(mask: Mask, tile: Tile, image_size: tuple[int, int]) -> Mask:
    frame_size = (-(-tile.read.height // tile.step), -(-tile.read.width // tile.step))
    if mask.frame_size != frame_size:
        raise TilingError(
            f"a segment function must give masks in the frame of its tile, {frame_size} (H, W), "
            f"got one in {mask.frame_size}."
        )
    if tile.step > 1:
        mask = replace(enlarged(mask, tile.step, tile.read.size), prompt=COARSE_PROMPT)
    return mask.shifted(tile.read.x0, tile.read.y0, image_size)


def _never() -> bool:
    return False
