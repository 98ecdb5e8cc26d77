"""One object once: what all tiles found, with duplicates reduced, cut objects made whole, and stable labels.

1. A mask is *cut* if it ends at an edge of what its tile read that is not the image's.
2. Uncut masks of different tiles with a mask IoU above `merge_iou_thresh` are one object; the best in a total order
   stays (the tile that owns the box's centre first, then predicted IoU, tile, index).
3. A cut mask whose object another tile sees uncut is dropped.
4. For every other cut mask the model is asked again on a window that grows until the object is whole, the largest
   first; what is known by then is not asked again. Where no whole object can be had the fragment stays, with
   `touches_seam` set.
5. What is missing then is taken from the coarse tiles: masks longer than the finer tiles are sure to show whole, of
   which known objects cover next to nothing. A fragment that lies on one goes.
6. Of the objects so far, one of which better ones together cover more than `object_cover_thresh` is dropped, as
   automatic masks do inside a tile. A tile sees a cell and a little of the next as one mask, its neighbour sees the
   cell alone: neither is the other's double by IoU. Where parts of objects are wanted the threshold is None, and
   nothing is dropped.
7. Labels follow the tile that owns an object, then its box.
"""

from __future__ import annotations

from dataclasses import replace

from napari_sam.geometry import Mask, Tile
from napari_sam.tiling.answers import Resolution, Resolver
from napari_sam.tiling.candidates import Candidates, Rows
from napari_sam.tiling.coarse import KnownObjects, LargeObjects
from napari_sam.tiling.config import TilingConfig
from napari_sam.tiling.functions import Progress, Read, Reprompt
from napari_sam.tiling.ledger import Ledger
from napari_sam.tiling.neighbourhoods import Conflicts, find_conflicts
from napari_sam.tiling.objects import MergedObjects, MergeSummary
from napari_sam.tiling.outcome import MergeStore, ObjectColumns, arranged
from napari_sam.tiling.plan import TilePlan
from napari_sam.tiling.reprompt import Answer, ask_for_whole
from napari_sam.tiling.spread import Spread, in_threads
from napari_sam.tiling.stored_objects import ObjectRows


def merge_tiles(
    ledger: Ledger,
    plan: TilePlan,
    read: Read,
    reprompt: Reprompt,
    config: TilingConfig,
    *,
    spread: Spread | None = None,
    progress: Progress | None = None,
) -> MergedObjects:
    """The objects of the whole image, from the tiles that are finished, by the rules at the head of this module.

    The same image and settings give the same labels, whatever the order of the tiles, the number of workers and the
    interruptions on the way. The outcome and every answer of `reprompt` are kept in the ledger, so that a later call
    goes on where an earlier one stopped.

    Parameters
    ----------
    ledger : Ledger
        With finished tiles; tiles that failed or were skipped contribute nothing.
    plan : TilePlan
        The one the tiles were run with.
    read : Read
    reprompt : Reprompt
        Called from this thread only.
    config : TilingConfig
    spread : Spread, optional
        Who compares the masks of neighbouring tiles: by default this thread; see `in_threads`, `on_cluster`.
    progress : function (done, total), optional
        Counts tiles of full resolution and, once it is known how many there are, cut objects to prompt again.

    Returns
    -------
    MergedObjects
        Its `summary` tells what happened; after errors in `reprompt` the outcome is not kept, so that a later call
        tries again.

    Raises
    ------
    LedgerError
        If a tile file was damaged since the tiles were run.
    TilingError
        If the cluster of `spread` is lost.
    OutputError
        If the outcome cannot be written.
    """
    finished = [tile.index for tile in plan.kept if ledger.tiles.path(tile.index).exists()]
    store = MergeStore(ledger, plan, finished, config)
    known = store.load()
    if known is not None:
        return known
    rows, columns, summary = _arranged_objects(
        store, plan, frozenset(finished), read, reprompt, config, spread or in_threads(), progress
    )
    table, is_straight = columns.table(), columns.is_straight
    del columns  # of millions of objects each of these is hundreds of megabytes
    return store.save(rows, table, is_straight, summary)


def _arranged_objects(
    store: MergeStore,
    plan: TilePlan,
    finished: frozenset[int],
    read: Read,
    reprompt: Reprompt,
    config: TilingConfig,
    spread: Spread,
    progress: Progress | None,
) -> tuple[ObjectRows, ObjectColumns, MergeSummary]:
    """The objects before any is dropped for being covered."""
    conflicts = find_conflicts(store.tiles, store.masks, plan, finished, config, spread=spread, progress=progress)
    coarse = Candidates.read(store.masks, plan, plan.coarse, finished, config.edge_tolerance_px)
    candidates, kept = conflicts.candidates, conflicts.kept()
    steps = _Steps(progress, len(plan.fine), len(plan.fine) + len(conflicts.unseen))

    def ask(fragment: Mask, tile: Tile) -> Answer:
        return ask_for_whole(fragment, tile, read, reprompt, plan, config)

    resolver = Resolver(candidates, kept, store.answers, ask, config)
    for row in conflicts.unseen.tolist():
        resolver.resolve(row)
        steps.next()
    resolution = resolver.resolution()
    known = KnownObjects(candidates, kept, resolution.whole, resolver.answer)
    large = LargeObjects.find(coarse, known, config)
    left = large.unshown_fragments(candidates, resolution.fragments, config)
    resolution = replace(resolution, fragments=left)
    summary = replace(_summary(conflicts, kept, resolution), large=len(large.rows))
    return *arranged(conflicts, kept, resolution, large, store.answers), summary


def _summary(conflicts: Conflicts, kept: Rows, resolution: Resolution) -> MergeSummary:
    n_masks, n_cut = len(conflicts.candidates), int(conflicts.candidates.is_cut.sum())
    return MergeSummary(
        masks=n_masks,
        duplicates=n_masks - n_cut - len(kept),
        cut=n_cut,
        cut_seen_whole=n_cut - len(conflicts.unseen),
        cut_objects_reprompted=resolution.asked,
        reprompted_whole=len(resolution.whole),
        reprompts_failed=resolution.failed,
    )


class _Steps:
    """Counts what is done for a progress function."""

    def __init__(self, progress: Progress | None, done: int, total: int) -> None:
        self._done, self._total = done, total
        self._progress = progress

    def next(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
