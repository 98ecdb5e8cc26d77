"""Widgets that are there at once: what they need is loaded on another thread, then their form takes its place.

This module imports Qt alone. The forms come with torch and half of scientific Python, which take seconds to load where
they were not used before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

from qtpy.QtCore import QEvent, Qt, QTimer, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

if TYPE_CHECKING:
    import napari.viewer

PAINT_MS = 30
"""Time in which the window draws this widget, before Python is busy with loading."""
LEAST_WIDTH_PX = 350
"""About that of the forms, so that the dock does not jump."""


class OpeningWidget(QWidget):
    """Says that it is loading, and then holds the widget that was asked for.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    ready = Signal()
    """`inside` is there, or what went wrong is said."""
    _loaded = Signal(object)
    module: ClassVar[str]
    """Where the class of the widget is."""
    name: ClassVar[str]
    """Name of the class."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._has_begun = False
        self.inside: QWidget | None = None
        self._text = QLabel("Loading ...")
        self._text.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._text.setWordWrap(True)
        # Without it napari fills the dock with empty space below.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self.setMinimumWidth(LEAST_WIDTH_PX)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._text)
        self._loaded.connect(self._show_inside)

    def showEvent(self, event: QShowEvent) -> None:
        """Begin to load once it can be seen."""
        super().showEvent(event)
        if not self._has_begun:
            self._has_begun = True
            QTimer.singleShot(PAINT_MS, self._load)

    def event(self, event: QEvent) -> bool:
        """Take the widget inside along when napari takes this one out of the window."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None and self.inside is not None:
            inside, self.inside = self.inside, None
            inside.setParent(None)
            inside.deleteLater()
        return bool(super().event(event))

    def _load(self) -> None:
        threading.Thread(target=self._import, name=f"loading {self.module}", daemon=True).start()

    def _import(self) -> None:
        """On the other thread."""
        problem = None
        try:
            import_module(self.module)
        except Exception as error:  # whatever a broken installation raises
            problem = error
        try:
            self._loaded.emit(problem)
        except RuntimeError:  # Qt has deleted this widget: its dock was closed meanwhile
            return

    def _show_inside(self, problem: Exception | None) -> None:
        if problem is not None:
            self._text.setText(f"This cannot be loaded: {type(problem).__name__}: {problem}")
        else:
            self._text.hide()
            self.inside = self._make(getattr(import_module(self.module), self.name))
            self.layout().addWidget(self.inside)
        self.ready.emit()

    def _make(self, kind: Callable[..., QWidget]) -> QWidget:
        return kind(self._viewer)


class AutomaticDock(OpeningWidget):
    """The widget *Automatic segmentation*."""

    module, name = "napari_sam.ui.automatic.widget", "AutomaticSegmentation"


class InteractiveDock(OpeningWidget):
    """The widget *Interactive segmentation*."""

    module, name = "napari_sam.ui.interactive.widget", "InteractiveSegmentation"


class ReviewDock(OpeningWidget):
    """The widget *Review*."""

    module, name = "napari_sam.ui.review.widget", "ReviewWidget"


class ModelsDock(OpeningWidget):
    """The widget *Models*."""

    module, name = "napari_sam.ui.models", "ModelsWidget"

    def _make(self, kind: Callable[..., QWidget]) -> QWidget:
        return kind()
