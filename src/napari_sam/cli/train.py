"""`napari-sam train`: a network from images with known labels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_sam.cli.options import given, settings_of
from napari_sam.training.draw import DrawConfig
from napari_sam.training.loop import TrainConfig
from napari_sam.workflows import train as run_training

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
    threads: int | None = None,
    training: TrainFlags = None,
    data: DrawFlags = None,
) -> None:
    """Train a model on images with known labels.

    The same command goes on with an interrupted training.

    Parameters
    ----------
    folder
        NAME.image.png + NAME.labels.png pairs, folders images/ + labels/, or a manifest.csv.
    out
        Where the weights go: NAME.safetensors.
    from_
        A model to go on from; by default a new network like the built-in one.
    threads
        CPU threads; by default all cores.
    """
    path = run_training(
        folder,
        out,
        start_from=from_,
        config=TrainConfig(**given(training)),
        data=DrawConfig(**given(data)),
        threads=threads,
        progress=_print_losses,
    )
    log = path.with_name(f"{path.name}.run") / "log.csv"
    print(f"weights in {path}" + (f", log in {log}" if log.exists() else ""))


def _print_losses(minutes: float, total: float, losses: dict[str, float]) -> None:
    told = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
    print(f"{minutes:6.1f} of {total:.0f} min  {told}", file=sys.stderr)
