"""What each ingredient of nano's training brings: short runs of equal length from equal starts, judged on other images.

    python benchmarks/ablations.py --train FOLDER --val FOLDER --work FOLDER [--steps 800] [--runs NAME ...]

Two series. `encoder: ...` teaches a new network dense targets alone, and judges its automatic masks (the instance
head's regions). `decoder: ...` keeps the built-in model's encoder, begins with a new prompt encoder and decoder, and
judges these alone, without regions: clicks, and automatic masks from a grid of 16 x 16 points. Prints a Markdown table.
Short runs tell directions, not final scores.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from napari_sam.model import build_sam, load_model, save_checkpoint
from napari_sam.model.config import ConvConfig
from napari_sam.model.presets import NANO
from napari_sam.training.config import TrainConfig
from napari_sam.training.draw import DrawConfig
from napari_sam.workflows import evaluate, train
from napari_sam.workflows.evaluating.evaluation import EvaluateConfig
from napari_sam.workflows.training import AUTOMATIC_DEFAULTS

NARROW = ConvConfig(widths=(16, 32, 64, 80, 112))
SHALLOW = ConvConfig(depths=(1, 1, 1, 1, 1))
ENCODER = {"dense_share": 1.0, "crop_px": 256, "crops": 5, "warmup_steps": 50, "ema": 0.99}
DECODER = {
    "dense_share": 0.0,
    "crop_px": 128,
    "freeze": ("encoder",),
    "freeze_norms": True,
    "warmup_steps": 50,
    "ema": 0.99,
}
WITHOUT_REGIONS = {"prompts": "grid", "points_per_side": 16}


@dataclass(frozen=True)
class Run:
    """One training: what differs from the first of its series."""

    training: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    encoder: ConvConfig = field(default_factory=ConvConfig)


RUNS = {
    "encoder: as shipped, 5 % generated images": Run(data={"generated": 0.05}),
    "encoder: no generated images": Run(data={"generated": 0.0}),
    "encoder: half of them generated": Run(data={"generated": 0.5}),
    "encoder: half as wide": Run(data={"generated": 0.05}, encoder=NARROW),
    "encoder: one block a stage": Run(data={"generated": 0.05}, encoder=SHALLOW),
    "decoder: 2 background points, up to 5 rounds": Run(training={"rounds": 5}),
    "decoder: no background points": Run(training={"rounds": 5, "background_points": 0}),
    "decoder: one round": Run(training={"rounds": 1}),
    "decoder: up to 11 rounds": Run(training={"rounds": 11}),
}


def start_of(name: str, run: Run, work: Path) -> Path:
    """The checkpoint a run begins with; equal for equal networks."""
    torch.manual_seed(0)
    path = work / "start.safetensors"
    if name.startswith("encoder"):
        config = replace(NANO, encoder=run.encoder)
        save_checkpoint(path, build_sam(config), config, automatic_defaults=AUTOMATIC_DEFAULTS, dtype=torch.float32)
        return path
    config = replace(NANO, has_instances=False)
    sam = build_sam(config)
    sam.image_encoder.load_state_dict(load_model("nano", "cpu").sam.image_encoder.state_dict())
    defaults = AUTOMATIC_DEFAULTS | WITHOUT_REGIONS
    save_checkpoint(path, sam, config, automatic_defaults=defaults, dtype=torch.float32)
    return path


def judge(name: str, run: Run, args: argparse.Namespace) -> str:
    """Train and measure one run; its row of the table."""
    series = ENCODER if name.startswith("encoder") else DECODER
    output = args.work / f"{name.replace(' ', '_').replace(':', '').replace(',', '').replace('%', '')}.safetensors"
    started = time.process_time()
    train(
        args.train,
        output,
        start_from=start_of(name, run, args.work),
        config=TrainConfig(**{"steps": args.steps, "frames": 40, **series, **run.training}),
        data=DrawConfig(sparse_groups=tuple(args.sparse_groups), allow_empty=True, **run.data),
        threads=args.threads,
    )
    minutes = (time.process_time() - started) / 60
    tasks = ("automatic",) if name.startswith("encoder") else ("points", "automatic")
    config = EvaluateConfig(tasks=tasks, max_images=args.images, max_objects=4, random_draws=0)
    figures = evaluate(args.val, output, config=config).figures
    automatic, points = figures["automatic"], figures["points"]
    clicks = [f"{points[n]['miou']:.2f}" if points else "-" for n in ("1", "3", "9")]
    found = [automatic["ap"]["0.50"], automatic["precision"], automatic["recall"]]
    row = [name, f"{minutes:.1f}", *(f"{value:.2f}" for value in found), *clicks]
    return "| " + " | ".join(row) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--val", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sparse-groups", nargs="*", default=[])
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS), metavar="NAME")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    print(f"each {args.steps} steps, judged on {args.images} images")
    print("| run | minutes | AP at 0.5 | precision | recall | 1 click | 3 clicks | 9 clicks |\n|" + "---|" * 8)
    for name in args.runs:
        print(judge(name, RUNS[name], args), flush=True)


if __name__ == "__main__":
    main()
