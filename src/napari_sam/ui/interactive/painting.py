"""Painting by hand with napari's own tools: acts of the session, in the journal and undone in order with the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from napari_sam.errors import AnnotationError
from napari_sam.workflows.annotating.interactive import Box, Change, Patch

if TYPE_CHECKING:
    from napari_sam.ui.interactive.session_control import SessionControl

WINDOW_PX = 2048
"""Side of the window that is painted in where the image is too large for one editable layer."""


class HandPainting:
    """Takes note of each stroke in the layer of objects, or in a window of it.

    The layer of objects paints straight into the session's labels, which keep what was written. A pyramid cannot be
    painted in; there a window of the labels, copied to a layer of its own, is, and each stroke is carried over.
    """

    def __init__(self, control: SessionControl) -> None:
        self._control = control
        self._followed: Labels | None = None
        self.window: Labels | None = None
        self._box = Box(0, 0, 0, 0)
        self._plane: tuple[int, ...] = ()

    def follow(self) -> None:
        """Listen to the layer of objects; called again when there is a new one."""
        objects = self._control.layers.objects
        if objects is None or objects is self._followed:
            return
        self._unfollow()
        objects.events.paint.connect(self._on_paint)
        self._followed = objects

    def open_window(self) -> None:
        """Open a window over what the screen shows, for painting.

        Raises
        ------
        AnnotationError
            If rows and columns are not what is shown, or the image is beside the view.
        """
        control = self._control
        if not control.layers.is_pyramid:
            control.viewer.layers.selection.active = control.layers.objects
            return
        at, view = control.gestures.pointer(), control.attention.view_box()
        if at is None or view is None:
            raise AnnotationError("there is nothing of the image in view; move to where you want to paint.")
        self.close_window()
        self._plane, self._box = at[0], _around(view, control.session.image.frame_size)
        pixels = control.session.labels.window(self._plane, self._box)
        pixels = pixels[(np.newaxis,) * len(self._plane)]
        origin = (*self._plane, self._box.y0, self._box.x0)
        window = Labels(pixels, name=f"{control.layers.image_name} painting", **control.placed.placement(origin))
        window.events.paint.connect(self._on_paint_in_window)
        self.window = control.viewer.add_layer(window)
        control.keys.bind([self.window])
        self.window.selected_label = control.session.next_label
        self.window.mode = "paint"

    def close_window(self) -> None:
        """Take the window away; what was painted is in the labels."""
        if self.window is None:
            return
        self.window.events.paint.disconnect(self._on_paint_in_window)
        self._control.keys.release(self.window)
        if self.window in self._control.viewer.layers:
            self._control.viewer.layers.remove(self.window)
        self.window = None

    def redraw(self, change: Change) -> None:
        """Show in the window what an act changed in the labels."""
        if self.window is None:
            return
        for plane, box in change.boxes:
            part = box.clipped(self._box)
            if plane == self._plane and not part.is_empty:
                inside = part.shifted(-self._box.x0, -self._box.y0)
                at = (0,) * len(plane)
                self.window.data[(*at, *inside.slices)] = self._control.session.labels.window(plane, part)
                self.window.refresh(extent=False, thumbnail=False)

    def release(self) -> None:
        """Stop listening; layers stay."""
        self._unfollow()
        if self.window is not None:
            self.window.events.paint.disconnect(self._on_paint_in_window)
            self.window.editable = False
            self.window = None

    def _unfollow(self) -> None:
        if self._followed is not None:
            self._followed.events.paint.disconnect(self._on_paint)
            self._followed = None

    def _on_paint(self, event: Any = None) -> None:
        self._control.attempt(self._control.session.record_painting)

    def _on_paint_in_window(self, event: Any = None) -> None:
        self._control.attempt(self._carry_over)

    def _carry_over(self) -> Change:
        session = self._control.session
        at = (0,) * len(self._plane)
        painted = np.asarray(self.window.data)[at]  # type: ignore[union-attr]
        patch = Patch.between(self._plane, self._box, session.labels.window(self._plane, self._box), painted)
        return Change() if patch.is_empty else session.record_painting([patch])


def _around(view: Box, frame_size: tuple[int, int]) -> Box:
    """The window over the middle of a view."""
    x, y = (int(value) for value in view.center_xy)
    half = WINDOW_PX // 2
    return Box(x - half, y - half, x + half, y + half).clipped(Box.of_size(frame_size))
