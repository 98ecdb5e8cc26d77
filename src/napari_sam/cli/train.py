"""`napari-sam train`: a network from images with known labels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_sam import workflows
from napari_sam.cli.options import DeviceFlag, given, settings_of
from napari_sam.training.config import DrawConfig, TrainConfig

if TYPE_CHECKING:
    from napari_sam.cli.options import Flags as DrawFlags
    from napari_sam.cli.options import Flags as TrainFlags
else:
    TrainFlags = settings_of(TrainConfig, group="Training", without=["augment"])
    DrawFlags = settings_of(DrawConfig, group="Data")


def train(
    folder: Path,
    *,
    out: Path,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    val: Path | None = None,
    device: DeviceFlag = "auto",
    threads: int | None = None,
    training: TrainFlags = None,
    data: DrawFlags = None,
) -> None:
    """Train a model on images with known labels, or fine-tune one with --from.

    The same command goes on with an interrupted training.

    Parameters
    ----------
    folder
        NAME.image.EXT + NAME.labels.EXT pairs (PNG, TIFF, zarr), folders images/ + labels/, or a manifest.csv;
        or the journal of an annotation session, NAME.annotation.jsonl.
    out
        Where the weights go: NAME.safetensors. Logs and the state of the training go to NAME.safetensors.run.
    from_
        A model to fine-tune, of any kind: a name or a checkpoint. Without it, a new network like the built-in one.
        With it other defaults hold: 5 minutes, 8 crops, a learning rate of 0.0001 (0.00001 for networks that only see
        whole frames), no dense part, no generated images.
    val
        A folder to validate on; the best weights are kept.
    threads
        CPU threads; by default all cores.
    """
    path = workflows.train(
        folder,
        out,
        start_from=from_,
        val=val,
        config=given(training),
        data=given(data),
        device=device,
        threads=threads,
        progress=_print_losses,
        tell=_print_line,
    )
    log = path.with_name(f"{path.name}.run") / "log.csv"
    print(f"weights in {path}" + (f", log in {log}" if log.exists() else ""))


def _print_losses(minutes: float, total: float, losses: dict[str, float]) -> None:
    told = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
    _print_line(f"{minutes:6.1f} of {total:.0f} min  {told}")


def _print_line(text: str) -> None:
    print(text, file=sys.stderr)
