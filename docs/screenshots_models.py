"""Makes the pictures of the widget *Models* in a real napari window, dark and light.

xvfb-run -s "-screen 0 1600x1200x24" python docs/screenshots_models.py
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication

from napari_sam.ui.models import ModelsWidget
from napari_sam.ui.samples import nuclei_sample

IMAGES = Path(__file__).parent / "images"
SIZE = (1280, 800)
CACHE = "/data/napari-sam"
"""Shown as the folder of downloads; nothing is written there."""


def settle(seconds: float) -> None:
    """Let the window work and draw for a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        QApplication.processEvents()
        time.sleep(0.02)


def main() -> None:
    os.environ["NAPARI_SAM_CACHE"] = CACHE
    IMAGES.mkdir(exist_ok=True)
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    for data, options, *_ in nuclei_sample()[:1]:
        viewer.add_image(data, **options)
    widget = ModelsWidget()
    viewer.window.add_dock_widget(widget, name="Models", area="right")
    widget.choose("vit_b_lm")
    for theme in ("dark", "light"):
        viewer.theme = theme
        settle(1)
        path = IMAGES / f"models-{theme}.png"
        viewer.window.screenshot(str(path), canvas_only=False, flash=False)
        print(f"{path}: {widget.table.rowCount()} models")
    viewer.close()


if __name__ == "__main__":
    main()
