"""The slow work of a session, as functions for another thread; what they need of the form and layers is read first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels, Shapes

from napari_sam.errors import AnnotationError
from napari_sam.ui.interactive.placing import PlacedImage
from napari_sam.ui.interactive.session_control import SessionControl
from napari_sam.ui.worker import Work
from napari_sam.workflows.annotating.drawn import boxes_of_labels, boxes_of_shapes
from napari_sam.workflows.annotating.interactive import (
    Segmenter,
    change_model,
    follow_object,
    masks_of_boxes,
    open_interactive,
)
from napari_sam.workflows.stages import StageProgress


def open_work(
    placed: PlacedImage, journal: Path, model: str | Segmenter, channels: tuple[int | str, ...] | None
) -> Work:
    """Opens a session."""
    pixels, axes = placed.pixels, placed.axes_of_pixels

    def work(progress: StageProgress, should_stop: Callable[[], bool]) -> Any:
        return open_interactive(
            pixels, journal, model, axes=axes, channels=channels, progress=progress, should_stop=should_stop
        )

    return work


def change_model_work(control: SessionControl, model: str) -> Work:
    """Loads another model for an open session."""
    session = control.session
    return lambda progress, should_stop: change_model(session, model)


def follow_work(control: SessionControl) -> Work:
    """Follows the current object through the planes."""
    current, store = control.current, control.store
    if current is None or current.mask is None:
        raise AnnotationError("there is no mask to follow yet; click on an object and wait for the answer.")
    corrected = [plane for plane in control.session.prompted_planes if plane != current.plane]
    return lambda progress, should_stop: follow_object(store, current, corrected, progress, should_stop)


def segment_boxes_work(control: SessionControl, layer: Any) -> Work:
    """Segments each box of a Shapes or Labels layer.

    Raises
    ------
    AnnotationError
        If the layer is empty, or lies otherwise than the image.
    """
    boxes = _boxes(control, layer)
    if not boxes:
        raise AnnotationError(f"layer {layer.name!r} has no shapes or objects in the planes of this image.")
    store, view_step = control.store, 1
    return lambda progress, should_stop: masks_of_boxes(store, boxes, view_step, progress, should_stop)


def _boxes(control: SessionControl, layer: Any) -> list[tuple[tuple[int, ...], tuple[float, float, float, float]]]:
    """(plane, box) of each shape or object, in pixels of the image."""
    here = control.placed.locate(control.viewer.dims.point)[0]
    if isinstance(layer, Shapes):
        found = boxes_of_shapes([_in_image(control, layer, corners) for corners in layer.data])
        flat = layer.ndim == 2
        return [(here if flat else plane, box) for plane, box in found]
    if not isinstance(layer, Labels):
        return []
    pixels = layer.data[0] if layer.multiscale else layer.data
    leading = tuple(pixels.shape[:-2])
    if tuple(pixels.shape[-2:]) != control.session.image.frame_size:
        raise AnnotationError(
            f"labels {layer.name!r} have planes of {tuple(pixels.shape[-2:])}, the image of "
            f"{control.session.image.frame_size} pixels; use labels of this image, or a Shapes layer."
        )
    index = here[-len(leading) :] if leading else ()
    if any(not 0 <= i < n for i, n in zip(index, leading, strict=True)):
        return []
    return [(here, box) for box in boxes_of_labels(np.asarray(pixels[index]))]


def _in_image(control: SessionControl, layer: Shapes, corners: Any) -> np.ndarray[Any, Any]:
    """Corners of a shape in pixels of the image's planes, as (plane..., row, column)."""
    point = control.viewer.dims.point
    rows = []
    for corner in np.asarray(corners):
        world = np.array(point, dtype=float)
        world[-layer.ndim :] = layer.data_to_world(corner)
        plane, (x, y) = control.placed.locate(world.tolist())
        rows.append((*plane, y, x))
    return np.array(rows)
