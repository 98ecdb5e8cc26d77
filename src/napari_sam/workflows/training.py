"""Train a network on a folder of images with known labels, or go on with one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from napari_sam import __version__
from napari_sam.errors import OutputError, RunInterrupted
from napari_sam.model import Sam, SamConfig, build_sam, load_model, save_checkpoint
from napari_sam.model.loading import choose_device
from napari_sam.model.presets import NANO
from napari_sam.tiling.writing import output_errors
from napari_sam.training.batches import CropPlan
from napari_sam.training.checking import usable_pairs
from napari_sam.training.config import DrawConfig, TrainConfig, fine_tuning
from napari_sam.training.data import Pair, find_pairs
from napari_sam.training.draw import TrainingSet, held_out
from napari_sam.training.loop import Progress, Trainer
from napari_sam.training.plot import write_plot
from napari_sam.workflows.annotating.session_pairs import write_session_pairs
from napari_sam.workflows.evaluating.validation import check_selection, make_validator

AUTOMATIC_DEFAULTS: dict[str, Any] = {
    "prompts": "instances",
    "mask_choice": "best",
    "one_piece": True,
    "pred_iou_thresh": 0.5,
    "stability_score_thresh": 0.2,
    "box_nms_thresh": 0.9,
    "mask_nms_thresh": 0.4,
    "cover_thresh": 0.5,
    "proposal_thresh": 0.25,
    "min_mask_region_area": 20,
}
"""Recommended settings of a newly trained network; a checkpoint that is trained further keeps its own."""

Folder = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, eq=False)
class _Start:
    """What a training begins with."""

    sam: Sam
    settings: SamConfig
    automatic_defaults: Mapping[str, object]
    config: TrainConfig
    data: DrawConfig


def train(
    folder: Folder,
    output: Folder,
    *,
    start_from: Folder | None = None,
    val: Folder | None = None,
    config: TrainConfig | Mapping[str, Any] | None = None,
    data: DrawConfig | Mapping[str, Any] | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Train a network and write its weights: the best validated ones, or without validation the averaged ones.

    The state of the training lies beside the output, in `output` + ".run": the same call goes on from there. Its logs
    are there as well (`log.csv`, `validation.csv`) and their curves (`log.svg`).

    Parameters
    ----------
    folder : path
        Pairs of images and labels, see :func:`napari_sam.training.data.find_pairs`; or the journal of an annotation
        session (NAME.annotation.jsonl), whose verified objects teach.
    output : path
        NAME.safetensors.
    start_from : name or path, optional
        A model to go on from, of any kind; by default a new network like the built-in one.
    val : path, optional
        Pairs to validate on; `data.val_share` holds out some of `folder` instead.
    config : TrainConfig or mapping, optional
        A mapping changes fields of what is usual: of :func:`napari_sam.training.config.fine_tuning` where a model is
        gone on from, else of TrainConfig.
    data : DrawConfig or mapping, optional
        What is drawn how often; with `start_from`, usually no generated images.
    device : str
        "auto", "cpu", "cuda" or "mps".
    threads : int, optional
        CPU threads of torch; by default all cores.
    progress : function (minutes, minutes in all, losses), optional
        Called with every row of the log.
    tell : function (text), optional
        Called with each pair that is left out.

    Returns
    -------
    Path
        `output`.

    Raises
    ------
    TrainingError, JournalError
        If the data or a saved state cannot be used.
    ConfigError
        If the settings contradict each other, the network or this machine.
    OutputError
        If `output` has another ending, or its folder cannot be written to.
    RunInterrupted
        After Ctrl-C; what is learned so far is saved.
    """
    output = Path(output)
    if output.suffix != ".safetensors":
        raise OutputError(f"trained weights are written as NAME.safetensors, got {output}; change the end of the name.")
    chosen_device = choose_device(device)
    start = _start(start_from, config, data)
    run_folder = output.with_name(output.name + ".run")
    with output_errors(run_folder):
        if Path(folder).is_file():
            sparse = write_session_pairs(folder, run_folder / "pairs", start.settings.image_size)
            folder = run_folder / "pairs"
            start = replace(start, data=replace(start.data, sparse_groups=sparse))
        pairs, judged = _pairs(folder, val, start.data, tell)
        if threads is not None:
            torch.set_num_threads(threads)
        run_folder.mkdir(parents=True, exist_ok=True)
        validate = make_validator(judged, start.settings, start.automatic_defaults, start.data) if judged else None
        drawn = TrainingSet(pairs, start.data)
        trainer = Trainer(start.sam, drawn, start.config, run_folder, progress, device=chosen_device, validate=validate)
        network = _run(trainer, judge_first=start_from is not None)
    metadata = {"version": __version__, "steps": str(trainer.step), "minutes": f"{trainer.minutes:.0f}"}
    metadata |= {f"validation_{name}": f"{value:.4g}" for name, value in trainer.best.items()}
    save_checkpoint(output, network, start.settings, automatic_defaults=start.automatic_defaults, metadata=metadata)
    return output


def _start(
    start_from: Folder | None,
    config: TrainConfig | Mapping[str, Any] | None,
    data: DrawConfig | Mapping[str, Any] | None,
) -> _Start:
    """The network, new or loaded, and the settings usual for it, changed as asked."""
    usual: dict[str, Any] = {} if start_from is None else {"generated": 0.0}
    drawn = data if isinstance(data, DrawConfig) else DrawConfig(**usual | dict(data or {}))
    if start_from is None:
        settled = config if isinstance(config, TrainConfig) else TrainConfig(**(config or {}))
        torch.manual_seed(settled.seed)
        return _Start(build_sam(NANO), NANO, AUTOMATIC_DEFAULTS, settled, drawn)
    model = load_model(start_from, device="cpu")
    whole_frames = CropPlan.of(model.sam).whole_frames
    settled = config if isinstance(config, TrainConfig) else fine_tuning(whole_frames=whole_frames, **(config or {}))
    check_selection(settled, model.config)
    torch.manual_seed(settled.seed)
    return _Start(model.sam, model.config, dict(model.automatic_defaults), settled, drawn)


def _pairs(
    folder: Folder, val: Folder | None, data: DrawConfig, tell: Callable[[str], None] | None
) -> tuple[list[Pair], list[Pair]]:
    """The pairs to train with, and those to validate on."""

    def usable(place: Folder, split: str) -> list[Pair]:
        found = find_pairs(place, split=split, allow_missing=True)
        return usable_pairs(found, skip_bad=data.skip_bad, allow_empty=data.allow_empty, tell=tell)

    pairs = usable(folder, "train")
    return (pairs, usable(val, "val")) if val is not None else held_out(pairs, data)


def _run(trainer: Trainer, *, judge_first: bool) -> Sam:
    """The trained network; the curves are drawn however the run ends."""
    trainer.resume()
    try:
        if judge_first:
            trainer.judge_start()
        return trainer.run()
    except KeyboardInterrupt:
        raise RunInterrupted(
            f"stopped after {trainer.step} steps; what is learned is kept in {trainer.folder}, and the same command "
            "(or call) goes on from there."
        ) from None
    finally:
        write_plot(trainer.folder / "log.svg", trainer.log.rows(), trainer.validations.rows())
