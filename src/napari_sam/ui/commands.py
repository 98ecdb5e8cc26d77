"""Commands of menus and the command palette that are no widgets."""

from __future__ import annotations

import napari.viewer
from qtpy.QtWidgets import QFileDialog

from napari_sam.ui.readers import read_layers

IMAGE_FILTER = "Images (*.tif *.tiff *.svs *.btf *.tf8 *.gtif *.geotiff *.png *.jpg *.jpeg);;All files (*)"


def open_huge_image(viewer: napari.viewer.Viewer) -> None:
    """Ask for image files and open each lazily, whatever its name: TIFF, slides, GeoTIFF, PNG, JPEG."""
    paths, _ = QFileDialog.getOpenFileNames(None, "Open huge images lazily", "", IMAGE_FILTER)
    for path in paths:
        add_file(viewer, path)


def open_zarr_folder(viewer: napari.viewer.Viewer) -> None:
    """Ask for an OME-Zarr or zarr folder, an image or labels, and open it lazily."""
    path = QFileDialog.getExistingDirectory(None, "Open an OME-Zarr folder")
    if path:
        add_file(viewer, path)


def add_file(viewer: napari.viewer.Viewer, path: str) -> None:
    """Add the layers of a file or zarr folder to the viewer.

    Raises
    ------
    ImageError
        If it cannot be read; napari shows the message.
    """
    for data, options, kind in read_layers(path):
        add = viewer.add_labels if kind == "labels" else viewer.add_image
        add(data, **options)
