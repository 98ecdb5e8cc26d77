"""A measurement as a page to read: Markdown with tables, plots and pictures of the best, median and worst cases."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import imagecodecs

from napari_sam.errors import OutputError
from napari_sam.model import SamModel
from napari_sam.tiling.writing import output_errors, write_bytes
from napari_sam.workflows.evaluating.cases import Case, Segment, automatic_cases, click_cases
from napari_sam.workflows.evaluating.plots import Series, line_plot, row_plot
from napari_sam.workflows.evaluating.scores import EvaluationReport, figure_rows, with_interval

PICTURES = "cases"
"""Subfolder of the pictures."""


def check_report_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to (:class:`OutputError`); asked before the work begins."""
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write into {folder}: it is read-only. Choose a folder you may write to.")


def write_report(report: EvaluationReport, folder: Path, model: SamModel, segment: Segment) -> Path:
    """Write `report.md` with all it shows, `images.csv`, `objects.csv` and `figures.json`.

    Parameters
    ----------
    report : EvaluationReport
    folder : Path
        Made if missing; files of these names in it are replaced.
    model : SamModel
        Asked again about the cases that are shown.
    segment : function
        From an image (H, W, 3) uint8 to the label image of automatic masks.

    Returns
    -------
    Path
        Of `report.md`.

    Raises
    ------
    OutputError
        If something cannot be written.
    """
    report.write_json(folder / "figures.json")
    report.write_csv(folder)
    plots = _plots(report)
    for name, text in plots.items():
        write_bytes(folder / f"{name}.svg", text.encode())
    parts = [
        *_head(report),
        *(f"![{name.replace('_', ' ')}]({name}.svg)\n" for name in plots),
        *_groups(report.figures["groups"], report.group_by),
        *_cases("Automatic masks", AUTOMATIC_TEXT, automatic_cases(report.images, segment), folder),
        *_cases("One click", CLICK_TEXT, click_cases(report.images, model), folder),
        *_left_out(report.skipped),
        *_settings(report.settings),
    ]
    page = folder / "report.md"
    write_bytes(page, "\n".join(parts).encode())
    return page


AUTOMATIC_TEXT = (
    "Images in the order of their mSA. Left the true objects, right the found ones; blue where the two fit at an IoU "
    "of 0.5, orange where an object was missed (left) or is not there (right)."
)
CLICK_TEXT = (
    "Objects in the order of the IoU of their first click (pink). Left the true outline, right the one the model is "
    "most sure of; orange below an IoU of 0.5."
)


def _head(report: EvaluationReport) -> list[str]:
    figures = report.figures
    table = _table(["figure", "value (95 % interval)"], figure_rows(figures))
    return [
        f"# {report.model}: {figures['n_images']} images, {figures['n_objects']} prompted objects\n",
        f"Images of `{report.settings['folder']}`. Every image is in [images.csv](images.csv), every prompted object "
        "in [objects.csv](objects.csv), and all figures are in [figures.json](figures.json).\n",
        *table,
    ]


def _table(head: Sequence[str], rows: Any) -> list[str]:
    lines = [" | ".join(map(_cell, row)) for row in (head, ["---"] * len(head), *rows)]
    return [*(f"| {line} |" for line in lines), ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _plots(report: EvaluationReport) -> dict[str, str]:
    """SVG text by name, of what was measured."""
    figures, plots = report.figures, {}
    if points := figures["points"]:
        kinds = {"first click in the middle": ("miou", "ci95"), "first click at random": ("miou_random", "ci95_random")}
        series = [
            Series(what, [p[value] for p in points.values()], [p[interval] for p in points.values()])
            for what, (value, interval) in kinds.items()
            if value in points["1"]
        ]
        plots["iou_by_clicks"] = line_plot(
            series, list(points), title="IoU by clicks", x_label="clicks", y_label="mean IoU"
        )
    if automatic := figures["automatic"]:
        ap, intervals = automatic["ap"], automatic["ap_ci95"]
        plots["ap_by_threshold"] = line_plot(
            [Series("AP = TP / (TP + FP + FN)", list(ap.values()), list(intervals.values()))],
            list(ap),
            title="Automatic masks",
            x_label="IoU threshold",
            y_label="AP",
        )
    groups = figures["groups"]
    if series := [s for s in _group_series(groups) if s.values]:
        plots["groups"] = row_plot(series, list(groups), title="By group", x_label="mean (95 % interval)")
    return plots


def _group_series(groups: Mapping[str, Any]) -> list[Series]:
    """What every group has of the one-click IoU, the box IoU and the mSA."""
    kinds = {
        "one click": lambda told: (told["points"]["1"]["miou"], told["points"]["1"]["ci95"]),
        "box": lambda told: (told["boxes"]["miou"], told["boxes"]["ci95"]),
        "mSA": lambda told: (told["automatic"]["msa"], told["automatic"]["msa_ci95"]),
    }
    sources = {"one click": "points", "box": "boxes", "mSA": "automatic"}
    series = []
    for what, take in kinds.items():
        if groups and all(told[sources[what]] for told in groups.values()):
            values, intervals = zip(*map(take, groups.values()), strict=True)
            series.append(Series(what, values, intervals))
    return series


def _groups(groups: Mapping[str, Any], column: str | None) -> list[str]:
    if not groups:
        return []
    rows = []
    for name, told in groups.items():
        points, boxes, automatic = told["points"].get("1"), told["boxes"], told["automatic"]
        rows.append(
            [
                name,
                f"{told['n_images']} / {told['n_objects']}",
                with_interval(points["miou"], points["ci95"], 2) if points else "",
                with_interval(boxes["miou"], boxes["ci95"], 2) if boxes else "",
                with_interval(automatic["ap"]["0.50"], automatic["ap_ci95"]["0.50"], 2) if automatic else "",
                with_interval(automatic["msa"], automatic["msa_ci95"], 2) if automatic else "",
            ]
        )
    head = [str(column), "images / objects", "one click, IoU", "box, IoU", "AP at 0.5", "mSA"]
    return [f"## By {column}\n", *_table(head, rows)]


def _cases(title: str, text: str, cases: Sequence[Case], folder: Path) -> list[str]:
    if not cases:
        return []
    lines = [f"## {title}: best, median and worst\n", f"{text}\n"]
    for number, case in enumerate(cases, start=1):
        name = f"{PICTURES}/{title.lower().replace(' ', '_')}_{number}_{case.kind}.png"
        write_bytes(folder / name, bytes(imagecodecs.png_encode(case.picture)))
        lines += [f"**{case.kind}**: {_cell(case.text)}\n", f"![{case.kind}]({name})\n"]
    return lines


def _left_out(skipped: Mapping[str, str]) -> list[str]:
    if not skipped:
        return []
    return ["## Left out\n", *(f"- `{name}`: {reason}" for name, reason in skipped.items()), ""]


def _settings(settings: Mapping[str, Any]) -> list[str]:
    flat = {name: value for name, value in settings.items() if not isinstance(value, Mapping)}
    for part in (name for name, value in settings.items() if isinstance(value, Mapping)):
        flat |= {f"{part}: {name}": value for name, value in settings[part].items()}
    return ["## Settings\n", *_table(["setting", "value"], ([name, str(value)] for name, value in flat.items()))]
