"""What a measurement gives: scores of images and objects, and the figures made of them, as JSON, CSV and text."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam import __version__
from napari_sam.evaluation import (
    AT_HALF,
    CLICK_GOALS,
    IOU_THRESHOLDS,
    Matching,
    ObjectScores,
    clicks_to,
    mean_segmentation_accuracy,
    summarise_automatic,
    summarise_boxes,
    summarise_clicks,
    summarise_points,
)
from napari_sam.tiling.writing import output_errors, write_bytes
from napari_sam.workflows.evaluating.data import JudgedPair

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class ImageScores:
    """Everything that was measured on one image."""

    judged: JudgedPair
    megapixels: float
    objects: Sequence[ObjectScores]
    matchings: Mapping[float, Matching] | None
    """At each IoU threshold; None if automatic masks were not asked for."""
    seconds: float
    """Of the automatic masks."""

    @property
    def name(self) -> str:
        """The image's path below the folder, without its ending."""
        return self.judged.name

    @property
    def group(self) -> str:
        """What it is counted under."""
        return self.judged.group

    @property
    def msa(self) -> float:
        """Mean segmentation accuracy; NaN without automatic masks."""
        return math.nan if self.matchings is None else mean_segmentation_accuracy(self.matchings)


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """What `evaluate` measured."""

    model: str
    images: Sequence[ImageScores]
    tasks: Sequence[str]
    group_by: str | None
    settings: Mapping[str, Any]
    """What was asked, for whoever wants to repeat it."""
    skipped: Mapping[str, str]
    """Pairs that were left out, and why."""

    @cached_property
    def figures(self) -> dict[str, Any]:
        """All figures, as the JSON file has them."""
        groups = sorted({image.group for image in self.images}) if self.group_by is not None else []
        return {
            "model": self.model,
            **self._figures(self.images),
            "groups": {g: self._figures([image for image in self.images if image.group == g]) for g in groups},
            "skipped": dict(self.skipped),
            "settings": dict(self.settings),
            "version": __version__,
        }

    def _figures(self, images: Sequence[ImageScores]) -> dict[str, Any]:
        scores = [image.objects for image in images]
        judged = [image for image in images if image.matchings is not None]
        return {
            "n_images": len(images),
            "n_objects": sum(map(len, scores)),
            "points": summarise_points(scores) if "points" in self.tasks else {},
            "boxes": summarise_boxes(scores) if "boxes" in self.tasks else {},
            "automatic": summarise_automatic(
                [image.matchings for image in judged if image.matchings is not None],
                seconds=sum(image.seconds for image in judged),
                megapixels=sum(image.megapixels for image in judged),
            ),
            "clicks": summarise_clicks(scores) if "clicks" in self.tasks else {},
        }

    def as_text(self) -> str:
        """The main figures as lines for a terminal."""
        groups = {"all images": self.figures, **self.figures["groups"]}
        return "\n".join(f"{name} ({told['n_images']})\n{_lines(told)}" for name, told in groups.items())

    def image_rows(self) -> list[Row]:
        """One row an image, as in `images.csv`."""
        return [_image_row(image) for image in self.images]

    def object_rows(self) -> list[Row]:
        """One row a prompted object, as in `objects.csv`."""
        return [_object_row(image, scores) for image in self.images for scores in image.objects]

    def write_json(self, path: str | os.PathLike[str]) -> Path:
        """Write the figures; OutputError if that fails."""
        return _write(Path(path), json.dumps(self.figures, indent=1))

    def write_csv(self, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
        """Write `images.csv` and `objects.csv`; OutputError if that fails."""
        images, objects = (Path(folder) / name for name in ("images.csv", "objects.csv"))
        return _write(images, _csv(self.image_rows())), _write(objects, _csv(self.object_rows()))


def _image_row(image: ImageScores) -> Row:
    row: Row = {
        "image": image.name,
        "group": image.group,
        "megapixels": round(image.megapixels, 6),
        "prompted_objects": len(image.objects),
    }
    row |= _object_means(image.objects)
    if image.matchings is not None:
        half = image.matchings[0.5]
        row |= {"true_objects": half.true_count, "found_objects": half.found_count}
        row |= {f"ap_{t:.2f}": image.matchings[t].average_precision for t in IOU_THRESHOLDS}
        row |= {"msa": image.msa, **{name: value(half) for name, value in AT_HALF.items()}}
        row |= {"seconds": round(image.seconds, 3)}
    return row


def _object_means(objects: Sequence[ObjectScores]) -> Row:
    """Means over the objects of one image, for what was asked about them."""
    means: dict[str, Callable[[ObjectScores], float]] = {
        "one_click": lambda s: s.clicks[0] if s.clicks else math.nan,
        "one_click_oracle": lambda s: s.oracle,
        "box": lambda s: s.box,
        "noised_box": lambda s: s.noised_box,
    }
    told = {name: float(np.mean([value(s) for s in objects])) if objects else math.nan for name, value in means.items()}
    return {name: "" if math.isnan(value) else value for name, value in told.items()}


def _object_row(image: ImageScores, scores: ObjectScores) -> Row:
    place = scores.place
    row: Row = {"image": image.name, "group": image.group, "label": scores.label, "area_px": scores.area_px}
    row |= {"y0": place.y0, "x0": place.x0, "y1": place.y1, "x1": place.x1}
    if scores.clicks:
        row |= {"oracle": scores.oracle}
        row |= {f"click_{n}": iou for n, iou in enumerate(scores.clicks, start=1)}
        row |= {f"noc{round(100 * goal)}": clicks_to(scores, goal) for goal in CLICK_GOALS}
    for number, draw in enumerate(scores.random_clicks, start=1):
        row |= {f"random_{number}_click_{n}": iou for n, iou in enumerate(draw, start=1)}
    if not math.isnan(scores.box):
        row |= {"box": scores.box, "noised_box": scores.noised_box}
    return row


def _csv(rows: Sequence[Row]) -> str:
    """Columns in the order in which they first come; some rows have more clicks than others."""
    names = list(dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({n: f"{v:.5f}" if isinstance(v, float) else v for n, v in row.items()} for row in rows)
    return text.getvalue()


def _write(path: Path, text: str) -> Path:
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text.encode())
    return path


def with_interval(value: float, interval: Sequence[float] | None, digits: int = 3) -> str:
    """A figure as people read it.

    Examples
    --------
    >>> with_interval(0.5, [0.42, 0.578])
    '0.500 (0.420 to 0.578)'
    """
    told = "" if interval is None else f" ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"
    return f"{value:.{digits}f}{told}"


def figure_rows(figures: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """The main figures of a whole or a group: what it is, and the figure with its interval."""
    for n, told in figures["points"].items():
        clicks = f"{n} click{'s' if n != '1' else ''}"
        yield f"IoU after {clicks}", with_interval(told["miou"], told["ci95"])
        if "miou_oracle" in told:
            yield "IoU, best of the first click's three masks", with_interval(told["miou_oracle"], told["ci95_oracle"])
    for n, told in figures["points"].items():
        if "miou_random" in told:
            clicks = f"{n} click{'s' if n != '1' else ''}"
            yield f"IoU after {clicks}, begun at random", with_interval(told["miou_random"], told["ci95_random"])
    if told := figures["boxes"]:
        yield "IoU from a box", with_interval(told["miou"], told["ci95"])
        yield "IoU from a noised box", with_interval(told["miou_noised"], told["ci95_noised"])
    if told := figures["automatic"]:
        for t in ("0.50", "0.75"):
            yield f"automatic: AP at IoU {t}", with_interval(told["ap"][t], told["ap_ci95"][t])
        yield "automatic: mSA (mean AP, 0.50 to 0.95)", with_interval(told["msa"], told["msa_ci95"])
        for name, what in AUTOMATIC_NAMES.items():
            yield f"automatic: {what}", with_interval(told[name], told[f"{name}_ci95"])
        yield "automatic: seconds a megapixel", f"{told['seconds_per_megapixel']:.2f}"
    for goal in (f"{round(100 * goal)}" for goal in CLICK_GOALS):
        if told := figures["clicks"]:
            yield f"clicks to IoU 0.{goal}", with_interval(told[f"noc{goal}"], told[f"ci95_{goal}"], 2)
            yield f"objects that never reach 0.{goal}", f"{told[f'failed{goal}']:.1%}"


AUTOMATIC_NAMES = {
    "f1": "F1 at 0.50",
    "pq": "PQ",
    "precision": "precision at 0.50",
    "recall": "recall at 0.50",
    "count_error": "count error",
}


def _lines(figures: Mapping[str, Any]) -> str:
    return "\n".join(f"  {what}: {value}" for what, value in figure_rows(figures))
