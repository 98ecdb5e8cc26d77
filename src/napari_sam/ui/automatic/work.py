"""What an automatic run does on its own thread; nothing here touches a layer or a widget."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from napari_sam.ui.automatic.form import RunRequest
from napari_sam.ui.automatic.result_layer import Outcome
from napari_sam.ui.automatic.tile_signals import TileSignals
from napari_sam.ui.worker import Work
from napari_sam.workflows.file_layers import read_viewable
from napari_sam.workflows.region import write_region
from napari_sam.workflows.stages import StageProgress


def plane_work(segment: Callable[..., Any], request: RunRequest, signals: TileSignals) -> Work:
    """Segment one plane; its tiles are told as they are finished."""

    def work(progress: StageProgress, should_stop: Callable[[], bool]) -> Outcome:
        with signals.follower, _options(request, progress, should_stop) as options:
            result = segment(request.plane.pixels, request.output, watch=signals.follower.as_watch(), **options)
        return Outcome(result, read_viewable(request.output), request.output)

    return work


def stack_work(segment_stack: Callable[..., Any], request: RunRequest, signals: TileSignals) -> Work:
    """Segment all planes of a stack and link what was found; there is no preview of it."""

    def work(progress: StageProgress, should_stop: Callable[[], bool]) -> Outcome:
        with signals.follower, _options(request, progress, should_stop) as options:
            result = segment_stack(request.plane.pixels, request.output, link=request.link, **options)
        return Outcome(result, read_viewable(request.output), request.output)

    return work


@contextmanager
def _options(request: RunRequest, progress: StageProgress, should_stop: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    import_module("distributed")  # dask would do it when the result is drawn, and hold up the window for 0.1 s
    with tempfile.TemporaryDirectory(prefix="napari-sam-region-") as folder:
        yield {
            "model": request.model,
            "automatic": request.automatic,
            "tiling": request.tiling,
            "config": request.config,
            "roi": None if request.region is None else write_region(request.region, Path(folder) / "region.geojson"),
            "restart": request.restart,
            "progress": progress,
            "should_stop": should_stop,
        }
