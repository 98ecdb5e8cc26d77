"""The widget *Models*: which checkpoints there are and where they lie; fetch, verify, add one's own."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QProgressBar,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sam.errors import CheckpointError
from napari_sam.ui import parts
from napari_sam.ui.worker import Job, Work
from napari_sam.workflows.models import (
    ModelStatus,
    Verification,
    add_own_model,
    checkpoint_cache_dir,
    download_model,
    forget_own_model,
    is_offline,
    list_models,
    list_own_models,
    size_text,
    verify_model,
)

COLUMNS = ("Model", "Size", "Here", "Good at", "Licence")
HERE = {
    "built-in": "built in",
    "bundle": "yes (bundle)",
    "cache": "yes",
    "own file": "yes (yours)",
    "not downloaded": "no",
    "missing": "file is gone",
}
CHECKPOINT_FILTER = "Checkpoints (*.safetensors *.pth *.pt *.ckpt *.bin);;All files (*)"
_DETAILS_MIN_HEIGHT_PX = 120
_TABLE_MIN_WIDTH_PX = 380
_ROW_HEIGHT_PX = 24


class ModelsWidget(QWidget):
    """Table of models, what is known of the chosen one, and buttons; slow work runs on another thread.

    Emits `changed` when a model has become usable, or has gone.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[ModelStatus, ...] = ()
        self._job: Job | None = None
        self.table = _table()
        self.details = parts.text("The chosen model", rich=True)
        self.details.setMinimumHeight(_DETAILS_MIN_HEIGHT_PX)
        self.status = parts.text("What happened last", rich=True)
        self.bar = QProgressBar()
        self.download = parts.button("Download", "Fetch the chosen model and verify it.", self._download)
        self.cancel = parts.button("Cancel", "Stop; what has arrived is kept for the next try.", self._stop)
        self.verify = parts.button("Verify", "Compare the file with what was published, or load it.", self._verify)
        self.add = parts.button("Add my own ...", "Offer a checkpoint file of yours beside these.", self._choose_file)
        self.forget = parts.button("Forget", "Take your file off this list; the file itself stays.", self._forget)
        self._lay_out()
        self.table.itemSelectionChanged.connect(self._show_chosen)
        # By object, not by method: this widget is half gone when Qt tells it.
        self.destroyed.connect(partial(_abandon, self.__dict__))
        self.refresh()

    @property
    def chosen(self) -> ModelStatus | None:
        """The row that is selected."""
        row = self.table.currentRow()
        return self._rows[row] if 0 <= row < len(self._rows) else None

    def refresh(self) -> None:
        """Look again which models are on this machine; the choice stays."""
        before = None if self.chosen is None else _key(self.chosen)
        try:
            self._rows = list_models()
            self._rows = (*self._rows, *list_own_models())
        except CheckpointError as error:
            self._fail(str(error))
        _fill(self.table, self._rows)
        keys = [_key(row) for row in self._rows]
        if keys:
            self.table.selectRow(keys.index(before) if before in keys else 0)
        self._show_chosen()

    def choose(self, name: str) -> None:
        """Select the first model of that name."""
        self.table.selectRow([row.name for row in self._rows].index(name))

    def add_file(self, path: str | Path) -> None:
        """Check a checkpoint file and, if it is one, put it on the list."""
        self._start(
            lambda progress, should_stop: add_own_model(path),
            f"Reading {Path(path).name}",
            lambda own: self._say(f"Added {own.path} ({own.about})."),
        )

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.addWidget(self.table, stretch=1)
        layout.addWidget(self.details)
        for buttons in ((self.download, self.cancel, self.verify), (self.add, self.forget)):
            row = QHBoxLayout()
            for button in buttons:
                row.addWidget(button)
            layout.addLayout(row)
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        self.bar.hide()

    def _show_chosen(self) -> None:
        row = self.chosen
        self.details.setText("" if row is None else describe(row))
        idle = self._job is None
        # Also what is here can be fetched: a damaged file is replaced, a sound one is left as it is.
        self.download.setEnabled(idle and row is not None and row.where in ("not downloaded", "cache"))
        self.verify.setEnabled(idle and row is not None and row.path is not None and row.path.is_file())
        self.forget.setEnabled(idle and row is not None and _is_own(row))
        self.add.setEnabled(idle)
        self.cancel.setEnabled(not idle)

    def _download(self) -> None:
        row = self.chosen
        if row is not None:
            work = partial(download_model, row.name)
            self._start(work, f"Downloading {row.name}", lambda path: self._say(f"{row.name} is here: {path}"))

    def _verify(self) -> None:
        row = self.chosen
        if row is not None:
            self._start(lambda progress, should_stop: verify_model(row), f"Verifying {row.name}", self._tell_verdict)

    def _tell_verdict(self, verdict: Verification) -> None:
        if verdict.ok:
            self._say(f"{verdict.name} is as it should be. {verdict.message}")
        else:
            self._fail(f"{verdict.name} is not as it should be. {verdict.message}")

    def _choose_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Add a checkpoint of your own", "", CHECKPOINT_FILTER)
        if path:
            self.add_file(path)

    def _forget(self) -> None:
        row = self.chosen
        if row is None or row.path is None:
            return
        try:
            forget_own_model(row.path)
        except CheckpointError as error:
            self._fail(str(error))
            return
        self._say(f"{row.name} is off the list; the file {row.path} is where it was.")
        self._end()

    def _start(self, work: Work, title: str, done: Callable[[Any], None]) -> None:
        if self._job is not None:
            return
        told = partial(self._advance, title)
        self._job = Job(work, description=title, told=told, done=done, failed=self._explain, closed=self._end)
        self.bar.setRange(0, 0)
        self.bar.show()
        self._say(f"{title} ...")
        self._show_chosen()
        self._job.start()

    def _advance(self, title: str, _: str, done: int, total: int) -> None:
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        of = f" of {size_text(total * 1000)}" if total else ""
        self._say(f"{title}: {size_text(done * 1000)}{of}")

    def _explain(self, error: Exception) -> None:
        if is_offline(error):
            self._fail(
                f"This machine is offline, or the server cannot be reached. {error}\nModels that are on this machine "
                f"work without a network. A file fetched elsewhere can be put into {checkpoint_cache_dir()}."
            )
        else:
            self._fail(str(error))

    def _stop(self) -> None:
        if self._job is not None:
            self._job.stop()
            self._say("Stopping ...")

    def _end(self) -> None:
        if self._job is not None and self._job.is_stopping:
            self._say("Stopped. What has arrived is kept; the next download goes on from there.")
        self._job = None
        self.bar.hide()
        self.refresh()
        self.changed.emit()

    def _say(self, text: str) -> None:
        self.status.setText(html.escape(text))

    def _fail(self, text: str) -> None:
        # Bold, not red: readable in every theme.
        self.status.setText("<b>Problem.</b> " + html.escape(text).replace("\n", "<br>"))


