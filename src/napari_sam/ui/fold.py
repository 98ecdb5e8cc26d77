"""A part of a form that is folded away until its title is pressed."""

from __future__ import annotations

from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget


class Fold(QWidget):
    """A title that shows and hides what is below it.

    Parameters
    ----------
    title : str
    *parts : QWidget
        From top to bottom.
    """

    def __init__(self, title: str, *parts: QWidget) -> None:
        super().__init__()
        self._title = title
        self.button = QPushButton()
        self.button.setCheckable(True)
        self.button.setStyleSheet("text-align: left; padding-left: 6px;")
        self._parts = parts
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        for part in parts:
            layout.addWidget(part)
        self.button.toggled.connect(self._show)
        self._show(False)

    def _show(self, on: bool) -> None:
        self.button.setText(f"{'▾' if on else '▸'}  {self._title}")
        for part in self._parts:
            part.setVisible(on)
