"""What the user looks at: the neighbourhood of the view is embedded ahead of time, the pointer is answered live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_sam.errors import NapariSamError
from napari_sam.ui.automatic.region import view_corners
from napari_sam.ui.interactive.session_layers import camera_of
from napari_sam.workflows.annotating.interactive import Box, Click, Question

if TYPE_CHECKING:
    from napari_sam.ui.interactive.session_control import SessionControl

STILL_MS = 400
"""The view must rest this long before its surroundings are embedded."""
MOST_WINDOWS = 9
"""Windows embedded ahead of time: those nearest to the middle of the view."""


class Attention:
    """Follows camera, sliders and pointer for one session."""

    def __init__(self, control: SessionControl) -> None:
        self._control = control
        self.is_live = False
        self.plane: tuple[int, ...] = ()
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(STILL_MS)
        self._timer.timeout.connect(self.look)
        camera, dims = camera_of(control.viewer), control.viewer.dims
        self._events = [camera.events.zoom, camera.events.center, dims.events.current_step]
        for event in self._events:
            event.connect(self._wait)
        self._timer.start()

    def look(self) -> None:
        """Embed what clicks in this view will need."""
        control = self._control
        at = control.gestures.pointer()
        box = self.view_box()
        if at is None or box is None or control.is_answering:
            return
        try:
            windows = control.store.lattice.windows_for_view(at[0], box, control.view_step, MOST_WINDOWS)
        except NapariSamError:  # the view lies beside the image
            return
        control.answerer.look_ahead([window for window in windows if control.store.peek(window) is None])

    def view_box(self) -> Box | None:
        """What the screen shows of the image, in full-resolution pixels; None if nothing."""
        corners = view_corners(self._control.placed.layer)
        if corners is None:
            return None
        edges = corners + 0.5
        box = Box.from_xyxy([*edges.min(axis=0), *edges.max(axis=0)])
        box = box.clipped(Box.of_size(self._control.session.image.frame_size))
        return None if box.is_empty else box

    def hover(self, plane: tuple[int, ...], xy: tuple[float, float]) -> Question | None:
        """Ask about the pointer, if that is wanted and needs no waiting."""
        if not self.is_live:
            return None
        try:
            question = self._control.session.hover_question(Click(xy), plane, self._control.view_step)
        except NapariSamError:  # beside the image
            question = None
        self.plane = plane
        self._control.answerer.hover(question)
        return question

    def release(self) -> None:
        """Stop following."""
        self._timer.stop()
        for event in self._events:
            event.disconnect(self._wait)

    def _wait(self, event: Any = None) -> None:
        self._timer.start()
