"""The table of shortcuts: shows them, and lets the user give an act another key."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sam.errors import NapariSamError
from napari_sam.ui.interactive.shortcuts import MOUSE, SHORTCUTS, forget_keys, read_keys, store_key


class ShortcutTable(QWidget):
    """One row an act; a double click on a key edits it.

    Parameters
    ----------
    rebound : callable
        Called with all keys, by act, after a change.
    """

    def __init__(self, rebound: Callable[[Mapping[str, str]], None]) -> None:
        super().__init__()
        self._rebound = rebound
        self.table = QTableWidget(len(MOUSE) + len(SHORTCUTS), 2)
        self.table.setHorizontalHeaderLabels(["Key", "What it does"])
        self.table.verticalHeader().hide()
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.table.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        self.table.horizontalHeader().setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.table.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.setWordWrap(True)
        self.status = QLabel("Double click on a key to change it.")
        self.status.setWordWrap(True)
        self.reset = QPushButton("Keys as shipped")
        self.reset.clicked.connect(lambda _checked: self._reset())
        row = QHBoxLayout()
        row.addWidget(self.status, stretch=1)
        row.addWidget(self.reset)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        layout.addLayout(row)
        self._fill(read_keys())
        self.table.itemChanged.connect(self._edited)

    def _fill(self, keys: Mapping[str, str]) -> None:
        self.table.blockSignals(True)
        rows: list[tuple[str, str, str | None]] = [(key, about, None) for key, about in MOUSE]
        rows += [(keys[shortcut.act], shortcut.about, shortcut.act) for shortcut in SHORTCUTS]
        for row, (key, about, act) in enumerate(rows):
            for column, text in enumerate((key, about)):
                item = QTableWidgetItem(text)
                item.setData(Qt.ItemDataRole.UserRole, act)
                item.setToolTip(about)
                if column == 1 or act is None:
                    item.setFlags(Qt.ItemFlag.ItemIsEnabled)
                self.table.setItem(row, column, item)
        self.table.blockSignals(False)

    def _edited(self, item: QTableWidgetItem) -> None:
        try:
            keys = store_key(item.data(Qt.ItemDataRole.UserRole), item.text().strip())
        except NapariSamError as error:
            self.status.setText(str(error))
            keys = read_keys()
        else:
            self.status.setText("Changed, for later sessions too.")
        self._fill(keys)
        self._rebound(keys)

    def _reset(self) -> None:
        keys = forget_keys()
        self.status.setText("The keys are as shipped.")
        self._fill(keys)
        self._rebound(keys)
