"""What the viewer shows in review: the object in the middle with a frame around it, and keys that mean verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from napari.layers import Shapes

from napari_sam.ui.interactive.session_control import SessionControl
from napari_sam.ui.interactive.session_layers import ROLE, camera_of
from napari_sam.ui.interactive.shortcuts import as_key
from napari_sam.workflows.annotating.interactive import Box

FRAME_NAME = "under review"
FRAME_COLOUR = "#ff9f1c"
SMALLEST_PX, USUAL_PX, LARGEST_PX = 70, 160, 320
"""Sides of a frame on the screen between which the zoom is left alone, and the side it is brought to otherwise."""


class ReviewView:
    """Shows one object or place after another; `close` leaves the viewer as it was, but for where it looks.

    Parameters
    ----------
    control : SessionControl
        Of the session under review.
    """

    def __init__(self, control: SessionControl) -> None:
        self._control = control
        self._frame: Shapes | None = None
        objects = control.layers.objects
        self._contour = 0 if objects is None else objects.contour
        if objects is not None:
            objects.contour = 2  # the outline is what is judged

    def show(self, plane: tuple[int, ...], box: Box, *, side_px: float | None = None) -> None:
        """Bring a box of a plane into the middle, `side_px` wide on the screen if that is given."""
        viewer, placed = self._control.viewer, self._control.placed
        margin = 0 if side_px else 2
        grown = box.grown(margin)
        corners = ((grown.x0, grown.y0), (grown.x1, grown.y0), (grown.x1, grown.y1), (grown.x0, grown.y1))
        self._outline([(*plane, y - 0.5, x - 0.5) for x, y in corners])
        x, y = box.center_xy
        world = placed.world_of(plane, (x - 0.5, y - 0.5))
        first = viewer.dims.ndim - len(world)
        for axis, value in enumerate(world[:-2], start=first):
            viewer.dims.set_point(axis, value)
        camera = camera_of(viewer)
        camera.center = (*tuple(camera.center)[:-2], *world[-2:])
        width = max(box.width, box.height) / placed.pixels_per_world()
        if side_px is not None or not SMALLEST_PX <= width * camera.zoom <= LARGEST_PX:
            camera.zoom = (side_px or USUAL_PX) / width

    def close(self) -> None:
        """Take the frame away and show objects as before."""
        viewer, objects = self._control.viewer, self._control.layers.objects
        if self._frame is not None and self._frame in viewer.layers:
            viewer.layers.remove(self._frame)
        self._frame = None
        if objects is not None and objects in viewer.layers:
            objects.contour = self._contour

    def _outline(self, corners: list[tuple[float, ...]]) -> None:
        viewer, objects = self._control.viewer, self._control.layers.objects
        if self._frame is None or self._frame not in viewer.layers:
            active = viewer.layers.selection.active
            self._frame = viewer.add_layer(
                Shapes(ndim=len(corners[0]), name=FRAME_NAME, **self._control.placed.placement())
            )
            self._frame.metadata[ROLE] = "review"
            self._frame.editable = False
            viewer.layers.selection.active = active if active in viewer.layers else objects
        side = max(np.ptp(np.array(corners), axis=0)[-2:])
        self._frame.data = []
        self._frame.add(
            [np.array(corners)],
            shape_type="polygon",
            edge_color=FRAME_COLOUR,
            face_color="transparent",
            edge_width=max(0.5, side / 60),
        )
        self._frame.selected_data = set()


class ReviewKeys:
    """Keys that mean verdicts while a round is on; afterwards they mean what they did before.

    Parameters
    ----------
    keys : mapping of key to function without arguments
        Keys as napari writes them.
    """

    def __init__(self, keys: Mapping[str, Callable[[], None]]) -> None:
        self._keys = {as_key(text): function for text, function in keys.items()}
        self._bound: list[tuple[Any, Any, Any, Any]] = []

    @property
    def is_bound(self) -> bool:
        return bool(self._bound)

    def bind(self, holders: Iterable[Any]) -> None:
        """Bind them on viewers and layers."""
        self.release()
        for holder in holders:
            for key, function in self._keys.items():
                ours = _ignoring(function)
                self._bound.append((holder, key, holder.keymap.get(key), ours))
                holder.keymap[key] = ours

    def release(self) -> None:
        """Give the keys back; one that somebody else took meanwhile, or gave back, is theirs."""
        for holder, key, former, ours in reversed(self._bound):
            if holder.keymap.get(key) is not ours:
                continue
            if former is None:
                holder.keymap.pop(key)
            else:
                holder.keymap[key] = former
        self._bound = []


def _ignoring(function: Callable[[], None]) -> Callable[[Any], None]:
    # napari hands the function the viewer or layer it is bound on.
    return lambda holder: function()
