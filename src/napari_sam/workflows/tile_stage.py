"""The stage that takes the time: all tiles, two of them first to tell how long it will be."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from napari_sam.geometry import Tile
from napari_sam.images import Plane
from napari_sam.tiling import Ledger, Progress, RunSummary, Segment, run_tiles
from napari_sam.tiling.spread import Spread, in_threads
from napari_sam.tiling.tile_job import TileJob
from napari_sam.tiling.watch import RunWatch
from napari_sam.workflows.cluster import open_cluster
from napari_sam.workflows.estimate import Estimate, TileSample, peak_rss_bytes, sample_tiles
from napari_sam.workflows.planning import SegmentPlan
from napari_sam.workflows.sent_pixels import sent_to_workers
from napari_sam.workflows.stages import Stages, Stopped

if TYPE_CHECKING:
    from distributed import Client

STAGE = "tiles"
ESTIMATED_ABOVE_TILES = 8
"""A run of fewer tiles is over before its estimate is of use."""


@dataclass(frozen=True, slots=True)
class TileRun:
    """What the stage came to."""

    summary: RunSummary
    predicted: Estimate | None
    """The need of the whole run, as far as it was foretold."""
    spread: Spread
    """Who does what follows: the same workers."""


def run_tile_stage(
    job: SegmentPlan,
    ledger: Ledger,
    stages: Stages,
    make_segment: Callable[[], Segment] | None,
    lifetime: ExitStack,
    *,
    on_estimate: Callable[[Estimate], None] | None = None,
    watch: RunWatch | None = None,
) -> TileRun:
    """Segment the tiles that the ledger does not have yet.

    Parameters
    ----------
    job : SegmentPlan
    ledger : Ledger
    stages : Stages
    make_segment : function without arguments that returns a Segment, optional
        For worker processes, each of which loads a model of its own.
    lifetime : ExitStack
        Keeps these processes for what follows; they end with it.
    on_estimate : function, optional
        Called with what the run will need, once two tiles of a longer run are segmented.
    watch : RunWatch, optional
        Is told of each tile and says which come first; then no others may, so that there is no estimate.

    Raises
    ------
    Stopped
        After a wish to stop; what was begun is saved.
    """
    tell = partial(stages.tell, STAGE)
    with stages.stage(STAGE):
        samples, predicted = ([], None) if watch or job.config.scheduler else _run_samples(job, ledger, stages, tell)
        if predicted is not None and on_estimate is not None:
            on_estimate(predicted)
        cluster = lifetime.enter_context(_workers(job, ledger))
        with _pixels(job, ledger, cluster) as plane:
            summary = run_tiles(
                plane.read,
                job.tiles,
                None if cluster else job.segment_tile,
                ledger,
                make_segment=make_segment if cluster else None,
                workers=job.config.n_workers,
                cluster=cluster,
                progress=tell,
                should_stop=stages.should_stop,
                watch=watch,
            )
    if summary.interrupted:
        raise Stopped(f"after {summary.finished} of {summary.tiles} tiles")
    summary = replace(summary, reused=summary.reused - len(samples))
    return TileRun(summary, predicted, _spread(cluster, job.config.n_workers))


def _workers(job: SegmentPlan, ledger: Ledger) -> AbstractContextManager[Client | None]:
    """The cluster of a run; None for a run in this process. No processes are begun where nothing is left to segment:
    threads merge sooner than these have started."""
    is_segmented = all(ledger.tiles.path(tile.index).exists() for tile in job.tiles.kept)
    return nullcontext() if is_segmented and job.config.uses_local_cluster else open_cluster(job.config)


def _spread(cluster: Client | None, threads: int) -> Spread:
    if cluster is None:
        return in_threads(threads)
    from napari_sam.tiling.cluster_spread import on_cluster  # dask.distributed takes long to import

    return on_cluster(cluster)


def _pixels(job: SegmentPlan, ledger: Ledger, cluster: Client | None) -> AbstractContextManager[Plane]:
    return nullcontext(job.plane) if cluster is None else sent_to_workers(job.plane, ledger.folder)


def _run_samples(
    job: SegmentPlan, ledger: Ledger, stages: Stages, tell: Progress
) -> tuple[list[TileSample], Estimate | None]:
    """Segment two tiles of a longer run before the others, to know what all will need; they count as finished."""
    total = len(job.tiles.kept)
    left = [tile for tile in job.tiles.kept if not ledger.tiles.path(tile.index).exists()]
    tell(total - len(left), total)
    samples: list[TileSample] = []
    for tile in sample_tiles(left) if len(left) > ESTIMATED_ABOVE_TILES else ():
        done = total - len(left) + len(samples)
        if stages.should_stop():
            raise Stopped(f"after {done} of {total} tiles")
        sample = _run_sample(job, ledger, tile)
        if sample is not None:
            samples.append(sample)
            tell(done + 1, total)
    return samples, job.scale_up(samples, tiles_left=len(left) - len(samples)) if samples else None


def _run_sample(job: SegmentPlan, ledger: Ledger, tile: Tile) -> TileSample | None:
    """Segment and record one tile. One that fails says nothing about the others; it has its turn again among them and
    is listed then."""
    before, started = peak_rss_bytes(), time.perf_counter()
    if TileJob(job.plane.read, ledger.tiles).run(job.segment_tile, tile) is not None:
        return None
    seconds, grown_bytes = time.perf_counter() - started, peak_rss_bytes() - before
    stored = ledger.tiles.read(tile.index)
    return TileSample(tile, [stored.mask(i) for i in range(len(stored))], seconds, grown_bytes)
