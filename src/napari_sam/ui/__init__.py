"""The napari plugin: the only part that imports napari, magicgui and Qt."""

from napari_sam.ui.automatic import AutomaticSegmentation
from napari_sam.ui.layers import LayerTuple, ShownPlane, labels_layer, shown_plane
from napari_sam.ui.samples import coins_sample, mosaic_sample, nuclei_sample
from napari_sam.ui.worker import Job

__all__ = [
    "AutomaticSegmentation",
    "Job",
    "LayerTuple",
    "ShownPlane",
    "coins_sample",
    "labels_layer",
    "mosaic_sample",
    "nuclei_sample",
    "shown_plane",
]
