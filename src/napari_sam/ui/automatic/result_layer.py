"""The layer of a finished result: its features, and which of its objects are shown. The files never change."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.ui.layers import ShownPlane, labels_layer
from napari_sam.workflows.refilter import ObjectFilterConfig, label_lookup, look_up
from napari_sam.workflows.stack import StackResult

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Labels


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to, ready to be shown."""

    result: Any
    """A SegmentResult, or a StackResult."""
    levels: list[Any]
    """Its label image, finest first: one array in memory, or lazy ones."""
    output: Path


class ResultLayer:
    """A Labels layer with the objects of a run of a plane or a stack.

    Small results are arrays in memory that can be painted on by hand; larger ones are read where they are looked at.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Gets the layer.
    outcome : Outcome
    plane : ShownPlane
        What was segmented.
    preview : Labels, optional
        A layer of the same place that has served: it becomes the result's where it can. To take a layer away and add
        another one costs napari a third of a second, in which the window is held up.
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, outcome: Outcome, plane: ShownPlane, preview: Labels | None = None
    ) -> None:
        self.outcome = outcome
        self.plane = plane
        self.features: dict[str, Any] = dict(outcome.result.table.columns())
        self.kept = np.ones(len(outcome.result.table), dtype=np.bool_)
        self._viewer = viewer
        placed = [labels_layer(level, plane) for level in outcome.levels]
        self._levels = [level for level, *_ in placed]
        is_multiscale = len(placed) > 1
        shown: Any = self._levels if is_multiscale else self._levels[0]
        if self.is_in_memory:
            shown = shown.copy()
            self._written = shown.copy()
        if preview is not None and preview.multiscale == is_multiscale:
            self.layer: Labels = preview
            self._take_over(shown, placed[0][1]["name"])
            return
        if preview is not None:
            viewer.layers.remove(preview)
        self.layer = viewer.add_labels(shown, features=self._rows(), multiscale=is_multiscale, **placed[0][1])

    def _take_over(self, shown: Any, name: str) -> None:
        """Make the layer that is there show the result."""
        layer = self.layer
        layer.data, layer.features, layer.name, layer.cache = shown, self._rows(), name, True
        layer.editable = self.is_in_memory
        self._viewer.layers.selection.active = layer

    @property
    def is_in_memory(self) -> bool:
        """Whether the layer's pixels are an array that can be painted on."""
        return len(self._levels) == 1 and isinstance(self._levels[0], np.ndarray)

    @property
    def is_stack(self) -> bool:
        """Whether it is of all planes of a stack, linked."""
        return isinstance(self.outcome.result, StackResult)

    @property
    def is_shown(self) -> bool:
        """Whether the layer is still there."""
        return self.layer in self._viewer.layers

    @property
    def is_edited(self) -> bool:
        """Whether somebody has drawn on it."""
        return self.is_in_memory and not np.array_equal(self.layer.data, self._written)

    def remove(self) -> None:
        """Take the layer away if it is still there."""
        if self.is_shown:
            self._viewer.layers.remove(self.layer)

    def show_only(self, limits: ObjectFilterConfig) -> int:
        """Show the objects within the limits; how many they are. What was drawn by hand stays."""
        self.kept = limits.keeps(self.features)
        lookup = label_lookup(self.features["label"], self.kept)
        if not self.is_in_memory:
            self.layer.data = [
                level.map_blocks(partial(look_up, lookup=lookup), dtype=level.dtype, meta=level._meta)
                for level in self._levels
            ]
        elif self._take_over_edits():
            np.copyto(self._written, look_up(self._levels[0], lookup))
            # In place: napari then only draws anew, where new data would make it measure the layer again.
            np.copyto(self.layer.data, self._written)
            self.layer.refresh(extent=False)
        return int(np.count_nonzero(self.kept))

    def _take_over_edits(self) -> bool:
        """Keep what was drawn since the last time; whether the layer still has pixels that fit."""
        drawn = self.layer.data
        if not isinstance(drawn, np.ndarray) or drawn.shape != self._written.shape:
            return False  # somebody gave the layer other data: they are not ours to filter
        edited = drawn != self._written
        if edited.any():
            self._levels[0][edited] = drawn[edited]
        return True

    def _rows(self) -> dict[str, Any]:
        """Columns as napari wants them: `index` says which label a row is of."""
        return {"index": self.features["label"].astype(np.int64), **self.features}
