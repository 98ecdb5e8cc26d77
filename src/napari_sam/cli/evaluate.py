"""`napari-sam evaluate`: a model against known labels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_sam import workflows
from napari_sam.cli.options import DeviceFlag, JsonFlag, ModelFlag, given, settings_of
from napari_sam.cli.progress import Bars
from napari_sam.predict import AutoMaskConfig
from napari_sam.tiling import TilingConfig
from napari_sam.workflows import EvaluateConfig

if TYPE_CHECKING:
    from napari_sam.cli.options import Flags as AutomaticFlags
    from napari_sam.cli.options import Flags as EvaluateFlags
    from napari_sam.cli.options import Flags as TilingFlags
else:
    AutomaticFlags = settings_of(AutoMaskConfig, group="Automatic masks")
    TilingFlags = settings_of(TilingConfig, group="Tiles and merging of automatic masks")
    EvaluateFlags = settings_of(EvaluateConfig, group="What is measured", without=["tasks"])
TasksFlag = Annotated[str, Parameter(help="Any of points, boxes, automatic, clicks, with commas.")]


def evaluate(
    folder: Path,
    *,
    model: ModelFlag = "nano",
    device: DeviceFlag = "auto",
    json: JsonFlag = None,
    report: Path | None = None,
    tasks: TasksFlag = "points,boxes,automatic",
    settings: EvaluateFlags = None,
    automatic: AutomaticFlags = None,
    tiling: TilingFlags = None,
) -> None:
    """Measure a model on images with known labels.

    Prints mean figures with 95 % intervals over the images.

    Parameters
    ----------
    folder
        NAME.image.png + NAME.labels.png pairs, folders images/ + labels/, or a manifest.csv; or subfolders with these.
    report
        Write a page into this folder: report.md with plots, pictures of cases, and CSV tables.
    """
    chosen: Any = tuple(task.strip() for task in tasks.split(","))
    config = EvaluateConfig(tasks=chosen, **given(settings))
    with Bars() as bars:
        measured = workflows.evaluate(
            folder,
            model,
            device=device,
            config=config,
            automatic=given(automatic),
            tiling=TilingConfig(**given(tiling)),
            report=report,
            progress=bars.update,
        )
    for name, reason in measured.skipped.items():
        print(f"left out {name}: {reason}", file=sys.stderr)
    print(measured.as_text())
    if json is not None:
        print(f"all figures in {measured.write_json(json)}")
    if report is not None:
        print(f"report in {report / 'report.md'}")
