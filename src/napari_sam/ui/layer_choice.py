"""A combo box of the viewer's layers of some types."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox


class LayerChoice(QComboBox):
    """Follows the layer list: layers that come, go and are renamed. Emits `chosen` when another one is chosen."""

    chosen = Signal()

    def __init__(self, viewer: Any, types: tuple[type, ...], tooltip: str) -> None:
        super().__init__()
        self._viewer, self._types = viewer, types
        self._layers: list[Any] = []
        self._shown: Any = None
        self.setToolTip(tooltip)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        for event in self._events():
            event.connect(self._follow)
        self.currentIndexChanged.connect(self._tell)
        self._follow()

    @property
    def layer(self) -> Any | None:
        """The chosen one."""
        row = self.currentIndex()
        return self._layers[row] if 0 <= row < len(self._layers) else None

    def choose(self, layer: Any) -> None:
        self.setCurrentIndex(self._layers.index(layer))

    def release(self) -> None:
        """Stop following."""
        for event in self._events():
            event.disconnect(self._follow)
        for layer in self._layers:
            layer.events.name.disconnect(self._follow)
        self._layers = []

    def _events(self) -> list[Any]:
        events = self._viewer.layers.events
        return [events.inserted, events.removed, events.reordered]

    def _follow(self, event: Any = None) -> None:
        before = self.layer
        for layer in self._layers:
            layer.events.name.disconnect(self._follow)
        self._layers = [layer for layer in self._viewer.layers if isinstance(layer, self._types)]
        self.blockSignals(True)
        self.clear()
        for layer in self._layers:
            layer.events.name.connect(self._follow)
            self.addItem(layer.name)
        if before in self._layers:
            self.setCurrentIndex(self._layers.index(before))
        self.blockSignals(False)
        self._tell()

    def _tell(self, row: int = 0) -> None:
        if self.layer is not self._shown:
            self._shown = self.layer
            self.chosen.emit()
