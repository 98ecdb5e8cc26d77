"""Judge a model on a folder of images with known labels."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ConfigError, TrainingError
from napari_sam.evaluation import (
    CLICK_GOALS,
    MAX_CLICKS,
    REPORTED_CLICKS,
    ObjectScores,
    find_overlaps,
    iter_object_scores,
    match_all,
)
from napari_sam.model import SamModel, load_model
from napari_sam.predict import AutoMaskConfig, preset_config
from napari_sam.tiling import TilingConfig
from napari_sam.training.data import Sample, read_pair
from napari_sam.workflows.evaluating.config import EvaluateConfig
from napari_sam.workflows.evaluating.data import JudgedPair, judged_pairs
from napari_sam.workflows.evaluating.report import check_report_folder, write_report
from napari_sam.workflows.evaluating.scores import EvaluationReport, ImageScores
from napari_sam.workflows.planning import resolved_tiling
from napari_sam.workflows.segmentation import segment_array


def evaluate(
    folder: str | os.PathLike[str],
    model: str | os.PathLike[str] | SamModel = "nano",
    *,
    device: str = "auto",
    config: EvaluateConfig | None = None,
    automatic: AutoMaskConfig | Mapping[str, Any] | None = None,
    tiling: TilingConfig | None = None,
    report: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> EvaluationReport:
    """Measure a model on images whose objects are known.

    Points are the paper's single-point protocol and further clicks (section 7.1); automatic masks go the same way as in
    :func:`napari_sam.segment`, tiles and merge included. `docs/evaluation.md` says what each figure means.

    Parameters
    ----------
    folder : path
        Pairs of images and labels, see :func:`napari_sam.training.data.find_pairs`, or subfolders with data sets.
    model : str, path or SamModel
    device : str
    config : EvaluateConfig, optional
    automatic : AutoMaskConfig or mapping of its fields, optional
        A whole configuration, or what differs from what the model recommends.
    tiling : TilingConfig, optional
        As of :func:`napari_sam.segment`.
    report : path, optional
        Folder for `report.md` with plots and pictures of the best, median and worst cases, `images.csv`,
        `objects.csv` and `figures.json`; made if missing.
    progress : function (stage, done, total), optional

    Raises
    ------
    TrainingError
        If the folder or a pair cannot be used.
    CheckpointError, ConfigError
        As of :func:`napari_sam.load_model`, or for a grouping column that is not in the manifest.
    OutputError
        If the report cannot be written.
    """
    config = config or EvaluateConfig()
    if config.untiled and tiling is not None and (tiling.core_px, tiling.halo_px) != (None, None):
        raise ConfigError("untiled shows each image whole: give no core_px and halo_px, or leave untiled out.")
    if report is not None:
        check_report_folder(Path(report))
    pairs, skipped = judged_pairs(
        Path(folder), group_by=config.group_by, max_images=config.max_images, skip_bad=config.skip_bad
    )
    loaded = model if isinstance(model, SamModel) else load_model(model, device=device)
    if not isinstance(automatic, AutoMaskConfig):
        automatic = preset_config(None, defaults=loaded.automatic_defaults, overrides=automatic)
    judge = _Judge(loaded, config, automatic, tiling or TilingConfig())
    images = []
    for done, (pair, sample) in enumerate(_read(pairs, skipped, skip_bad=config.skip_bad)):
        if progress is not None:
            progress("images", done, len(pairs))
        images.append(judge.scores_of(pair, sample))
    if progress is not None:
        progress("images", len(pairs), len(pairs))
    measured = EvaluationReport(
        loaded.name, images, config.tasks, config.group_by, _settings(folder, loaded, judge), skipped
    )
    if report is not None:
        write_report(measured, Path(report), loaded, judge.segment)
    return measured


def _read(
    pairs: Iterable[JudgedPair], skipped: dict[str, str], *, skip_bad: bool
) -> Iterator[tuple[JudgedPair, Sample]]:
    """The pixels, pair by pair; damage that only reading shows goes into `skipped`, if that is wanted."""
    any_read = False
    for judged in pairs:
        try:
            sample = read_pair(judged.pair)
        except TrainingError as error:
            if not skip_bad:
                raise
            skipped[judged.name] = str(error)
            continue
        any_read = True
        yield judged, sample
    if not any_read:
        raise TrainingError(f"none of the pairs can be judged, the first: {next(iter(skipped.values()))}")


@dataclass(frozen=True, slots=True, eq=False)
class _Judge:
    """A model and how it is asked."""

    model: SamModel
    config: EvaluateConfig
    automatic: AutoMaskConfig
    tiling: TilingConfig

    def scores_of(self, judged: JudgedPair, sample: Sample) -> ImageScores:
        """Everything that is to be measured on one image."""
        matchings, seconds = None, 0.0
        if "automatic" in self.config.tasks:
            started = time.perf_counter()
            found = self.segment(sample.image)
            seconds = time.perf_counter() - started
            matchings = match_all(find_overlaps(sample.labels, found))
        objects = tuple(self._objects_of(sample, judged.name))
        return ImageScores(judged, sample.labels.size / 1e6, objects, matchings, seconds)

    def segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint32]:
        """The label image (H, W) of automatic masks."""
        whole = TilingConfig(core_px=max(image.shape[:2]), halo_px=0)
        return segment_array(
            image, self.model, automatic=self.automatic, tiling=whole if self.config.untiled else self.tiling
        )

    def _objects_of(self, sample: Sample, name: str) -> Iterable[ObjectScores]:
        config, tasks, labels = self.config, self.config.tasks, sample.labels
        if set(tasks) == {"automatic"}:
            return ()
        # By name and not by number, so that an image is asked the same whichever others are judged.
        seed = (config.seed, zlib.crc32(name.encode()))
        if config.max_objects is not None:
            ids = np.unique(labels[labels > 0])
            chosen = np.random.default_rng(seed).permutation(ids)[: config.max_objects]
            labels = np.where(np.isin(labels, chosen), labels, 0)
        return iter_object_scores(
            self.model,
            sample.image,
            labels,
            clicks=max(REPORTED_CLICKS) if "points" in tasks else int("clicks" in tasks),
            max_clicks=MAX_CLICKS if "clicks" in tasks else 0,
            goal=max(CLICK_GOALS),
            random_draws=config.random_draws if "points" in tasks else 0,
            boxes="boxes" in tasks,
            seed=seed,
        )


def _settings(folder: str | os.PathLike[str], model: SamModel, judge: _Judge) -> dict[str, Any]:
    return {
        "folder": os.fspath(folder),
        "model_sha256": model.fingerprint,
        **asdict(judge.config),
        "automatic": asdict(judge.automatic),
        "tiling": None if judge.config.untiled else asdict(resolved_tiling(judge.tiling, model, judge.automatic)),
    }
