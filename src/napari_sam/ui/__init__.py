"""The napari plugin: the only part that imports napari, magicgui and Qt. Names load when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'napari_sam.ui' has no attribute {name!r}")
    return getattr(import_module(f"napari_sam.ui.{_MODULE_OF[name]}"), name)