def describe(row: ModelStatus) -> str:
    """What is known of a model, as rich text of a few lines."""
    size = "not published" if row.size_bytes is None else size_text(row.size_bytes)
    where = str(row.path) if row.path is not None else f"not here; would be put into {checkpoint_cache_dir()}"
    checked = f"{row.hash_kind} of the published file" if row.hash_kind else "loading it"
    lines = {
        "Good at": row.good_at,
        "Size": size,
        "Licence": row.licence,
        "File": where if row.where != "missing" else f"{where} (gone)",
        "Verified by": checked,
    }
    told = "<br>".join(f"{name}: {html.escape(text)}" for name, text in lines.items())
    return f"<b>{html.escape(row.name)}</b><br>{told}"


def _cells(row: ModelStatus) -> tuple[str, ...]:
    size = "?" if row.size_bytes is None else size_text(row.size_bytes)
    return row.name, size, HERE[row.where], row.good_at, row.licence.split(" (")[0].split(";")[0]


def _fill(table: QTableWidget, rows: Sequence[ModelStatus]) -> None:
    table.setRowCount(len(rows))
    for y, row in enumerate(rows):
        for x, text in enumerate(_cells(row)):
            item = QTableWidgetItem(text)
            item.setToolTip(text)
            table.setItem(y, x, item)


def _table() -> QTableWidget:
    table = QTableWidget(0, len(COLUMNS))
    table.setHorizontalHeaderLabels(list(COLUMNS))
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setWordWrap(False)
    table.verticalHeader().hide()
    table.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT_PX)
    table.setMinimumWidth(_TABLE_MIN_WIDTH_PX)
    # The last columns are wide: their names are to be seen before one scrolls.
    table.horizontalHeader().setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    return table


def _key(row: ModelStatus) -> tuple[str, Path | None]:
    return row.name, row.path if _is_own(row) else None


def _is_own(row: ModelStatus) -> bool:
    return row.path is not None and row.where in ("own file", "missing")


def _abandon(state: dict[str, Any], *_: object) -> None:
    if state["_job"] is not None:
        state["_job"].abandon()
