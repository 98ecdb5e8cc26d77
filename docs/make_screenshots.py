"""Makes the pictures of the automatic widget in a real napari window: `bash .ci/pytest`'s screen, or your own.

xvfb-run -s "-screen 0 1600x1200x24" python docs/make_screenshots.py
"""

from __future__ import annotations

import napari
import numpy as np
from qtpy.QtWidgets import QScrollArea
from screenshot_window import IMAGES, SIZE, settle, wait_until

from napari_sam.ui import AutomaticSegmentation, nuclei_sample
from napari_sam.ui.samples import film_sample

EXAMPLES = 4


def take(viewer: napari.Viewer, name: str) -> None:
    """Write the whole window as docs/images/NAME.png."""
    settle(1)
    path = IMAGES / f"{name}.png"
    viewer.window.screenshot(str(path), canvas_only=False, flash=False)
    print(path)


def show_automatic(viewer: napari.Viewer) -> None:
    """The automatic widget: before a run, with the result, filtered by examples."""
    for data, options, *_ in nuclei_sample()[:1]:
        viewer.add_image(data, **options)
    widget = AutomaticSegmentation(viewer)
    viewer.window.add_dock_widget(widget, name="Automatic segmentation", area="right")
    widget.run.click()
    wait_until(widget.run.isEnabled)
    take(viewer, "automatic")
    widget.tuning.pick.click()
    if widget.result is not None:
        for label in widget.result.features["label"][:EXAMPLES].tolist():
            inside = np.argwhere(widget.result.layer.data == label)
            widget.tuning.toggle(label, tuple(inside[len(inside) // 2]))
    widget.tuning.apply.click()
    bar = widget.findChild(QScrollArea).verticalScrollBar()
    bar.setValue(bar.maximum())
    take(viewer, "automatic-filtered")
    bar.setValue(0)
    viewer.theme = "light"
    take(viewer, "automatic-light")
    print(widget.status.text(), widget.refilter.count.text())


def show_stack(viewer: napari.Viewer) -> None:
    """The automatic widget with the linked objects of three frames of a film."""
    for data, options, *_ in film_sample()[:1]:
        viewer.add_image(data[:3], **options)
    widget = AutomaticSegmentation(viewer)
    viewer.window.add_dock_widget(widget, name="Automatic segmentation", area="right")
    widget.settings.all_planes.setChecked(True)
    widget.settings.linking.set_values({"least_planes": 2})
    widget.run.click()
    wait_until(widget.run.isEnabled)
    take(viewer, "automatic-stack")
    viewer.window.remove_dock_widget(widget)
    viewer.layers.clear()


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    viewer = napari.Viewer(show=True)
    viewer.theme = "dark"
    viewer.window.resize(*SIZE)
    show_stack(viewer)
    show_automatic(viewer)
    viewer.close()


if __name__ == "__main__":
    main()
