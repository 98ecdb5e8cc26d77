"""The small parts that all forms are put together from, so that they look and behave alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QGroupBox, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

_SPACING_PX = 3
_MARGIN_PX = 6


def text(name: str, *, rich: bool = False) -> QLabel:
    """A text that wraps and can be copied; `name` is what it tells, for screen readers."""
    label = QLabel()
    label.setAccessibleName(name)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.RichText if rich else Qt.TextFormat.PlainText)
    label.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def button(label: str, tooltip: str, pressed: Callable[[], None] | None = None) -> QPushButton:
    """A button; `pressed` is called without arguments."""
    made = QPushButton(label)
    made.setToolTip(tooltip)
    if pressed is not None:
        made.clicked.connect(lambda _checked: pressed())
    return made


def small_button(label: str, tooltip: str) -> QPushButton:
    """A button of several in a row, which leaves the keys to the canvas: one with the focus would take Enter."""
    made = button(label, tooltip)
    made.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    made.setStyleSheet(f"QPushButton {{ padding-left: {_SPACING_PX}px; padding-right: {_SPACING_PX}px; }}")
    made.setMinimumWidth(10)
    return made


def row(*widgets: QWidget) -> QHBoxLayout:
    """Widgets beside each other."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(_SPACING_PX)
    for widget in widgets:
        layout.addWidget(widget)
    return layout


def grid(widgets: Sequence[QWidget], columns: int) -> QGridLayout:
    """Widgets in rows of `columns`."""
    layout = QGridLayout()
    layout.setSpacing(_SPACING_PX)
    for i, widget in enumerate(widgets):
        layout.addWidget(widget, i // columns, i % columns)
    return layout


def group(title: str, *parts: Any) -> QGroupBox:
    """Widgets and layouts below each other, under a title."""
    box = QGroupBox(title)
    layout = QVBoxLayout(box)
    layout.setContentsMargins(_MARGIN_PX, _MARGIN_PX, _MARGIN_PX, _MARGIN_PX)
    layout.setSpacing(_SPACING_PX + 1)
    for part in parts:
        if isinstance(part, QWidget):
            layout.addWidget(part)
        else:
            layout.addLayout(part)
    return box
