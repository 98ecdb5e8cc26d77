"""Judge a model on a folder of images with known labels."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from napari_sam.errors import ConfigError
from napari_sam.evaluation import (
    Matching,
    ObjectScores,
    find_overlaps,
    iter_object_scores,
    match_all,
    summarise_automatic,
    summarise_boxes,
    summarise_clicks,
    summarise_points,
)
from napari_sam.model import SamModel, load_model
from napari_sam.predict import preset_config
from napari_sam.tiling.store import write_bytes
from napari_sam.tiling.writing import output_errors
from napari_sam.training.data import Pair, Sample, find_pairs, read_pair
from napari_sam.workflows.segmentation import segment_array

Task = Literal["points", "boxes", "automatic", "clicks"]
NOC_CLICKS = 20
POINT_CLICKS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """What is measured."""

    tasks: tuple[Task, ...] = ("points", "boxes", "automatic")
    """points: IoU after 1 to 9 clicks; boxes: IoU from boxes; automatic: AP, mSA, F1, PQ; clicks: how many it takes to
    reach an IoU of 0.85 and of 0.90."""
    group_by: str | None = None
    """Column of the folder's manifest.csv; figures are given for each of its values as well."""
    max_images: int | None = None
    """Judge only so many images, spread evenly over the folder."""
    max_objects: int | None = None
    """Prompt only so many objects of each image, drawn at random."""
    seed: int = 0
    """Of drawn objects and noised boxes."""

    def __post_init__(self) -> None:
        unknown = [task for task in self.tasks if task not in get_args(Task)]
        if unknown or not self.tasks:
            raise ConfigError(f"tasks must be of {', '.join(get_args(Task))}, got {', '.join(unknown) or 'none'}.")
        for name in ("max_images", "max_objects"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ConfigError(f"{name} must be at least 1, got {number}; leave it out for all.")


@dataclass(frozen=True, eq=False)
class ImageScores:
    """Everything that was measured on one image."""

    name: str
    group: str
    megapixels: float
    objects: Sequence[ObjectScores]
    matchings: Mapping[float, Matching] | None
    seconds: float


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """What `evaluate` measured."""

    model: str
    images: Sequence[ImageScores]
    config: EvaluateConfig

    @cached_property
    def figures(self) -> dict[str, Any]:
        """All figures, as the JSON file has them."""
        groups = sorted({image.group for image in self.images})
        whole = {"model": self.model, "n_images": len(self.images), **self._figures(self.images)}
        by_group = {g: self._figures([image for image in self.images if image.group == g]) for g in groups}
        return whole | {"groups": by_group if self.config.group_by is not None else {}}

    def _figures(self, images: Sequence[ImageScores]) -> dict[str, Any]:
        scores = [score for image in images for score in image.objects]
        tasks = self.config.tasks
        matchings = [dict(image.matchings) for image in images if image.matchings is not None]
        return {
            "points": summarise_points(scores) if "points" in tasks else {},
            "boxes": summarise_boxes(scores) if "boxes" in tasks else {},
            "automatic": summarise_automatic(
                matchings, seconds=sum(i.seconds for i in images), megapixels=sum(i.megapixels for i in images)
            ),
            "clicks": summarise_clicks(scores) if "clicks" in tasks else {},
        }

    def as_text(self) -> str:
        """The main figures as lines for a terminal."""
        groups = {"all images": self.figures, **self.figures["groups"]}
        return "\n".join(f"{name}\n{_lines(figures)}" for name, figures in groups.items())

    def write_json(self, path: str | os.PathLike[str]) -> Path:
        """Write the figures; OutputError if that fails."""
        target = Path(path)
        with output_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(target, json.dumps(self.figures, indent=1).encode())
        return target


def evaluate(
    folder: str | os.PathLike[str],
    model: str | os.PathLike[str] | SamModel = "nano",
    *,
    device: str = "auto",
    config: EvaluateConfig | None = None,
    automatic: Mapping[str, Any] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> EvaluationReport:
    """Measure a model on images whose objects are known.

    Points are the paper's single-point protocol and further clicks (section 7.1); automatic masks go the same way as in
    :func:`napari_sam.segment`, tiles and merge included.

    Parameters
    ----------
    folder : path
        Pairs of images and labels, see :func:`napari_sam.training.data.find_pairs`.
    model : str, path or SamModel
    device : str
    config : EvaluateConfig, optional
    automatic : mapping, optional
        Fields of AutoMaskConfig that differ from what the model recommends.
    progress : function (stage, done, total), optional

    Raises
    ------
    TrainingError
        If the folder or a pair cannot be used.
    CheckpointError, ConfigError
        As of :func:`napari_sam.load_model`, or for a grouping column that is not in the manifest.
    """
    config = config or EvaluateConfig()
    loaded = model if isinstance(model, SamModel) else load_model(model, device=device)
    pairs = find_pairs(folder)
    groups = _groups(Path(folder), pairs, config.group_by)
    if config.max_images is not None and config.max_images < len(pairs):
        chosen = np.linspace(0, len(pairs) - 1, config.max_images).astype(int)
        pairs = [pairs[i] for i in chosen]
    images = []
    for done, pair in enumerate(pairs):
        if progress is not None:
            progress("images", done, len(pairs))
        images.append(_scores_of(loaded, pair, groups[pair.image], config, automatic or {}))
    if progress is not None:
        progress("images", len(pairs), len(pairs))
    return EvaluationReport(loaded.name, images, config)


def _scores_of(
    model: SamModel, pair: Pair, group: str, config: EvaluateConfig, automatic: Mapping[str, Any]
) -> ImageScores:
    sample = read_pair(pair)
    matchings, seconds = None, 0.0
    if "automatic" in config.tasks:
        started = time.perf_counter()
        settings = preset_config(None, defaults=model.automatic_defaults, overrides=automatic)
        found = segment_array(sample.image, model, automatic=settings)
        seconds = time.perf_counter() - started
        matchings = match_all(find_overlaps(sample.labels, found))
    return ImageScores(
        pair.name, group, sample.labels.size / 1e6, tuple(_objects_of(model, sample, config)), matchings, seconds
    )


def _objects_of(model: SamModel, sample: Sample, config: EvaluateConfig) -> Iterable[ObjectScores]:
    clicks = NOC_CLICKS if "clicks" in config.tasks else POINT_CLICKS if "points" in config.tasks else 0
    if not clicks and "boxes" not in config.tasks:
        return ()
    labels = sample.labels
    if config.max_objects is not None:
        ids = np.unique(labels[labels > 0])
        chosen = np.random.default_rng(config.seed).permutation(ids)[: config.max_objects]
        labels = np.where(np.isin(labels, chosen), labels, 0)
    return iter_object_scores(
        model, sample.image, labels, clicks=max(clicks, 1), boxes="boxes" in config.tasks, seed=config.seed
    )


def _groups(folder: Path, pairs: Sequence[Pair], column: str | None) -> dict[Path, str]:
    """The group of each image, by path: a column of the manifest, or what the pairs themselves say."""
    manifest = folder / "manifest.csv"
    if column is None or not manifest.is_file():
        if column is not None:
            raise ConfigError(f"group_by = {column!r} needs a manifest.csv in {folder}; there is none.")
        return {pair.image: pair.group for pair in pairs}
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and column not in rows[0]:
        raise ConfigError(f"{manifest} has no column {column!r}; it has {', '.join(rows[0])}.")
    return {folder / row["file"]: row[column] for row in rows}


def _lines(figures: Mapping[str, Any]) -> str:
    lines = [f"  IoU after {n} click{'s' if n != '1' else ''}: {v['miou']:.3f}" for n, v in figures["points"].items()]
    if figures["boxes"]:
        lines.append(f"  IoU from a box: {figures['boxes']['miou']:.3f}")
    if automatic := figures["automatic"]:
        ap = automatic["ap"]
        lines.append(f"  automatic: AP at 0.5 {ap['0.50']:.3f}, at 0.75 {ap['0.75']:.3f}, mSA {automatic['msa']:.3f}")
    lines += [f"  clicks to IoU {name[3:]} %: {value:.1f}" for name, value in figures["clicks"].items()]
    return "\n".join(lines)
