"""Train a network on a folder of images with known labels, or go on with one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from napari_sam import __version__
from napari_sam.errors import OutputError, RunInterrupted
from napari_sam.model import build_sam, load_model, save_checkpoint
from napari_sam.model.presets import NANO
from napari_sam.tiling.writing import output_errors
from napari_sam.training.data import find_pairs
from napari_sam.training.draw import DrawConfig, TrainingSet
from napari_sam.training.loop import Progress, TrainConfig, Trainer

AUTOMATIC_DEFAULTS: dict[str, Any] = {
    "prompts": "proposals",
    "mask_choice": "best",
    "pred_iou_thresh": 0.55,
    "stability_score_thresh": 0.2,
    "box_nms_thresh": 0.9,
    "mask_nms_thresh": 0.4,
    "cover_thresh": 0.5,
    "proposal_thresh": 0.25,
    "min_mask_region_area": 20,
}
"""Recommended settings of a newly trained network; a checkpoint that is trained further keeps its own."""


def train(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    start_from: str | os.PathLike[str] | None = None,
    config: TrainConfig | None = None,
    data: DrawConfig | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train a network and write its averaged weights.

    The state of the training lies beside the output, in `output` + ".run": the same call goes on from there, and a log
    of the losses (`log.csv`) is there as well.

    Parameters
    ----------
    folder : path
        Pairs of images and labels, see :func:`napari_sam.training.data.find_pairs`.
    output : path
        NAME.safetensors.
    start_from : name or path, optional
        A model to go on from; by default a new network like the built-in one.
    config : TrainConfig, optional
    data : DrawConfig, optional
        What is drawn how often.
    threads : int, optional
        CPU threads of torch; by default all cores.
    progress : function (minutes, minutes in all, losses), optional
        Called after every 20 steps.

    Returns
    -------
    Path
        `output`.

    Raises
    ------
    TrainingError
        If the data or the network cannot be trained with.
    OutputError
        If `output` has another ending, or its folder cannot be written to.
    RunInterrupted
        After Ctrl-C; what is learned so far is saved.
    """
    output = Path(output)
    if output.suffix != ".safetensors":
        raise OutputError(f"trained weights are written as NAME.safetensors, got {output}; change the end of the name.")
    config = config or TrainConfig()
    drawn = TrainingSet(find_pairs(folder), data or DrawConfig())
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(config.seed)
    if start_from is None:
        sam, settings, defaults = build_sam(NANO), NANO, AUTOMATIC_DEFAULTS
    else:
        model = load_model(start_from, device="cpu")
        sam, settings, defaults = model.sam, model.config, dict(model.automatic_defaults)
    run_folder = output.with_name(output.name + ".run")
    with output_errors(run_folder):
        run_folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(sam, drawn, config, run_folder, progress)
    trainer.resume()
    try:
        trainer.run()
    except KeyboardInterrupt:
        raise RunInterrupted(
            f"stopped after {trainer.step} steps; what is learned is kept in {run_folder}, and the same command (or "
            "call) goes on from there."
        ) from None
    save_checkpoint(
        output,
        trainer.averaged,
        settings,
        automatic_defaults=defaults,
        metadata={"version": __version__, "steps": str(trainer.step), "minutes": f"{trainer.minutes:.0f}"},
    )
    return output
