"""Makes the pictures of the widget *Review* in a real napari window, 1280 x 800, dark and light.

xvfb-run -s "-screen 0 1600x1200x24" python docs/screenshots_review.py
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import napari
import numpy as np
from screenshot_window import IMAGES, SIZE, settle, wait_until

from napari_sam.export import write_table
from napari_sam.tiling import MergedObjects
from napari_sam.tiling.labels import write_labels
from napari_sam.ui import ReviewWidget, nuclei_sample
from napari_sam.workflows.annotating.interactive import Mask


def write_result(labels: np.ndarray, folder: Path) -> Path:
    """The known nuclei, as an automatic run would write them."""
    rng = np.random.default_rng(0)
    masks = [
        Mask.from_array(labels == label, predicted_iou=iou, stability_score=0.9)
        for label, iou in zip(np.unique(labels)[1:], rng.uniform(0.6, 0.95, len(np.unique(labels)) - 1), strict=True)
    ]
    objects = MergedObjects.from_masks(masks, labels.shape)
    write_labels(objects, folder / "nuclei.ome.zarr")
    write_table(objects.table, folder / "nuclei.csv")
    return folder / "nuclei.ome.zarr"


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAM_DATA"] = os.environ["NAPARI_SAM_CACHE"] = folder
        viewer = napari.Viewer(show=True)
        viewer.window.resize(*SIZE)
        (image, options, _), (labels, *_rest) = nuclei_sample()
        viewer.add_image(image, **options)
        widget = ReviewWidget(viewer)
        viewer.window.add_dock_widget(widget, name="Review", area="right")
        widget.open_result(write_result(labels, Path(folder)))
        wait_until(lambda: widget.control is not None)
        form = widget.form
        form.audit_count.setValue(10)
        form.audit.click()
        for number in range(10):
            form.verdicts["reject" if number == 3 else "accept"].click()
        form.begin.click()
        if not form.begin.isChecked():
            form.begin.click()
        for theme in ("dark", "light"):
            viewer.theme = theme
            settle(1.5)
            viewer.window.screenshot(str(IMAGES / f"review-{theme}.png"), canvas_only=False, flash=False)
        form.tabs.setCurrentIndex(2)
        settle(1)
        viewer.window.screenshot(str(IMAGES / "review-retrain.png"), canvas_only=False, flash=False)
        print(f"{IMAGES}: {form.session_text.text()}")
        widget.close_result()
        viewer.close()


if __name__ == "__main__":
    main()
