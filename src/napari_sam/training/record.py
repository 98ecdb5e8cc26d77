"""The log of a training as data (CSV), and as a picture of its curves."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path


class CsvLog:
    """Rows of figures by step; a resumed training goes on after its last saved step."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self._columns = ["step", "minutes", *columns]

    def write(self, step: int, minutes: float, figures: Mapping[str, float]) -> None:
        """Add a row; figures that are no column are left out, missing ones stay empty."""
        row = {"step": step, "minutes": round(minutes, 2), **{k: round(v, 4) for k, v in figures.items()}}
        self._append([row])

    def drop_after(self, step: int) -> None:
        """Take away the rows beyond `step`: their steps are done again."""
        if self.path.is_file():
            rows = [row for row in self.rows() if int(row["step"]) <= step]
            self.path.unlink()
            self._append(rows)

    def rows(self) -> list[dict[str, str]]:
        """What was written so far; a line that a crash cut short is left out."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if None not in row.values() and row["step"].isdigit()]

    def _append(self, rows: Sequence[Mapping[str, object]]) -> None:
        is_new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="", extrasaction="ignore")
            if is_new:
                writer.writeheader()
            writer.writerows(rows)
