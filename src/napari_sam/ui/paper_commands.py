"""Commands for the selected image that need no form: its edges as a layer, and object proposals as boxes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import napari.viewer
import numpy as np
from napari.layers import Image
from napari.utils.notifications import show_info
from numpy.typing import NDArray
from qtpy.QtWidgets import QInputDialog

from napari_sam.errors import ImageError
from napari_sam.predict import ObjectProposalConfig
from napari_sam.ui.layers import LayerTuple, ShownPlane, shown_plane
from napari_sam.ui.worker import Job
from napari_sam.workflows.experiments.edges import edges_of_array
from napari_sam.workflows.experiments.proposals import proposals_of_array
from napari_sam.workflows.models import usable_models

SHOWN_PROPOSALS = ObjectProposalConfig(points_per_side=32, proposals=100)
"""A quarter of the published points: soon there, and more boxes than a person looks through."""

_running: set[Job] = set()
"""Jobs without a widget that would hold them."""


def show_edges(viewer: napari.viewer.Viewer) -> None:
    """Add the edges of the selected image, in the plane that is shown, as an image layer."""

    def work(plane: ShownPlane, model: str, told: Any, should_stop: Any) -> NDArray[np.float32]:
        return edges_of_array(plane.pixels, model, progress=told, should_stop=should_stop)

    _run(viewer, "Edges", work, edges_layer)


def show_proposals(viewer: napari.viewer.Viewer) -> None:
    """Add boxes around what could be objects of the selected image, the most likely first, as a Shapes layer."""

    def work(plane: ShownPlane, model: str, told: Any, should_stop: Any) -> NDArray[np.int64]:
        masks = proposals_of_array(
            plane.pixels, model, proposals=SHOWN_PROPOSALS, progress=told, should_stop=should_stop
        )
        return np.array([mask.box_xyxy for mask in masks], dtype=np.int64).reshape(-1, 4)

    _run(viewer, "Object proposals", work, boxes_layer)


def edges_layer(edges: NDArray[np.float32], plane: ShownPlane) -> LayerTuple:
    """An image layer that lies on the plane its edges (H, W) are of, over it."""
    data = edges[(np.newaxis,) * len(plane.index)]
    options = {"name": f"{plane.name} edges", "colormap": "magma", "blending": "additive", **plane.placement}
    return data, {**options, "contrast_limits": (0, 1)}, "image"


def boxes_layer(boxes_xyxy: NDArray[np.int64], plane: ShownPlane) -> LayerTuple:
    """A Shapes layer of rectangles around boxes (N, 4), on the plane they are of."""
    x0, y0, x1, y1 = boxes_xyxy.T - 0.5  # napari's whole numbers are pixel centres
    corners = np.stack([np.stack([y, x], axis=1) for y, x in ((y0, x0), (y0, x1), (y1, x1), (y1, x0))], axis=1)
    before = np.zeros((*corners.shape[:2], len(plane.index)))
    options = {"name": f"{plane.name} proposals", "shape_type": "rectangle", "face_color": "transparent"}
    return np.concatenate([before, corners], axis=2), {**options, "edge_color": "yellow", **plane.placement}, "shapes"


def _run(
    viewer: napari.viewer.Viewer,
    title: str,
    work: Callable[[ShownPlane, str, Any, Any], Any],
    as_layer: Callable[[Any, ShownPlane], LayerTuple],
) -> None:
    """Do `work` on the selected image off the GUI thread, and add what it gives as a layer."""
    plane = shown_plane(_chosen_image(viewer), viewer.dims.point)
    model = _chosen_model(title)
    if model is None:
        return

    def done(result: Any) -> None:
        if not len(result):
            show_info(f"{title}: nothing was found in {plane.name}.")
            return
        data, options, kind = as_layer(result, plane)
        getattr(viewer, f"add_{kind}")(data, **options)

    job = Job(
        partial(work, plane, model),
        description=f"{title} of {plane.name}",
        told=lambda *_: None,
        done=done,
        failed=lambda _: None,  # napari's notification tells
        closed=lambda: _running.discard(job),
    )
    _running.add(job)
    job.start()


def _chosen_image(viewer: napari.viewer.Viewer) -> Image:
    """The selected image layer, or the only one there is."""
    images = [layer for layer in viewer.layers if isinstance(layer, Image)]
    active = viewer.layers.selection.active
    if isinstance(active, Image):
        return active
    if len(images) == 1:
        return images[0]
    raise ImageError(f"select the image layer that is meant; there are {len(images)} in the viewer.")


def _chosen_model(title: str) -> str | None:
    """A model that is on this machine, asked for where there are several; None if the user changed their mind."""
    names = [str(name) for name in usable_models()]
    if len(names) == 1:
        return names[0]
    name, is_chosen = QInputDialog.getItem(None, title, "Model", names, 0, False)
    return str(name) if is_chosen else None
