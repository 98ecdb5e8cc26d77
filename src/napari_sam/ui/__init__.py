"""The napari plugin: the only part that imports napari, magicgui and Qt."""

from napari_sam.ui.automatic import AutomaticSegmentation
from napari_sam.ui.interactive import InteractiveSegmentation
from napari_sam.ui.layers import LayerTuple, ShownPlane, labels_layer, shown_plane
from napari_sam.ui.review import ReviewWidget
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
