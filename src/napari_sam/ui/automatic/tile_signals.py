"""What happens to the tiles of a run, carried from its thread to the GUI's."""

from __future__ import annotations

from qtpy.QtCore import QObject, Signal

from napari_sam.workflows.watching import RunFollower


class TileSignals(QObject):
    """Signals of one run; they reach the GUI thread where they are connected to methods of objects that live there."""

    opened = Signal(object)
    """Levels of the preview, finest first."""
    painted = Signal()
    """The preview has changed."""
    tile_failed = Signal(int, object)
    """Number of the tile, FailedTile."""

    def __init__(self) -> None:
        super().__init__()
        self.follower = RunFollower(self.opened.emit, self.painted.emit, self.tile_failed.emit)
