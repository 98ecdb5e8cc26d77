"""*Retrain on what I verified*: a model goes on learning from a session, and is judged on objects it never saw."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.annotate.session import AnnotationSession
from napari_sam.errors import ConfigError, OutputError, RunInterrupted
from napari_sam.evaluation import iter_object_scores
from napari_sam.evaluation.intervals import bootstrap_interval
from napari_sam.model import SamModel, load_model
from napari_sam.model.own_models import add_own_model
from napari_sam.tiling.writing import output_errors
from napari_sam.workflows.annotating.preferences import user_data_dir
from napari_sam.workflows.annotating.session_pairs import verified_of
from napari_sam.workflows.annotating.verified import (
    SPARSE,
    Division,
    Verified,
    Window,
    divide,
    read_judged,
    write_pairs,
)
from napari_sam.workflows.stages import StageProgress
from napari_sam.workflows.training import train


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainConfig:
    """How a model goes on learning from what was verified."""

    minutes: float = 4.0
    """Training time; judging before and after comes on top."""
    held_back: float = 0.2
    """Share of the verified objects that is held back from training, to judge the model by."""
    judged: int = 60
    """Objects judged, at most, before and after."""
    seed: int = 0
    """Of what is held back, and of the training."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Fields of TrainConfig that are to differ from what is usual for fine-tuning."""

    def __post_init__(self) -> None:
        if not 0 < self.held_back < 1:
            raise ConfigError(f"held_back must lie in (0, 1), got {self.held_back}; 0.2 is usual.")
        if not self.minutes > 0 or self.judged < 1:
            raise ConfigError(f"minutes and judged must be above 0, got {self.minutes} and {self.judged}.")


@dataclass(frozen=True, slots=True)
class Judgement:
    """How well a model segments the objects that were held back: mean IoU."""

    one_click: float
    """From one click in the middle, the mask the model itself rates best."""
    box: float
    """From the exact box."""
    objects: int


@dataclass(frozen=True, slots=True)
class Retrained:
    """What a retraining came to."""

    path: Path
    """The new model; `load_model` takes it, and it is among the user's own models."""
    before: Judgement
    after: Judgement
    one_click_gain: tuple[float, float] | None
    """95 % interval (bootstrap over windows) of the mean gain in one-click IoU; None of a single object."""
    taught: int
    """Objects it learned from."""
    windows: dict[str, int]
    """Windows with all objects labelled ("exhaustive"), and with some ("sparse")."""

    @property
    def is_better(self) -> bool:
        """Whether the mean of both figures rose on the objects that were held back."""
        return self.after.one_click + self.after.box > self.before.one_click + self.before.box


def retrain(
    verified: Verified | AnnotationSession | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] = "nano",
    config: RetrainConfig | Mapping[str, Any] | None = None,
    device: str = "auto",
    register: bool = True,
    progress: StageProgress = lambda stage, done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Retrained:
    """Let a model go on learning from what was verified, and judge it before and after on objects held back.

    The image around verified objects is written as windows of the model's frame to `output` + ".run", together with the
    state of the training: the same call with the same objects goes on from there, one with others begins anew. Only
    windows inside places where everything is labelled teach what background is; elsewhere an unlabelled pixel may be an
    object that nobody came to yet.

    Parameters
    ----------
    verified : Verified, AnnotationSession or path of a journal
        See :func:`~napari_sam.workflows.annotating.session_pairs.verified_of`. For another thread, take
        `verified_of(session)` first.
    output : path
        NAME.safetensors, which must not exist.
    model : name or path
        The model to go on from.
    config : RetrainConfig or mapping of its fields, optional
    device : str
        "auto", "cpu", "cuda" or "mps".
    register : bool
        Put the new model among the user's own, so that it can be chosen at once.
    progress : function (stage, done, total)
        The stages: "before" and "after" count objects judged, "training" seconds.
    should_stop : function
        Asked every few steps.

    Returns
    -------
    Retrained
        Also written as JSON beside the model. The new model is kept and registered if it is worse, too: `is_better`.

    Raises
    ------
    TrainingError
        If too little is verified.
    ConfigError, CheckpointError, OutputError, JournalError
        If settings, model, output or journal cannot be used.
    RunInterrupted
        After `should_stop` or Ctrl-C; what is learned is kept.
    """
    settings = config if isinstance(config, RetrainConfig) else RetrainConfig(**(config or {}))
    target = _checked(Path(output))
    known = verified if isinstance(verified, Verified) else verified_of(verified)
    try:
        return _retrain(known, target, model, settings, device, register, progress, should_stop)
    finally:
        if isinstance(verified, str | os.PathLike):  # replayed here
            known.labels.close()


def _retrain(
    known: Verified,
    target: Path,
    model: str | os.PathLike[str],
    settings: RetrainConfig,
    device: str,
    register: bool,
    progress: StageProgress,
    should_stop: Callable[[], bool],
) -> Retrained:
    former = load_model(model, device)
    division = divide(known, former.config.image_size, held_back=settings.held_back, seed=settings.seed)
    folder = target.with_name(f"{target.name}.run")
    with output_errors(folder):
        windows = _prepared(folder, known, division, former, settings)
    # Before the training: objects may be edited while it runs.
    judged = _held_back(known, division.judge, settings)
    before = _judge(former, judged, "before", progress, should_stop)
    trained = _train(folder, model, windows, settings, device, progress, should_stop)
    after = _judge(load_model(trained, device), judged, "after", progress, should_stop)
    result = Retrained(target, _mean(before), _mean(after), _gain(before, after), division.n_teach, windows)
    with output_errors(target):
        _write_report(result, model, settings)
        os.replace(trained, target)
    if register:
        add_own_model(target)
    shutil.rmtree(folder, ignore_errors=True)
    return result


