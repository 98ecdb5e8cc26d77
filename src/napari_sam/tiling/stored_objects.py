"""Objects whose masks are in the files of a run: where each is, and how it is read; values that can be sent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Mask
from napari_sam.geometry.overlap import runs_of
from napari_sam.geometry.runs import MaskRuns
from napari_sam.tiling.answers import AnswerStore, FragmentKey
from napari_sam.tiling.candidates import Rows
from napari_sam.tiling.store import MaskCache, gathered


@dataclass(frozen=True, slots=True, eq=False)
class ObjectRows:
    """Where the mask of each object is; 9 bytes an object."""

    tile: NDArray[np.int32]
    index: NDArray[np.int32]
    is_reprompted: NDArray[np.bool_]
    """Whether it is the answer for mask `index` of `tile` instead of that mask itself."""

    def reprompted_keys(self) -> list[FragmentKey]:
        """Tile and mask number of the fragments whose answers are objects."""
        rows = np.flatnonzero(self.is_reprompted)
        return list(zip(self.tile[rows].tolist(), self.index[rows].tolist(), strict=True))

    def taken(self, rows: Rows) -> ObjectRows:
        return ObjectRows(self.tile[rows], self.index[rows], self.is_reprompted[rows])

    def __len__(self) -> int:
        return len(self.tile)


@dataclass(frozen=True, slots=True, eq=False)
class MaskFiles:
    """The files of a run that hold masks. Sent to another process, both caches begin empty there."""

    folder: Path
    """Of the tiles' files."""
    tiles: MaskCache[int]
    answers: AnswerStore

    def runs(self, rows: ObjectRows) -> MaskRuns:
        """The run lengths of the masks of some objects, in the frame of the whole image and their order."""
        again = rows.is_reprompted
        of_tiles = rows.taken(np.flatnonzero(~again))
        runs = gathered(self.tiles, of_tiles.tile, of_tiles.index)
        if not again.any():
            return runs
        answers = runs_of([self.answers.mask(key) for key in rows.reprompted_keys()])
        return MaskRuns.joined([runs, answers]).take(np.argsort(np.argsort(again, kind="stable")))


@dataclass(frozen=True, slots=True, eq=False)
class StoredObjects:
    """The masks of all objects of a run, by row of their table."""

    files: MaskFiles
    rows: ObjectRows

    def mask(self, row: int) -> Mask:
        """One mask, in the frame of the whole image."""
        tile, index = int(self.rows.tile[row]), int(self.rows.index[row])
        if self.rows.is_reprompted[row]:
            return self.files.answers.mask((tile, index))
        return self.files.tiles.get(tile).mask(index)

    def runs(self, rows: Rows) -> MaskRuns:
        """The run lengths of many masks, in the order of `rows`."""
        return self.files.runs(self.rows.taken(rows))

    def taken(self, rows: Rows) -> StoredObjects:
        """Those of some rows, in that order."""
        return StoredObjects(self.files, self.rows.taken(rows))
