"""Images of any size, opened lazily, with one normalisation for the whole image."""

from napari_sam.images.foreground import has_foreground
from napari_sam.images.geo import GeoReference
from napari_sam.images.normalise import Normalisation, normalise_image
from napari_sam.images.plane import Plane, compute_normalisation
from napari_sam.images.roi import Roi, read_roi
from napari_sam.images.source import ImageSource, open_image

__all__ = [
    "GeoReference",
    "ImageSource",
    "Normalisation",
    "Plane",
    "Roi",
    "compute_normalisation",
    "has_foreground",
    "normalise_image",
    "open_image",
    "read_roi",
]
