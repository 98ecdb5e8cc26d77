"""How good automatic masks are: their IoU with what people made of them (paper, section 5, "mask quality")."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.annotate.events import Event, Prefilled, Redone, Undone
from napari_sam.annotate.journal import read_journal
from napari_sam.annotate.prompts import Plane
from napari_sam.annotate.replaying import Replayed, replay
from napari_sam.annotate.state import is_unplanned
from napari_sam.errors import JournalError
from napari_sam.evaluation.intervals import bootstrap_interval
from napari_sam.geometry import Mask, mask_iou
from napari_sam.tiling.writing import write_bytes
from napari_sam.workflows.datasets.plots import share_plot

THRESHOLDS = (0.75, 0.9)
"""The paper reports that 97 % of the pairs have an IoU above the first and 94 % above the second."""
BINS = 20


@dataclass(frozen=True, slots=True)
class MaskPair:
    """An automatic mask, and what became of it."""

    journal: str
    label: int
    plane: str
    predicted_iou: float
    verdict: str
    """"accepted", "fixed" or "rejected" in review; "changed" without review; "removed" if it is no longer there."""
    iou: float
    """Of the automatic mask with the final one; 0 for one that was removed."""


@dataclass(frozen=True, slots=True)
class MaskQuality:
    """The pairs of some journals."""

    pairs: tuple[MaskPair, ...]
    unseen: int
    """Automatic masks that no one has looked at: neither reviewed nor changed."""

    def kept(self) -> list[MaskPair]:
        """Pairs of which there is a final mask that a person stands for: what the paper's study compares."""
        return [pair for pair in self.pairs if pair.verdict not in ("removed", "rejected")]

    def summary(self) -> dict[str, Any]:
        """Mean IoU and the parts above `THRESHOLDS`, with 95 % intervals over journals."""
        kept = self.kept()
        clusters = [pair.journal for pair in kept]
        numbers = np.unique(clusters, return_inverse=True)[1].tolist() if kept else []
        figures: dict[str, Any] = {
            "pairs": len(kept),
            "removed": sum(pair.verdict == "removed" for pair in self.pairs),
            "rejected": sum(pair.verdict == "rejected" for pair in self.pairs),
            "unseen": self.unseen,
        }
        columns = {"mean_iou": [pair.iou for pair in kept]}
        columns |= {f"above_{t:.2f}": [float(pair.iou > t) for pair in kept] for t in THRESHOLDS}
        for name, values in columns.items():
            figures[name] = float(np.mean(values)) if values else None
            figures[f"{name}_ci95"] = bootstrap_interval(values, numbers)
        return figures

    def as_text(self) -> str:
        """The summary as lines to read."""
        figures = self.summary()
        lines = [
            f"{figures['pairs']} automatic masks compared with what people made of them; {figures['removed']} were "
            f"removed, {figures['rejected']} rejected, {figures['unseen']} not looked at"
        ]
        for name in ("mean_iou", *(f"above_{t:.2f}" for t in THRESHOLDS)):
            if figures[name] is not None:
                interval = figures[f"{name}_ci95"]
                told = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
                what = "mean IoU" if name == "mean_iou" else f"IoU above {name[6:]}"
                lines.append(f"{what:16} {figures[name]:.3f}{told}")
        return "\n".join(lines)


def mask_quality(journals: Sequence[str | os.PathLike[str]]) -> MaskQuality:
    """Compare the masks that were prefilled in annotation sessions with those that are there at their end.

    Parameters
    ----------
    journals : sequence of path
        Of sessions that began with automatic masks (semi-automatic or automatic mode, or a review).

    Raises
    ------
    JournalError
        If none is given, one is damaged, or none holds an automatic mask.
    """
    if not journals:
        raise JournalError("no journal was given; name those of the sessions in which automatic masks were corrected.")
    found = [pair for path in journals for pair in _pairs_of(Path(path))]
    if not found:
        raise JournalError(
            "there is no automatic mask in these journals; a study of mask quality needs sessions that began with "
            "prefilled objects."
        )
    seen = tuple(pair for pair in found if pair.verdict != "unseen")
    return MaskQuality(seen, len(found) - len(seen))


def write_quality(quality: MaskQuality, folder: Path) -> list[Path]:
    """Write `pairs.csv`, `quality.json` and, where there are pairs, the histogram `iou.svg` into `folder`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(MaskPair)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(pair) for pair in quality.pairs)
    files = {"pairs.csv": text.getvalue(), "quality.json": json.dumps(quality.summary(), indent=2) + "\n"}
    if kept := quality.kept():
        counts, _ = np.histogram([pair.iou for pair in kept], bins=BINS, range=(0, 1))
        ticks = [f"{i / BINS:.1f}" if i % 4 == 0 else "" for i in range(BINS)]
        files["iou.svg"] = share_plot(
            {f"{len(kept)} masks": counts / len(kept)},
            ticks,
            title="Automatic and corrected masks",
            x_label="IoU of the automatic mask with the corrected one",
            y_label="% of masks",
        )
    for name, content in files.items():
        write_bytes(folder / name, content.encode())
    return [folder / name for name in files]


def _pairs_of(path: Path) -> Iterator[MaskPair]:
    content = read_journal(path)
    result = replay(content)
    try:
        for number in _acts_that_last(content.events):
            event = content.events[number]
            if isinstance(event, Prefilled):
                # Not the masks as they were found: of these the policy may have left only a part.
                begun = replay(content, acts=number + 1)
                try:
                    yield from _pairs_of_event(event, begun, result, str(path))
                finally:
                    begun.labels.close()
    finally:
        result.labels.close()


def _acts_that_last(events: Sequence[Event]) -> list[int]:
    """Numbers of the acts that were not undone in the end."""
    done: list[int] = []
    undone: list[int] = []
    for number, event in enumerate(events):
        if isinstance(event, Undone):
            undone.append(done.pop())
        elif isinstance(event, Redone):
            done.append(undone.pop())
        elif not is_unplanned(event):
            undone.clear()
            done.append(number)
    return sorted(done)


def _pairs_of_event(event: Prefilled, begun: Replayed, result: Replayed, journal: str) -> Iterator[MaskPair]:
    for label, found in zip(event.labels, event.found, strict=True):
        automatic = _mask(begun, label, found.plane)
        if automatic is None:
            continue
        final = _mask(result, label, found.plane)
        iou = 0.0 if final is None else mask_iou(automatic, final)
        verdict = "removed" if final is None else result.objects[label].verdict or ("unseen" if iou == 1 else "changed")
        plane = ",".join(map(str, found.plane))
        yield MaskPair(journal, label, plane, round(found.predicted_iou, 6), verdict, iou)


def _mask(of: Replayed, label: int, plane: Plane) -> Mask | None:
    """The pixels of an object in a plane; None where it has none."""
    known = of.objects.get(label)
    part = None if known is None else known.part(plane)
    return None if part is None else of.labels.mask_of(label, plane, part.extent)
