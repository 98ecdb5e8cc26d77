"""Windows: the pieces of a plane that the model looks at, on a lattice, so that neighbouring prompts share them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.annotate.prompts import Plane
from napari_sam.errors import PromptError
from napari_sam.geometry import Box, Edge, Mask

MARGIN = 1 / 16
"""Part of a window's side that should be left around what it is to show: a model needs to see the background too."""
CUT_PX = 2
"""A mask that comes as near as this to an inner edge of its window, in window pixels, is taken to be cut by it."""
MOST_WINDOWS_OF_VIEW = 64


@dataclass(frozen=True, slots=True)
class Window:
    """A box of a plane at a reduction: the model sees `plane.read(box, step)`."""

    plane: Plane
    box: Box
    """Full-resolution pixels; begins at a multiple of `step`, so that a pyramid level can be read as it is."""
    step: int
    """A power of two."""

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) in window pixels."""
        return -(-self.box.height // self.step), -(-self.box.width // self.step)

    def points_to_window(self, points_xy: ArrayLike) -> NDArray[np.float64]:
        """Points (N, 2) of the plane in window pixels."""
        points = np.asarray(points_xy, dtype=np.float64).reshape(-1, 2)
        return (points - (self.box.x0, self.box.y0) + 0.5) / self.step - 0.5

    def box_to_window(self, box_xyxy: ArrayLike) -> tuple[float, float, float, float]:
        """A box of the plane in window pixels, clipped to the window."""
        origin = np.tile([self.box.x0, self.box.y0], 2)
        corners = (np.asarray(box_xyxy, dtype=np.float64) - origin) / self.step
        x0, y0, x1, y1 = np.clip(corners, 0, np.tile(self.size[::-1], 2)).tolist()
        return x0, y0, x1, y1

    def mask_to_window(self, mask: Mask) -> Mask:
        """What the window shows of a mask of the plane, in window pixels, nearest neighbour."""
        part = mask.cropped(self.box)
        return part if self.step == 1 else part.scaled(1 / self.step, 1 / self.step, self.size)

    def mask_to_plane(self, mask: Mask, frame_size: tuple[int, int]) -> Mask:
        """A mask of the window in the plane's pixels; `frame_size` is the plane's (H, W)."""
        full = mask if self.step == 1 else mask.scaled(self.step, self.step, self.box.size)
        return replace(full.shifted(self.box.x0, self.box.y0, frame_size), crop_box=self.box)

    def cut_edges(self, mask: Mask, frame_size: tuple[int, int]) -> list[Edge]:
        """The edges of the window that a mask of it (window pixels) reaches and that are not the image's edges."""
        if mask.is_empty:
            return []
        (h, w), (height, width) = self.size, frame_size
        reached: dict[Edge, bool] = {
            "left": mask.box.x0 < CUT_PX and self.box.x0 > 0,
            "top": mask.box.y0 < CUT_PX and self.box.y0 > 0,
            "right": mask.box.x1 > w - CUT_PX and self.box.x1 < width,
            "bottom": mask.box.y1 > h - CUT_PX and self.box.y1 < height,
        }
        return [edge for edge, is_reached in reached.items() if is_reached]


