"""Makes the pictures of the widget *Models* in a real napari window, dark and light.

xvfb-run -s "-screen 0 1600x1200x24" python docs/screenshots_models.py
"""

from __future__ import annotations

import os

import napari
from screenshot_window import IMAGES, SIZE, settle

from napari_sam.ui.models import ModelsWidget
from napari_sam.ui.samples import nuclei_sample

CACHE = "/data/napari-sam"
"""Shown as the folder of downloads; nothing is written there."""


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
