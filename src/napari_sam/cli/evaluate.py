"""`napari-sam evaluate`: a model against known labels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_sam.cli.options import given, settings_of
from napari_sam.predict import AutoMaskConfig
from napari_sam.workflows import EvaluateConfig
from napari_sam.workflows import evaluate as run_evaluation

if TYPE_CHECKING:
    from napari_sam.cli.options import Flags as AutomaticFlags
    from napari_sam.cli.options import Flags as EvaluateFlags
else:
    AutomaticFlags = settings_of(AutoMaskConfig, group="Automatic masks")
    EvaluateFlags = settings_of(EvaluateConfig, group="What is measured", without=["tasks"])
TasksFlag = Annotated[str, Parameter(help="Any of points, boxes, automatic, clicks, with commas.")]


def evaluate(
    folder: Path,
    *,
    model: str = "nano",
    device: str = "auto",
    json: Path | None = None,
    tasks: TasksFlag = "points,boxes,automatic",
    settings: EvaluateFlags = None,
    automatic: AutomaticFlags = None,
) -> None:
    """Measure a model on images with known labels.

    Parameters
    ----------
    folder
        NAME.image.png + NAME.labels.png pairs, folders images/ + labels/, or a manifest.csv.
    model
        A name from `napari-sam models list`, or a checkpoint file.
    device
        auto, cpu, cuda or mps.
    json
        Write all figures: NAME.json.
    """
    chosen: Any = tuple(task.strip() for task in tasks.split(","))
    config = EvaluateConfig(tasks=chosen, **given(settings))
    report = run_evaluation(
        folder, model, device=device, config=config, automatic=given(automatic), progress=_print_progress
    )
    print(report.as_text())
    if json is not None:
        print(f"all figures in {report.write_json(json)}")


def _print_progress(stage: str, done: int, total: int) -> None:
    print(f"\r{stage} {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
