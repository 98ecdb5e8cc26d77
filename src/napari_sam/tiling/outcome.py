"""The outcome of a merge: its objects in their order, as a table and as places of their masks; kept in the ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import LedgerError
from napari_sam.tiling.answers import AnswerStore, Resolution
from napari_sam.tiling.candidates import Corners, Rows
from napari_sam.tiling.coarse import LargeObjects
from napari_sam.tiling.config import TilingConfig
from napari_sam.tiling.covered import uncovered_rows
from napari_sam.tiling.ledger import Ledger
from napari_sam.tiling.neighbourhoods import Conflicts
from napari_sam.tiling.objects import MergedObjects, MergeSummary, ObjectTable
from napari_sam.tiling.plan import TilePlan
from napari_sam.tiling.reprompt import PROMPT
from napari_sam.tiling.seams import Seams
from napari_sam.tiling.store import MaskCache, StoredMasks, read_arrays, write_arrays
from napari_sam.tiling.stored_objects import MaskFiles, ObjectRows, StoredObjects

OWNERS_AT_ONCE = 1 << 18
"""Boxes whose tiles are found together: bounds the memory."""


@dataclass(frozen=True, slots=True, eq=False)
class ObjectColumns:
    """What the table says of objects, in its order, in half of its memory."""

    boxes: Corners
    """(N, 4) XYXY."""
    areas: NDArray[np.int64]
    centroids_xy: NDArray[np.float64]
    predicted_iou: NDArray[np.float64]
    stability_score: NDArray[np.float64]
    prompt: NDArray[np.int16]
    """Number of the prompt's name in `prompt_names`."""
    prompt_names: tuple[str, ...]
    tile: NDArray[np.int32]
    is_fragment: NDArray[np.bool_]
    is_straight: NDArray[np.bool_]
    """Whether it runs straight along a seam."""

    def table(self) -> ObjectTable:
        """The objects labelled 1 to N."""
        return ObjectTable(
            label=np.arange(1, len(self.areas) + 1, dtype=np.uint64),
            y0=self.boxes[:, 1].astype(np.int64),
            x0=self.boxes[:, 0].astype(np.int64),
            y1=self.boxes[:, 3].astype(np.int64),
            x1=self.boxes[:, 2].astype(np.int64),
            area_px=self.areas,
            centroid_y=self.centroids_xy[:, 1].copy(),
            centroid_x=self.centroids_xy[:, 0].copy(),
            predicted_iou=self.predicted_iou,
            stability_score=self.stability_score,
            tile=self.tile.astype(np.int64),
            touches_seam=self.is_fragment,
            prompt=_decoded(self.prompt_names, self.prompt),
            verified=np.zeros(len(self.areas), dtype=np.bool_),
        )


def arranged(
    conflicts: Conflicts, kept: Rows, resolution: Resolution, large: LargeObjects, answers: AnswerStore
) -> tuple[ObjectRows, ObjectColumns]:
    """The objects in the order of their labels: by the tile that owns the box's centre, then the box from its upper
    left corner on; at last by where the mask came from."""
    candidates, coarse = conflicts.candidates, large.coarse
    plan, seams = candidates.plan, Seams.of(candidates.plan)
    whole, fragments = np.array(list(resolution.whole), dtype=np.intp), resolution.fragments
    again = StoredMasks.of([answers.mask(candidates.key(row)) for row in whole.tolist()], plan.image_size)
    names = (*candidates.prompt_names, *coarse.prompt_names, PROMPT)

    def column(name: str, answered: NDArray[Any]) -> NDArray[Any]:
        """Of all objects: kept masks, answers, fragments, large ones."""
        fine: NDArray[Any] = getattr(candidates, name)
        of_large = getattr(coarse, name)[large.rows]
        if name == "prompt":
            of_large = of_large + np.int16(len(candidates.prompt_names))
        return np.concatenate([fine[kept], answered.astype(fine.dtype), fine[fragments], of_large])

    kind = np.repeat(np.arange(4, dtype=np.int8), [len(kept), len(whole), len(fragments), len(large.rows)])
    index = np.concatenate(
        [*(candidates.index_of(rows) for rows in (kept, whole, fragments)), coarse.index_of(large.rows)]
    )
    rows = ObjectRows(column("tile", candidates.tile[whole]), index.astype(np.int32), kind == 1)
    boxes, is_fragment = column("boxes", again.boxes), kind == 2
    straight = np.zeros(len(candidates), dtype=np.bool_)
    straight[conflicts.straight] = True
    of_whole, of_large = (seams.cuts(runs) for runs in (again.runs(np.arange(len(whole))), coarse.runs(large.rows)))
    is_straight = np.concatenate([straight[kept], of_whole, straight[fragments], of_large])
    del index, kind
    order = _label_order(plan, boxes, rows)
    rows = rows.taken(order)
    return rows, ObjectColumns(
        boxes=boxes[order],
        areas=column("areas", again.areas)[order],
        centroids_xy=column("centroids_xy", again.centroids_xy)[order],
        predicted_iou=column("predicted_iou", again.predicted_iou)[order],
        stability_score=column("stability_score", again.stability_score)[order],
        prompt=column("prompt", np.full(len(whole), len(names) - 1))[order],
        prompt_names=names,
        tile=rows.tile,
        is_fragment=is_fragment[order],
        is_straight=is_straight[order],
    )


