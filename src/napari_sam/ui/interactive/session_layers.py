"""The layers of a session: committed objects, the current one, and the prompts it was pointed at with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from napari.layers import Labels, Points, Shapes
from napari.utils.colormaps import DirectLabelColormap

from napari_sam.ui.interactive.marks import POSITIVE_COLOUR, Marks, Preview, Stamp, stamp
from napari_sam.ui.interactive.placing import PlacedImage
from napari_sam.workflows.annotating.interactive import Box, SparseLabels

ROLE = "napari-sam-tiles"
"""Key of a layer's metadata that says what it is in a session."""
EDITABLE_PX = 2048 * 2048
"""Pixels of a plane up to which committed objects are one editable layer.

napari paints only into layers without levels, and of these it holds the whole plane in memory twice and sends it to the
graphics card at each refresh: at 2048 x 2048 a quarter of a second, at 4096 x 4096 more than one. Above, objects are a
read-only pyramid of the same sparse labels, of which napari reads what the screen shows; hand painting then happens in
a window of its own (`ui/interactive/painting.py`).
"""
_COARSEST_PX = 1024
_PREVIEW_COLOURS = {0: "transparent", 1: "#ffd54a", 2: "#ff7a3d", 3: "#7fb2ff", None: "transparent"}


class SessionLayers:
    """Makes the layers, keeps them up to date, makes those again that the user deleted."""

    def __init__(self, viewer: Any, placed: PlacedImage, labels: SparseLabels) -> None:
        self._viewer, self._placed, self._labels = viewer, placed, labels
        self.image_name = placed.layer.name
        self.objects: Labels | None = None
        self.preview: Labels | None = None
        self.points: Points | None = None
        self.outlines: Shapes | None = None
        self._marks: Marks | None = None
        self._previews: tuple[Preview, ...] | None = None
        """What the layers show, and None where they have to be set anew."""

    @property
    def is_pyramid(self) -> bool:
        """Whether the layer of objects is a read-only pyramid."""
        height, width = self._labels.frame_size
        return height * width > EDITABLE_PX

    def ensure(self) -> list[Any]:
        """Add the layers that are not in the viewer; returns those added."""
        present, added = set(map(id, self._viewer.layers)), []
        for name, make in (
            ("objects", self._new_objects),
            ("preview", self._new_preview),
            ("outlines", self._new_outlines),
            ("points", self._new_points),
        ):
            if id(getattr(self, name)) not in present:
                layer = self._viewer.add_layer(make())
                layer.metadata[ROLE] = name
                setattr(self, name, layer)
                added.append(layer)
        if added:
            self._marks = self._previews = None
            for layer in self.layers():
                if layer is not self.objects:
                    layer.editable = False
            self._viewer.layers.selection.active = self.objects
        return added

    def layers(self) -> list[Any]:
        """Those that are in the viewer."""
        ours = (self.objects, self.preview, self.outlines, self.points)
        return [layer for layer in ours if layer is not None and layer in self._viewer.layers]

    def redraw(self, boxes: Iterable[tuple[Sequence[int], Box]]) -> None:
        """Show what changed in the labels."""
        if self.objects is None:
            return
        if self.is_pyramid:
            self.objects.refresh(extent=False, thumbnail=False)
            return
        for plane, box in boxes:
            if not _redrawn_in_part(self.objects, tuple(plane), box):
                self.objects.refresh(extent=False, thumbnail=False)
                return

    def show(self, previews: Sequence[Preview], marks: Marks) -> None:
        """Show the masks of objects that are not committed, and their prompts."""
        # napari draws anew at each assignment, which costs more than the model's answer: only what is new is assigned.
        before, self._marks = self._marks, marks
        if self.preview is not None and not _are_same(previews, self._previews):
            self._place(self.preview, stamp(previews, self._labels.frame_size, self._labels.ndim))
            self._previews = tuple(previews)
        if self.points is not None and (before is None or before.points_part != marks.points_part):
            _set_points(self.points, marks)
        if self.outlines is not None and (before is None or before.outlines_part != marks.outlines_part):
            _set_outlines(self.outlines, marks, self._placed.pixels_per_world() / self._viewer_zoom())

    def follow_image(self) -> None:
        """Put the layers where the image lies by now."""
        for layer in (self.objects, self.points, self.outlines):
            if layer is not None:
                _put(layer, self._placed.placement())
        self._previews = None

    def close(self) -> None:
        """Take the layers away but for the objects, which stay as they are and cannot be painted in any more."""
        for layer in self.layers():
            if layer is not self.objects:
                self._viewer.layers.remove(layer)
        if self.objects is not None:
            self.objects.metadata[ROLE] = "closed"
            self.objects.editable = False
        self.objects = self.preview = self.points = self.outlines = None

    def _new_objects(self) -> Labels:
        for layer in list(self._viewer.layers):
            if layer.metadata.get(ROLE) == "closed" and layer.name == f"{self.image_name} objects":
                self._viewer.layers.remove(layer)
        data: Any = self._labels
        if self.is_pyramid:
            data = [self._labels, *(self._labels.level(k) for k in range(1, self._n_levels()))]
        return Labels(data, name=f"{self.image_name} objects", multiscale=self.is_pyramid, **self._placed.placement())

    def _n_levels(self) -> int:
        side, count = max(self._labels.frame_size), 1
        while side > _COARSEST_PX:
            side, count = -(-side // 2), count + 1
        return count

    def _new_preview(self) -> Labels:
        return Labels(
            np.zeros((1,) * self._labels.ndim, np.uint8),
            name="current object",
            colormap=DirectLabelColormap(color_dict=_PREVIEW_COLOURS),
            opacity=0.5,
            **self._placed.placement(),
        )

    def _new_points(self) -> Points:
        return Points(
            np.zeros((0, self._labels.ndim)),
            ndim=self._labels.ndim,
            name=f"{self.image_name} prompts",
            size=10,
            canvas_size_limits=(9, 13),
            border_color="white",
            border_width=0.15,
            face_color=POSITIVE_COLOUR,
            **self._placed.placement(),
        )

    def _new_outlines(self) -> Shapes:
        return Shapes(
            ndim=self._labels.ndim, name=f"{self.image_name} outlines", opacity=0.9, **self._placed.placement()
        )

    def _place(self, preview: Labels, drawn: Stamp) -> None:
        if drawn.pixels.size == 1 and not drawn.pixels.any() and not np.any(preview.data):
            return
        preview.data = drawn.pixels
        _put(preview, self._placed.placement(drawn.origin, drawn.step))

    def _viewer_zoom(self) -> float:
        return max(float(camera_of(self._viewer).zoom), 1e-9)


def camera_of(viewer: Any) -> Any:
    """The camera of a viewer; napari moved it in 0.9."""
    return getattr(viewer, "scene", viewer).camera


def _put(layer: Any, placement: dict[str, Any]) -> None:
    for name in ("scale", "translate", "affine"):
        if name in placement and not np.array_equal(_matrix(getattr(layer, name)), _matrix(placement[name])):
            setattr(layer, name, placement[name])


def _matrix(place: Any) -> Any:
    return getattr(place, "affine_matrix", place)


def _are_same(a: Sequence[Preview], b: Sequence[Preview] | None) -> bool:
    """Whether both show the very same masks."""
    return (
        b is not None
        and len(a) == len(b)
        and all(x.mask is y.mask and x.plane == y.plane and x.value == y.value for x, y in zip(a, b, strict=True))
    )


def _redrawn_in_part(layer: Any, plane: tuple[int, ...], box: Box) -> bool:
    """Update what napari holds of one box of the plane it shows; False where this napari has no way of doing so.

    What napari does itself after a stroke of the brush. There is no public way: `refresh` reads and uploads all.
    """
    try:
        order = list(layer._slice_input.displayed)
        if layer.contour or order != sorted(order) or len(order) != 2 or not layer.loaded:
            return False
        shown = tuple(int(i) for i in np.round(layer.world_to_data(layer._slice.slice_input.world_slice.point))[:-2])
        if plane != shown:
            return True
        raw = layer.data[(*plane, *box.slices)]
        layer._slice.image.raw[box.slices] = raw
        layer._slice.image.view[box.slices] = layer.colormap._data_to_texture(raw)
        leading = tuple(slice(i, i + 1) for i in plane)
        layer._updated_slice = (*leading, *box.slices)
        layer._partial_labels_refresh()
    except (AttributeError, IndexError, TypeError, ValueError):
        return False
    return True


def _set_points(layer: Points, marks: Marks) -> None:
    layer.data = np.array(marks.points).reshape(-1, layer.ndim)
    layer.selected_data = set()
    if marks.points:
        layer.face_color = list(marks.colours)
        layer.symbol = list(marks.symbols)


def _set_outlines(layer: Shapes, marks: Marks, pixel_of_screen: float) -> None:
    layer.selected_data = set()
    layer.data = []
    if marks.outlines:
        layer.add(
            [np.array(outline) for outline in marks.outlines],
            shape_type=list(marks.outline_types),
            edge_color=list(marks.outline_colours),
            face_color="transparent",
            edge_width=1.5 * pixel_of_screen,
        )
