"""The napari plugin: the only part that imports napari, magicgui and Qt. Names load when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.lazy import names_of

if TYPE_CHECKING:
    from napari_sam.ui.automatic.widget import AutomaticSegmentation
    from napari_sam.ui.interactive.widget import InteractiveSegmentation
    from napari_sam.ui.layers import LayerTuple, ShownPlane, labels_layer, shown_plane
    from napari_sam.ui.review.widget import ReviewWidget
    from napari_sam.ui.samples import coins_sample, mosaic_sample, nuclei_sample
    from napari_sam.ui.worker import Job

__all__ = [
    "AutomaticSegmentation",
    "InteractiveSegmentation",
    "Job",
    "LayerTuple",
    "ReviewWidget",
    "ShownPlane",
    "coins_sample",
    "labels_layer",
    "mosaic_sample",
    "nuclei_sample",
    "shown_plane",
]

_MODULE_OF = {
    "AutomaticSegmentation": "automatic.widget",
    "InteractiveSegmentation": "interactive.widget",
    "Job": "worker",
    "LayerTuple": "layers",
    "ReviewWidget": "review.widget",
    "ShownPlane": "layers",
    "coins_sample": "samples",
    "labels_layer": "layers",
    "mosaic_sample": "samples",
    "nuclei_sample": "samples",
    "shown_plane": "layers",
}

__getattr__ = names_of(__name__, _MODULE_OF)