def _decoded(names: Sequence[str], codes: NDArray[np.int16]) -> NDArray[np.str_]:
    """The names, no wider than those that occur."""
    used, renumbered = np.unique(codes, return_inverse=True)
    texts: NDArray[np.str_] = np.array([names[code] for code in used], dtype=np.str_)
    return texts[renumbered]


def _label_order(plan: TilePlan, boxes: NDArray[Any], rows: ObjectRows) -> Rows:
    pieces = np.array_split(boxes, max(len(boxes) // OWNERS_AT_ONCE, 1))
    owner = np.concatenate([plan.owner_of(piece).astype(np.int32) for piece in pieces])
    x0, y0, x1, y1 = boxes.T
    order: Rows = np.lexsort((rows.index, rows.tile, rows.is_reprompted, x1, y1, x0, y0, owner))
    return order


class MergeStore:
    """The merge stage of a ledger: the outcome, and from where its masks are read."""

    def __init__(self, ledger: Ledger, plan: TilePlan, finished: list[int], config: TilingConfig) -> None:
        self._plan = plan
        self._path: Path = ledger.stage_folder("merge") / "objects.npz"
        self._cover_thresh = config.object_cover_thresh
        self._inputs = _digest([plan.settings(), config.merge_settings(), ledger.tiles.digest(finished)])
        self.tiles = ledger.tiles
        self.masks = MaskCache(ledger.tiles.read)
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
        rows = ObjectRows(table.tile.astype(np.int32), arrays["index"], arrays["is_reprompted"])
        if not all(self.answers.has_mask(key) for key in rows.reprompted_keys()):
            return None
        return self._objects(table, rows, MergeSummary(**json.loads(str(arrays["summary"]))))

    def save(
        self, rows: ObjectRows, table: ObjectTable, is_straight: NDArray[np.bool_], summary: MergeSummary
    ) -> MergedObjects:
        """Drop covered objects, and keep the outcome unless there were errors on the way."""
        n_found, objects = len(rows), self._objects(table, rows, summary)
        if self._cover_thresh is not None:
            uncovered = uncovered_rows(objects, self._cover_thresh)
            if len(uncovered) < n_found:
                objects, rows = objects.select(uncovered), rows.taken(uncovered)
                is_straight = is_straight[uncovered]
        table = objects.table
        summary = replace(
            summary,
            covered=n_found - len(rows),
            fragments=int(table.touches_seam.sum()),
            seam_cuts=int(is_straight.sum()),
        )
        if not summary.reprompts_failed:
            outcome = {"index": rows.index, "is_reprompted": rows.is_reprompted}
            texts = {
                "inputs": np.array(self._inputs),
                "summary": np.array(json.dumps(asdict(summary), sort_keys=True)),
            }
            write_arrays(self._path, {**table.columns(), **outcome, **texts})
        return self._objects(table, rows, summary)

    def _objects(self, table: ObjectTable, rows: ObjectRows, summary: MergeSummary) -> MergedObjects:
        files = MaskFiles(self.tiles.folder, self.masks, self.answers)
        return MergedObjects(table, self._plan.image_size, StoredObjects(files, rows), summary)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
