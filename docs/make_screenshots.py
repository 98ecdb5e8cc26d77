"""Makes the pictures of the documentation in a real napari window: `bash .ci/pytest`'s screen, or your own.

xvfb-run -s "-screen 0 1600x1200x24" python docs/make_screenshots.py
"""

from __future__ import annotations

import time
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication

from napari_sam.ui import AutomaticSegmentation, nuclei_sample

IMAGES = Path(__file__).parent / "images"
SIZE = (1280, 800)
PATIENCE_S = 300


def settle(seconds: float) -> None:
    """Let the window work and draw for a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        QApplication.processEvents()
        time.sleep(0.02)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    for data, options, *_ in nuclei_sample()[:1]:
        viewer.add_image(data, **options)
    widget = AutomaticSegmentation(viewer)
    viewer.window.add_dock_widget(widget, name="Automatic segmentation", area="right")
    widget.run.native.click()
    started = time.monotonic()
    while not widget.run.enabled and time.monotonic() - started < PATIENCE_S:
        settle(0.1)
    settle(1)
    viewer.window.screenshot(str(IMAGES / "automatic.png"), canvas_only=False, flash=False)
    print(f"{IMAGES / 'automatic.png'}: {widget.status.value}")
    viewer.close()


if __name__ == "__main__":
    main()
