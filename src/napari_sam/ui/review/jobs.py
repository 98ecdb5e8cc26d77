"""The slow work of *Review*, as functions for another thread; what they need of layers and session is read first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_sam.ui.interactive.placing import PlacedImage
from napari_sam.ui.interactive.session_control import SessionControl
from napari_sam.ui.worker import Work
from napari_sam.workflows.annotating.data_engine import automatic_output, find_automatic
from napari_sam.workflows.annotating.interactive import Segmenter
from napari_sam.workflows.annotating.result_review import open_review
from napari_sam.workflows.annotating.retraining import RetrainConfig, new_model_path, retrain
from napari_sam.workflows.annotating.session_pairs import verified_of
from napari_sam.workflows.refilter import ObjectFilterConfig
from napari_sam.workflows.stages import StageProgress


def open_work(placed: PlacedImage, labels: Path, model: str | Segmenter) -> Work:
    """Opens the review of a result."""
    pixels, axes = placed.pixels, placed.axes_of_pixels

    def work(progress: StageProgress, should_stop: Callable[[], bool]) -> Any:
        return open_review(pixels, labels, model, axes=axes, progress=progress, should_stop=should_stop)

    return work


def prefill_work(
    control: SessionControl, model: str, mode: Any, plane: tuple[int, ...], limits: ObjectFilterConfig
) -> Work:
    """Finds masks in a plane of an open session."""
    image, output = control.session.image, automatic_output(control.session, model, plane)

    def work(progress: StageProgress, should_stop: Callable[[], bool]) -> Any:
        return find_automatic(
            image, model, limits, mode=mode, plane=plane, output=output, progress=progress, should_stop=should_stop
        )

    return work


def retrain_work(control: SessionControl, model: str, config: RetrainConfig) -> Work:
    """Lets a model learn from what is verified now."""
    verified = verified_of(control.session)
    output = new_model_path(model, control.placed.layer.name)

    def work(progress: StageProgress, should_stop: Callable[[], bool]) -> Any:
        return retrain(verified, output, model=model, config=config, progress=progress, should_stop=should_stop)

    return work