@dataclass(frozen=True, slots=True)
class Lattice:
    """All windows of an image: of each step, those that begin at multiples of half their side.

    The last one of a row or column is moved back to end with the image, so that it shows as much as the others.
    """

    frame_size: tuple[int, int]
    """(H, W) of the plane."""
    window_px: int
    """Side of the model's frame; a window of step s has the side `window_px * s`."""

    @property
    def coarsest_step(self) -> int:
        """The step at which one window shows the whole image."""
        step = 1
        while self.window_px * step < max(self.frame_size):
            step *= 2
        return step

    def window_for(self, plane: Plane, extent: Box, view_step: int = 1) -> Window:
        """The finest window, of `view_step` or coarser, that shows an extent with some room around it.

        Of several, the one whose centre is nearest to that of the extent.

        Parameters
        ----------
        plane : tuple of int
        extent : Box
            Full-resolution pixels; what lies outside the image is left out.
        view_step : int
            Reduction of the pyramid level the user looks at: finer detail is not asked for.

        Raises
        ------
        PromptError
            If the extent lies outside the image, or `view_step` is no power of two.
        """
        if view_step < 1 or view_step & (view_step - 1):
            raise PromptError(f"view_step must be a power of two such as 1, 2 or 4, got {view_step}.")
        frame = Box.of_size(self.frame_size)
        if extent.clipped(frame).is_empty:
            raise PromptError(
                f"x {extent.x0}:{extent.x1}, y {extent.y0}:{extent.y1} lies outside the image, which is "
                f"{self.frame_size[1]} wide and {self.frame_size[0]} high; point inside it."
            )
        step, coarsest = min(view_step, self.coarsest_step), self.coarsest_step
        while step < coarsest:
            room = extent.grown(int(self.window_px * step * MARGIN)).clipped(frame)
            window = self._nearest(plane, room, extent.clipped(frame).center_xy, step)
            if window is not None:
                return window
            step *= 2
        return Window(plane, frame, coarsest)

    def coarser(self, window: Window, towards: Iterable[Edge] = ()) -> Window | None:
        """The window of twice the step that holds `window` and reaches furthest beyond the edges in `towards`.

        None for a window that shows the whole image.
        """
        frame = Box.of_size(self.frame_size)
        if window.box == frame:
            return None
        if 2 * window.step >= self.coarsest_step:
            return Window(window.plane, frame, self.coarsest_step)
        edges, reach = set(towards), self.window_px * window.step / 2
        x, y = window.box.center_xy
        x += reach * (("right" in edges) - ("left" in edges))
        y += reach * (("bottom" in edges) - ("top" in edges))
        return self._nearest(window.plane, window.box, (x, y), 2 * window.step)

    def windows_for_view(
        self, plane: Plane, view_box: Box, step: int, most: int = MOST_WINDOWS_OF_VIEW
    ) -> list[Window]:
        """The windows that clicks inside a view will need, nearest to its centre first.

        Parameters
        ----------
        plane : tuple of int
        view_box : Box
            What the user sees, in full-resolution pixels.
        step : int
            Of the level the user looks at.
        most : int
            No more than these.
        """
        view = view_box.clipped(Box.of_size(self.frame_size))
        if view.is_empty:
            return []
        corners = [
            self.window_for(plane, Box(x, y, x + 1, y + 1), step)
            for x, y in ((view.x0, view.y0), (view.x1 - 1, view.y1 - 1))
        ]
        step, (height, width) = corners[0].step, self.frame_size
        centre_x, centre_y = view.center_xy
        columns = self._starts_between(corners[0].box.x0, corners[1].box.x0, width, step, centre_x, most)
        rows = self._starts_between(corners[0].box.y0, corners[1].box.y0, height, step, centre_y, most)
        windows = [self._window(plane, x, y, step) for y in rows for x in columns]

        def distance(window: Window) -> tuple[float, int, int]:
            x, y = window.box.center_xy
            return (x - centre_x) ** 2 + (y - centre_y) ** 2, window.box.y0, window.box.x0

        return sorted(windows, key=distance)[:most]

    def _nearest(self, plane: Plane, extent: Box, centre_xy: tuple[float, float], step: int) -> Window | None:
        """Of the windows of `step` that hold `extent`, the one whose centre is nearest to a point."""
        height, width = self.frame_size
        x = self._start(extent.x0, extent.x1, centre_xy[0], width, step)
        y = self._start(extent.y0, extent.y1, centre_xy[1], height, step)
        return None if x is None or y is None else self._window(plane, x, y, step)

    def _start(self, low: int, high: int, centre: float, length: int, step: int) -> int | None:
        """Where the window begins on one axis; None if none holds `low:high`."""
        side, half = self._side(step)
        last = self._last_start(length, step)
        first, stop = -(-max(high - side, 0) // half), low // half
        starts = [k * half for k in range(first, stop + 1) if k * half < last]
        if last <= low:
            starts.append(last)
        return min(starts, key=lambda start: (abs(start + side / 2 - centre), start), default=None)

    def _starts_between(self, first: int, last: int, length: int, step: int, centre: float, most: int) -> list[int]:
        """Starts on one axis from `first` to `last`, two of them; the `most` whose window is nearest to `centre`."""
        side, half = self._side(step)
        middle = int((centre - side / 2) // half)
        lattice = {k * half for k in range(middle - most, middle + most + 2)}
        end = self._last_start(length, step)
        starts = {start for start in lattice if first <= start <= last and start < end} | {first, last}
        return sorted(starts, key=lambda start: (abs(start + side / 2 - centre), start))[:most]

    def _window(self, plane: Plane, x: int, y: int, step: int) -> Window:
        side, _ = self._side(step)
        return Window(plane, Box(x, y, x + side, y + side).clipped(Box.of_size(self.frame_size)), step)

    def _side(self, step: int) -> tuple[int, int]:
        """(side, half of it), in full-resolution pixels."""
        return self.window_px * step, max(self.window_px // 2, 1) * step

    def _last_start(self, length: int, step: int) -> int:
        """Begin of the window that ends with the image; a multiple of `step`."""
        return max(0, -(-(length - self.window_px * step) // step) * step)
