"""Following a run for somebody who looks at it: a preview of its tiles, the failed ones, and where to look first."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.geometry import Box, Tile
from napari_sam.tiling import TilePlan
from napari_sam.tiling.store import TileStore
from napari_sam.tiling.watch import RunWatch
from napari_sam.workflows.preview import PreviewPainter

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FailedTile:
    """A tile that could not be segmented."""

    core: Box
    reason: str


class RunFollower:
    """Follows one run; the functions it is given are called on the thread of the run.

    A preview that cannot be painted (a full disk, ...) ends the preview, never the run. To be used as a context around
    the run, which removes the preview's files at the end.

    Parameters
    ----------
    opened : function
        Called with the levels of the preview, finest first, before anything is painted.
    painted : function
        Called when the preview has changed.
    tile_failed : function
        Called with the number of a tile and a FailedTile.
    """

    def __init__(
        self,
        opened: Callable[[Sequence[Any]], None],
        painted: Callable[[], None],
        tile_failed: Callable[[int, FailedTile], None],
    ) -> None:
        self._opened, self._painted, self._tile_failed = opened, painted, tile_failed
        self._view: Box | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="napari-sam-preview-"))
        self._painter: PreviewPainter | None = None

    def look_at(self, corners_xy: NDArray[np.float64] | None) -> None:
        """Tiles around these corners come next: (N, 2) as (x, y), whole numbers are the centres of pixels.

        Can be called from any thread while the run goes on.
        """
        if corners_xy is None:
            self._view = None
        else:
            edges = corners_xy + 0.5
            self._view = Box.from_xyxy([*edges.min(axis=0), *edges.max(axis=0)])

    def as_watch(self) -> RunWatch:
        """To be handed to `segment`."""
        return RunWatch(self._planned, self._tile_done, lambda: self._view)

    def __enter__(self) -> RunFollower:
        return self

    def __exit__(self, *_: object) -> None:
        # A viewer that still shows the preview sees it become empty: what a zarr array lacks on the disk is 0.
        shutil.rmtree(self._folder, ignore_errors=True)

    def _planned(self, plan: TilePlan, store: TileStore) -> None:
        try:
            self._painter = PreviewPainter(plan, store, self._folder)
        except Exception as error:
            self._end_preview(error)
        else:
            self._opened(self._painter.levels)

    def _tile_done(self, tile: Tile, problem: str | None) -> None:
        if problem is not None:
            self._tile_failed(tile.index, FailedTile(tile.core, problem))
        elif self._painter is not None:
            try:
                self._painter.paint(tile)
            except Exception as error:
                self._end_preview(error)
            else:
                self._painted()

    def _end_preview(self, error: Exception) -> None:
        self._painter = None
        _log.warning("the preview of this run ends, the run goes on: %s", error)
