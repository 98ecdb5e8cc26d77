"""The mouse on napari's canvas, turned into clicks and strokes in pixels of the session's image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from napari_sam.ui.interactive.placing import PlacedImage
from napari_sam.ui.interactive.shortcuts import is_drawn_in

CLICK_PX = 4
"""A mouse that moved less than this, in pixels of the screen, was clicked and not dragged."""

XY = tuple[float, float]
Plane = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Gesture:
    """A click (one point) or a stroke (several) in one plane."""

    plane: Plane
    path_xy: tuple[XY, ...]
    is_click: bool
    is_positive: bool = True


@dataclass(slots=True)
class GestureRules:
    """What the user set."""

    plain_clicks: bool = False
    """Clicks without Ctrl are prompts too; dragging without Ctrl still moves the view."""


class CanvasGestures:
    """Listens to a viewer's mouse until `release` is called.

    Ctrl + click and Ctrl + drag are free in napari: its camera moves only without modifiers, and Ctrl + wheel, Alt
    and Shift stay its own. Nothing is taken while the active layer is being drawn or painted in.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    placed : PlacedImage
    done : callable
        Called with each finished Gesture.
    drawing : callable
        Called with the Gesture so far, at each move of a stroke.
    moved : callable
        Called with (plane, (x, y)) where the pointer moves without a button.
    refused : callable
        Called with the reason why a gesture means nothing here.
    """

    def __init__(
        self,
        viewer: Any,
        placed: PlacedImage,
        *,
        done: Callable[[Gesture], None],
        drawing: Callable[[Gesture], None],
        moved: Callable[[Plane, XY], None],
        refused: Callable[[str], None],
    ) -> None:
        self._viewer, self._placed = viewer, placed
        self._done, self._drawing, self._moved, self._refused = done, drawing, moved, refused
        self.rules = GestureRules()
        viewer.mouse_drag_callbacks.append(self._on_press)
        viewer.mouse_move_callbacks.append(self._on_move)

    def release(self) -> None:
        """Stop listening."""
        for callbacks, ours in (
            (self._viewer.mouse_drag_callbacks, self._on_press),
            (self._viewer.mouse_move_callbacks, self._on_move),
        ):
            if ours in callbacks:
                callbacks.remove(ours)

    def pointer(self) -> tuple[Plane, XY] | None:
        """Where the pointer is; None where rows and columns are not what is shown."""
        if self._problem() is not None:
            return None
        # Sliders may have moved since the mouse has.
        dims = self._viewer.dims
        position = [
            at if axis in dims.displayed else dims.point[axis] for axis, at in enumerate(self._viewer.cursor.position)
        ]
        return self._placed.locate(position)

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        with_ctrl = "Control" in event.modifiers
        others = set(event.modifiers) - {"Control", "Shift"}
        if event.button != 1 or others or not (with_ctrl or self.rules.plain_clicks) or self._layer_is_drawn_in():
            return
        is_positive = "Shift" not in event.modifiers
        problem = self._problem()
        if problem is not None:
            if with_ctrl:
                self._refused(problem)
            return
        plane, xy = self._placed.locate(event.position)
        start, path, is_click = event.pos, [xy], True
        yield
        while event.type == "mouse_move":
            is_click = is_click and max(abs(event.pos - start)) < CLICK_PX
            path.append(self._placed.locate(event.position)[1])
            if with_ctrl and not is_click:
                self._drawing(Gesture(plane, tuple(path), False, is_positive))
            yield
        if is_click:
            self._done(Gesture(plane, (xy,), True, is_positive))
        elif with_ctrl:
            self._done(Gesture(plane, tuple(path), False, is_positive))

    def _on_move(self, viewer: Any, event: Any) -> None:
        if self._problem() is None:
            self._moved(*self._placed.locate(event.position))

    def _layer_is_drawn_in(self) -> bool:
        """Whether the active layer's own tool has the mouse."""
        return is_drawn_in(self._viewer.layers.selection.active)

    def _problem(self) -> str | None:
        dims = self._viewer.dims
        if dims.ndisplay != 2:
            return "prompts are given in the 2-D view; switch to it (Ctrl+Y) and click again."
        if not self._placed.is_shown_flat(dims.displayed, dims.ndim):
            return "prompts are given in planes of rows and columns; roll the axes back (Ctrl+E) and click again."
        return None
