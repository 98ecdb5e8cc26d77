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

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import LedgerError
from napari_sam.geometry import Mask, Tile
from napari_sam.tiling.answers import AnswerStore, FragmentKey, Resolution, Resolver
from napari_sam.tiling.candidates import Candidates, Rows, reduce_duplicates
from napari_sam.tiling.coarse import KnownObjects, LargeObjects
from napari_sam.tiling.covered import uncovered_rows
from napari_sam.tiling.fragments import unseen_fragments
from napari_sam.tiling.functions import Progress, Read, Reprompt
from napari_sam.tiling.ledger import Ledger
from napari_sam.tiling.objects import MergedObjects, MergeSummary, ObjectTable
from napari_sam.tiling.plan import TilePlan, TilingConfig
from napari_sam.tiling.reprompt import Answer, ask_for_whole
from napari_sam.tiling.seams import seam_cut_labels
from napari_sam.tiling.store import MaskCache, StoredMasks, TileStore, read_arrays, write_arrays


def merge_tiles(
    ledger: Ledger,
    plan: TilePlan,
    read: Read,
    reprompt: Reprompt,
    config: TilingConfig,
    *,
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
    progress : function (done, total), optional
        Counts tiles (twice) and, once it is known how many there are, cut objects to prompt again.

    Returns
    -------
    MergedObjects
        Its `summary` tells what happened; after errors in `reprompt` the outcome is not kept, so that a later call
        tries again.

    Raises
    ------
    LedgerError
        If a tile file was damaged since the tiles were run.
    OutputError
        If the outcome cannot be written.
    """
    finished = [tile.index for tile in plan.kept if ledger.tiles.path(tile.index).exists()]
    store = _MergeStore(ledger, plan, finished, config)
    known = store.load()
    if known is not None:
        return known
    n_fine = len(plan.fine)
    candidates, coarse = (
        Candidates.read(ledger.tiles, plan, indices, config.edge_tolerance_px)
        for indices in ([i for i in finished if i < n_fine], [i for i in finished if i >= n_fine])
    )
    steps = _Steps(progress, 2 * n_fine)
    kept = reduce_duplicates(candidates, config, steps.next)
    fragments = unseen_fragments(candidates, config, steps.next)
    steps.total += len(fragments)

    def ask(fragment: Mask, tile: Tile) -> Answer:
        return ask_for_whole(fragment, tile, read, reprompt, plan, config)

    resolver = Resolver(candidates, kept, store.answers, ask, config)
    for row in fragments.tolist():
        resolver.resolve(row)
        steps.next()
    resolution = resolver.resolution()
    whole = [store.answers.mask(candidates.key(row)) for row in resolution.whole.tolist()]
    large = LargeObjects.find(coarse, KnownObjects(candidates, kept, whole), config)
    left = large.unshown_fragments(candidates, resolution.fragments, config)
    resolution = replace(resolution, fragments=left)
    summary = replace(_summary(candidates, kept, fragments, resolution), large=len(large.rows))
    return store.save(_Rows.of(candidates, kept, resolution, coarse, large.rows), summary)


def _summary(candidates: Candidates, kept: Rows, fragments: Rows, resolution: Resolution) -> MergeSummary:
    n_cut = int(candidates.is_cut.sum())
    return MergeSummary(
        masks=len(candidates),
        duplicates=len(candidates) - n_cut - len(kept),
        cut=n_cut,
        cut_seen_whole=n_cut - len(fragments),
        cut_objects_reprompted=resolution.asked,
        reprompted_whole=len(resolution.whole),
        reprompts_failed=resolution.failed,
    )


class _Steps:
    """Counts what is done for a progress function."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.total = total
        self._done = 0
        self._progress = progress

    def next(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self.total)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Where the mask of each final object is, in no order yet."""

    tile: NDArray[np.int64]
    index: NDArray[np.int64]
    is_reprompted: NDArray[np.bool_]
    """Whether it is the answer for mask `index` of `tile` instead of that mask itself."""
    is_fragment: NDArray[np.bool_]

    @classmethod
    def of(cls, candidates: Candidates, kept: Rows, resolution: Resolution, coarse: Candidates, large: Rows) -> _Rows:
        rows = np.concatenate([kept, resolution.whole, resolution.fragments])
        counts = [len(kept), len(resolution.whole), len(resolution.fragments), len(large)]
        kind = np.repeat([0, 1, 2, 3], counts)
        return cls(
            np.concatenate([candidates.tile[rows], coarse.tile[large]]),
            np.concatenate([candidates.index[rows], coarse.index[large]]),
            kind == 1,
            kind == 2,
        )

    def reprompted_keys(self) -> list[FragmentKey]:
        """Tile and mask number of the fragments whose answers are objects."""
        rows = np.flatnonzero(self.is_reprompted)
        return list(zip(self.tile[rows].tolist(), self.index[rows].tolist(), strict=True))

    def taken(self, order: Rows) -> _Rows:
        return _Rows(self.tile[order], self.index[order], self.is_reprompted[order], self.is_fragment[order])

    def __len__(self) -> int:
        return len(self.tile)


class _MergeStore:
    """The merge stage of a ledger: the outcome, and from where its masks are read."""

    def __init__(self, ledger: Ledger, plan: TilePlan, finished: list[int], config: TilingConfig) -> None:
        self._plan = plan
        self._tiles: TileStore = ledger.tiles
        self._cache = MaskCache(ledger.tiles.read)
        self._path: Path = ledger.stage_folder("merge") / "objects.npz"
        self._cover_thresh = config.object_cover_thresh
        self._inputs = _digest([plan.settings(), config.merge_settings(), ledger.tiles.digest(finished)])
        self.answers = AnswerStore(ledger.stage_folder("merge"), plan.image_size, config.merge_settings())

    def load(self) -> MergedObjects | None:
        """The outcome of an earlier merge of the same tiles with the same settings."""
        try:
            arrays = read_arrays(
                self._path, [*ObjectTable.column_names(), "index", "is_reprompted", "inputs", "summary"]
            )
        except LedgerError:  # never merged, or the file is damaged: then it is merged again
            return None
        if str(arrays["inputs"]) != self._inputs:
            return None
        table = ObjectTable(**{name: arrays[name] for name in ObjectTable.column_names()})
        rows = _Rows(table.tile, arrays["index"], arrays["is_reprompted"], table.touches_seam)
        if not all(self.answers.has_mask(key) for key in rows.reprompted_keys()):
            return None
        return self._objects(table, rows, MergeSummary(**json.loads(str(arrays["summary"]))))

    def save(self, rows: _Rows, summary: MergeSummary) -> MergedObjects:
        """Order and label the objects, drop covered ones, and keep the outcome unless there were errors on the way."""
        columns = self._columns(rows)
        order = _label_order(self._plan, columns, rows)
        rows = rows.taken(order)
        objects = self._objects(_table({name: column[order] for name, column in columns.items()}, rows), rows, summary)
        if self._cover_thresh is not None:
            uncovered = uncovered_rows(objects, self._cover_thresh)
            objects, rows = objects.select(uncovered), rows.taken(uncovered)
        table = objects.table
        summary = replace(
            summary,
            covered=len(order) - len(rows),
            fragments=int(rows.is_fragment.sum()),
            seam_cuts=len(seam_cut_labels(objects, self._plan)),
        )
        objects = self._objects(table, rows, summary)
        if not summary.reprompts_failed:
            outcome = {"index": rows.index, "is_reprompted": rows.is_reprompted}
            texts = {
                "inputs": np.array(self._inputs),
                "summary": np.array(json.dumps(asdict(objects.summary), sort_keys=True)),
            }
            write_arrays(self._path, {**table.columns(), **outcome, **texts})
        return objects

    def _objects(self, table: ObjectTable, rows: _Rows, summary: MergeSummary) -> MergedObjects:
        def load(row: int) -> Mask:
            tile, index = int(rows.tile[row]), int(rows.index[row])
            return self.answers.mask((tile, index)) if rows.is_reprompted[row] else self._cache.get(tile).mask(index)

        return MergedObjects(table, self._plan.image_size, load, summary)

    def _columns(self, rows: _Rows) -> dict[str, NDArray[Any]]:
        """Columns of the objects' mask files, gathered a tile at a time."""
        names = ("boxes", "areas", "centroids_xy", "predicted_iou", "stability_score", "prompts")
        order = np.lexsort((rows.index, rows.tile, rows.is_reprompted))
        n_from_tiles = len(rows) - int(rows.is_reprompted.sum())
        from_tiles, reprompted = order[:n_from_tiles], order[n_from_tiles:]
        tiles, first = np.unique(rows.tile[from_tiles], return_index=True)
        parts: list[dict[str, NDArray[Any]]] = [asdict(StoredMasks.of([], self._plan.image_size))]
        for tile, members in zip(tiles.tolist(), np.split(from_tiles, first[1:]), strict=len(tiles) > 0):
            stored = self._tiles.read_columns(tile, names)
            parts.append({name: stored[name][rows.index[members]] for name in names})
        for row in reprompted.tolist():
            answer = self.answers.mask((int(rows.tile[row]), int(rows.index[row])))
            parts.append(asdict(StoredMasks.of([answer], self._plan.image_size)))
        back = np.argsort(order)
        return {name: np.concatenate([part[name] for part in parts])[back] for name in names}


def _label_order(plan: TilePlan, columns: dict[str, NDArray[Any]], rows: _Rows) -> Rows:
    """By the tile that owns the box's centre, then the box from its upper left corner on; at last by where the mask
    came from."""
    x0, y0, x1, y1 = columns["boxes"].T
    order: Rows = np.lexsort(
        (rows.index, rows.tile, rows.is_reprompted, x1, y1, x0, y0, plan.owner_of(columns["boxes"]))
    )
    return order


def _table(columns: dict[str, NDArray[Any]], rows: _Rows) -> ObjectTable:
    boxes, centroids = columns["boxes"], columns["centroids_xy"]
    return ObjectTable(
        label=np.arange(1, len(rows) + 1, dtype=np.uint64),
        y0=boxes[:, 1],
        x0=boxes[:, 0],
        y1=boxes[:, 3],
        x1=boxes[:, 2],
        area_px=columns["areas"],
        centroid_y=centroids[:, 1],
        centroid_x=centroids[:, 0],
        predicted_iou=columns["predicted_iou"],
        stability_score=columns["stability_score"],
        tile=rows.tile,
        touches_seam=rows.is_fragment,
        prompt=columns["prompts"],
        verified=np.zeros(len(rows), dtype=np.bool_),
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