def new_model_path(model: str | os.PathLike[str], image_name: str) -> Path:
    """A free name for a model retrained on an image, in the user's data: MODEL-IMAGE.safetensors, then -2 and so on."""
    plain = "".join(c if c.isalnum() else "_" for c in Path(image_name).name.split(".")[0]).strip("_") or "image"
    folder, stem = user_data_dir() / "models", f"{Path(model).stem}-{plain}"
    number = 1
    while True:
        path = folder / f"{stem if number == 1 else f'{stem}-{number}'}.safetensors"
        if not path.exists():
            return path
        number += 1


def _checked(output: Path) -> Path:
    if output.suffix != ".safetensors":
        raise OutputError(
            f"a retrained model is written as NAME.safetensors, got {output}; change the end of the name."
        )
    if output.exists():
        raise OutputError(f"{output} already exists; choose another name, or move it away.")
    return output


def _prepared(
    folder: Path, known: Verified, division: Division, model: SamModel, settings: RetrainConfig
) -> dict[str, int]:
    """The windows to teach with, written; those of an interrupted run of the same objects stay."""
    config = json.loads(json.dumps(asdict(settings)))
    told = {"verified": known.digest, "model": model.fingerprint, "config": config}
    note = folder / "retraining.json"
    try:
        stored = json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # none yet, or killed while it was written: nothing was learned by then
        stored = {}
    if stored.get("job") == told:
        counts: dict[str, int] = stored["windows"]
        return counts
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    windows = write_pairs(known, division, folder / "pairs")
    note.write_text(json.dumps({"job": told, "windows": windows}, indent=1), encoding="utf-8")
    return windows


def _train(
    folder: Path,
    model: str | os.PathLike[str],
    windows: Mapping[str, int],
    settings: RetrainConfig,
    device: str,
    progress: StageProgress,
    should_stop: Callable[[], bool],
) -> Path:
    """The new weights, inside the folder: they get their name when all is done."""

    def told(minutes: float, in_all: float, losses: Mapping[str, float]) -> None:
        progress("training", round(60 * minutes), max(1, round(60 * in_all)))
        if should_stop():
            raise RunInterrupted(f"the training was stopped; what is learned is kept in {folder}.")

    # No process of its own for the crops: a viewer is no script that could be started a second time.
    usual = {"minutes": settings.minutes, "seed": settings.seed, "workers": 0, "log_every": 2}
    sparse = (SPARSE,) if windows[SPARSE] else ()
    return train(
        folder / "pairs",
        folder / "model.safetensors",
        start_from=model,
        config=usual | dict(settings.training),
        data={"sparse_groups": sparse},
        device=device,
        progress=told,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """A window with objects that were held back."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint16]


def _held_back(known: Verified, windows: Sequence[Window], settings: RetrainConfig) -> list[_Judged]:
    """The windows to judge by, as long as there are not more objects than wanted."""
    found, count = [], 0
    for window in windows:
        if count >= settings.judged:
            break
        image, labels = read_judged(known, window)
        kept = np.where(labels <= settings.judged - count, labels, 0).astype(np.uint16)
        count += int(kept.max(initial=0))
        found.append(_Judged(image, kept))
    return found


def _judge(
    model: SamModel,
    windows: Sequence[_Judged],
    stage: str,
    progress: StageProgress,
    should_stop: Callable[[], bool],
) -> list[tuple[int, float, float]]:
    """(window, one-click IoU, box IoU) of each object."""
    total = sum(int(window.labels.max(initial=0)) for window in windows)
    scores: list[tuple[int, float, float]] = []
    for number, window in enumerate(windows):
        for score in iter_object_scores(model, window.image, window.labels, clicks=1, boxes=True, min_area_px=1):
            scores.append((number, score.clicks[0], score.box))
            progress(stage, len(scores), total)
            if should_stop():
                raise RunInterrupted("the retraining was stopped while the model was judged; the same call goes on.")
    return scores


def _mean(scores: Sequence[tuple[int, float, float]]) -> Judgement:
    return Judgement(float(np.mean([s[1] for s in scores])), float(np.mean([s[2] for s in scores])), len(scores))


def _gain(
    before: Sequence[tuple[int, float, float]], after: Sequence[tuple[int, float, float]]
) -> tuple[float, float] | None:
    gains = [b[1] - a[1] for a, b in zip(before, after, strict=True)]
    found = bootstrap_interval(gains, [number for number, *_ in before])
    return None if found is None else (found[0], found[1])


def _write_report(result: Retrained, model: str | os.PathLike[str], settings: RetrainConfig) -> None:
    report = asdict(result) | {"path": str(result.path), "from": os.fspath(model), "config": asdict(settings)}
    result.path.with_suffix(".json").write_text(json.dumps(report, indent=1, default=str), encoding="utf-8")
