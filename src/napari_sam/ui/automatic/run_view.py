"""The layer that shows finished tiles while a run goes on, and the red one of those that failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Slot

from napari_sam.ui.automatic.tile_signals import TileSignals
from napari_sam.ui.automatic.tiles_overlay import show_failed_tiles
from napari_sam.ui.layers import ShownPlane, labels_layer
from napari_sam.workflows.watching import FailedTile

if TYPE_CHECKING:
    import napari.viewer

REFRESH_MS = 300
"""Tiles that are finished within this time are shown together: redrawing costs the GUI thread some milliseconds."""


class RunView(QObject):
    """What is seen of one run in the viewer. A layer that the user deletes is not made again.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    plane : ShownPlane
        What is segmented.
    signals : TileSignals
    """

    def __init__(self, viewer: napari.viewer.Viewer, plane: ShownPlane, signals: TileSignals) -> None:
        super().__init__()
        self.failed: dict[int, FailedTile] = {}
        self._viewer = viewer
        self._plane = plane
        self._preview: Any = None
        self._signals: TileSignals | None = signals
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self._refresh)
        signals.opened.connect(self._open)
        signals.painted.connect(self._paint_soon)
        signals.tile_failed.connect(self._note_failed)

    def abandon(self) -> None:
        """Touch the viewer no more: it is going."""
        self._timer.stop()
        self._signals = None

    def close(self) -> None:
        """Take the preview away; the run has ended, or the widget goes."""
        self.abandon()
        if self._preview is not None and self._preview in self._viewer.layers:
            self._viewer.layers.remove(self._preview)
        self._preview = None

    def hand_over(self) -> Any | None:
        """The layer of the preview, if it is still there; it is the caller's from here on."""
        preview, self._preview = self._preview, None
        return preview if preview is not None and preview in self._viewer.layers else None

    def show_failed(self) -> Any:
        """Add the layer of failed tiles; None if no tile failed."""
        return show_failed_tiles(self._viewer, self.failed, self._plane) if self.failed else None

    @Slot(object)
    def _open(self, levels: Sequence[Any]) -> None:
        if self._signals is None:
            return
        placed = [labels_layer(level, self._plane) for level in levels]
        _, options, _ = placed[0]
        data = [level for level, *_ in placed] if len(placed) > 1 else placed[0][0]
        options = {**options, "name": f"{self._plane.name} preview", "multiscale": len(placed) > 1, "cache": False}
        active = self._viewer.layers.selection.active
        self._preview = self._viewer.add_labels(data, **options)
        self._preview.editable = False  # what is drawn there would be lost when the result comes
        self._viewer.layers.selection.active = active

    @Slot()
    def _paint_soon(self) -> None:
        if self._signals is not None and not self._timer.isActive():
            self._timer.start()

    @Slot()
    def _refresh(self) -> None:
        if self._preview is not None and self._preview in self._viewer.layers:
            self._preview.refresh(extent=False)

    @Slot(int, object)
    def _note_failed(self, index: int, tile: FailedTile) -> None:
        self.failed[index] = tile
