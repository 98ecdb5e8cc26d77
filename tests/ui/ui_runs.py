"""Runs of the automatic widget with a stand-in for the model: tiles wait until a test lets them go, and may fail."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np

import napari_sam
from napari_sam.geometry import Mask
from napari_sam.model import SamModel, build_sam
from napari_sam.ui import AutomaticSegmentation
from napari_sam.workflows import planning, segmentation
from napari_sam.workflows.stack import segment_stack
from tiling import tiling_synthetic as synthetic
from workflows.workflows_scenes import TINY, tiny_model

WAIT_MS = 120_000
"""Longest wait for what takes a second: this machine may be busy with much else."""
SIDE = 128
"""Of the pictures: four tiles of 64 pixels."""


class HeldModel:
    """Segments regions of equal value; before each tile it waits for `let(1)` unless it was made free."""

    def __init__(self, monkeypatch: Any, *, free: bool = True) -> None:
        self._go = threading.Semaphore(10_000 if free else 0)
        self.began = 0
        self.seen: list[np.ndarray] = []
        self.fail: set[int] = set()
        """Numbers of the tiles that fail, in the order in which they are begun, from 1 on."""
        self.threads: set[int] = set()
        monkeypatch.setattr(planning, "generate_masks", self._segment)
        monkeypatch.setattr(segmentation, "reprompt", lambda model, image, fragment, **_: None)

    def let(self, tiles: int) -> None:
        """Let so many more tiles go."""
        if tiles:
            self._go.release(tiles)

    def _segment(self, model: Any, image: np.ndarray, config: Any = None, precision: str = "auto") -> list[Mask]:
        self.began += 1
        number = self.began
        self.threads.add(threading.get_ident())
        assert self._go.acquire(timeout=WAIT_MS / 1000)
        self.seen.append(image)
        if number in self.fail:
            raise RuntimeError("this tile cannot be had")
        return synthetic.segment(image)


class Calls(list):
    """What the widget asked `segment` for, call by call."""

    def __call__(self, image: Any, output: Any, *, model: str, **options: Any) -> Any:
        self.append({"image": image, "output": output, "model": model, **options})
        return napari_sam.segment(image, output, tiny_model_with_heads(), **options)


def segment_stack_with_tiny_model(image: Any, output: Any, *, model: str, **options: Any) -> Any:
    """As `segment_stack`, with a network that needs no file."""
    return segment_stack(image, output, tiny_model_with_heads(), **options)


def tiny_model_with_heads() -> SamModel:
    """A tiny network with all heads that the built-in model has: the form asks for its settings."""
    config = replace(TINY, has_instances=True)
    return replace(tiny_model(), sam=build_sam(config).eval(), config=config)


def picture() -> np.ndarray:
    """A colour image of 16 squares of rising value and side; colour reaches the model unchanged."""
    values = np.zeros((SIDE, SIDE), np.uint8)
    for number in range(16):
        y, x = divmod(number, 4)
        values[y * 32 + 4 : y * 32 + 8 + number, x * 32 + 4 : x * 32 + 8 + number] = 60 + 10 * number
    return np.repeat(values[..., None], 3, axis=2)


def open_widget(viewer: Any, calls: Calls | None = None) -> AutomaticSegmentation:
    """The widget in the window, set to small tiles."""
    widget = AutomaticSegmentation(viewer, Calls() if calls is None else calls, segment_stack_with_tiny_model)
    viewer.window.add_dock_widget(widget, name="Automatic segmentation")
    widget.settings.tiling.set_values({"core_px": 64, "halo_px": 16, "max_object_px": 0})
    return widget


def wait_until_idle(widget: AutomaticSegmentation, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: widget.run.isEnabled(), timeout=WAIT_MS)


def run(widget: AutomaticSegmentation, qtbot: Any) -> None:
    """Press Segment and wait for the end."""
    widget.run.click()
    wait_until_idle(widget, qtbot)
