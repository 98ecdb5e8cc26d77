"""Makes the pictures of docs/interactive.md in a real napari window, 1280 x 800, in both themes.

xvfb-run -s "-screen 0 1600x1200x24" python docs/screenshots_interactive.py
"""

from __future__ import annotations

import os
import tempfile

import napari
import numpy as np
from screenshot_window import IMAGES, SIZE, settle, wait_until

from napari_sam.ui import InteractiveSegmentation, nuclei_sample
from napari_sam.ui.interactive.canvas import Gesture


def click(widget: InteractiveSegmentation, x: float, y: float, positive: bool = True) -> None:
    control = widget.control
    control._on_gesture(Gesture((), ((x, y),), True, positive))
    wait_until(lambda: control.current is not None and control.current.mask is not None)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAM_DATA"] = os.environ["NAPARI_SAM_CACHE"] = folder
        viewer = napari.Viewer(show=True)
        viewer.window.resize(*SIZE)
        (image, options, _), (labels, *_rest) = nuclei_sample()
        viewer.add_image(image, **options)
        widget = InteractiveSegmentation(viewer)
        viewer.window.add_dock_widget(widget, name="Interactive segmentation", area="right")
        widget.start()
        wait_until(lambda: widget.control is not None)
        places = [np.argwhere(labels == label).mean(axis=0) for label in np.unique(labels)[1:9]]
        for y, x in [*places[:3], *places[4:7]]:
            click(widget, x, y)
            widget.control.act("commit")
        y, x = places[3]
        click(widget, x, y)
        viewer.scene.camera.center = (y, x)
        for theme in ("dark", "light"):
            viewer.theme = theme
            settle(1)
            viewer.window.screenshot(str(IMAGES / f"interactive-{theme}.png"), canvas_only=False, flash=False)
        widget.form.tabs.setCurrentIndex(1)
        settle(1)
        viewer.window.screenshot(str(IMAGES / "interactive-keys.png"), canvas_only=False, flash=False)
        print(f"{IMAGES}: {widget.form.objects_text.text()}")
        viewer.close()


if __name__ == "__main__":
    main()
