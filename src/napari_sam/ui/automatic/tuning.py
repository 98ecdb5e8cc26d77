"""Tune by example: clicks on good objects of the result become limits for the sliders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGroupBox, QVBoxLayout

from napari_sam.ui import parts
from napari_sam.ui.automatic.result_layer import ResultLayer
from napari_sam.workflows.tuning import FEWEST_EXAMPLES, Proposal, propose_limits

if TYPE_CHECKING:
    import napari.viewer

_LINES = 4
"""Of the longest text in the narrowest form."""
_INVITATION = f"Click {FEWEST_EXAMPLES} to 10 good objects in the result; a second click takes one back."


class TuningPanel(QGroupBox):
    """A switch for picking, a count, the proposed limits, and a button that hands them on.

    While picking, a click on the result's layer picks; dragging and zooming move the view as ever. Picked objects get
    a mark.
    """

    accepted = Signal(object)
    """ObjectFilterConfig: the user takes the proposed limits."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__("Tune by example")
        self.picked: dict[int, tuple[float, ...]] = {}
        """Labels of the good objects, and where each was clicked in the layer's coordinates."""
        self.proposal: Proposal | None = None
        self._viewer = viewer
        self._result: ResultLayer | None = None
        self._marks: Any = None
        self.pick = parts.button("Pick good objects", _INVITATION)
        self.pick.setCheckable(True)
        self.forget = parts.button("Forget", "Begin anew with picking.", self.clear)
        self.text = parts.text("What is proposed")
        # What is scrolled does not grow with a text that becomes longer.
        self.text.setMinimumHeight(_LINES * self.text.fontMetrics().lineSpacing())
        self.apply = parts.button("Apply to the sliders", "Show only objects like the ones you picked.", self._accept)
        layout = QVBoxLayout(self)
        layout.addLayout(parts.row(self.pick, self.forget))
        layout.addWidget(self.text)
        layout.addWidget(self.apply)
        self.pick.toggled.connect(self._switch)
        self.forget.clicked.connect(lambda _: self.clear())
        self.apply.clicked.connect(self._accept)
        self.set_result(None)

    def set_result(self, result: ResultLayer | None) -> None:
        """Pick in this result from now on; None: there is none."""
        self.pick.setChecked(False)
        self.clear()
        self._result = result
        self.setEnabled(result is not None)

    def clear(self) -> None:
        """Forget what was picked."""
        self.picked = {}
        self._update()

    def toggle(self, label: int, place: tuple[float, ...]) -> None:
        """Pick the object with this label at a place, or take it back; 0 and hand-drawn labels are nobody's."""
        if self._result is None or label not in self._result.features["label"]:
            return
        if label in self.picked:
            del self.picked[label]
        else:
            self.picked[label] = place
        self._update()

    def _switch(self, on: bool) -> None:
        if self._result is None or not self._result.is_shown:
            return
        layer = self._result.layer
        if on:
            layer.mode = "pan_zoom"
            self._viewer.layers.selection.active = layer
            layer.mouse_drag_callbacks.append(self._clicked)
        elif self._clicked in layer.mouse_drag_callbacks:
            layer.mouse_drag_callbacks.remove(self._clicked)

    def _clicked(self, layer: Any, event: Any) -> Iterator[None]:
        yield
        dragged = False
        while event.type == "mouse_move":
            dragged = True
            yield
        if not dragged:
            value = layer.get_value(
                event.position, view_direction=event.view_direction, dims_displayed=event.dims_displayed, world=True
            )
            # Of a multiscale layer napari gives (level, value); None outside.
            label = int((value[1] if isinstance(value, tuple) else value) or 0)
            self.toggle(label, tuple(layer.world_to_data(event.position)))

    def _update(self) -> None:
        self.proposal = None
        if self._result is not None and len(self.picked) >= FEWEST_EXAMPLES:
            self.proposal = propose_limits(self._result.features, self.picked)
            self.text.setText(f"{len(self.picked)} picked. Proposed: {self.proposal.as_text()}.")
        elif self.picked:
            self.text.setText(f"{len(self.picked)} picked, {FEWEST_EXAMPLES - len(self.picked)} more are needed.")
        else:
            self.text.setText(_INVITATION)
        self.apply.setEnabled(self.proposal is not None)
        self._show_marks()

    def _show_marks(self) -> None:
        there = self._marks is not None and self._marks in self._viewer.layers
        if self._result is None or not self.picked:
            if there:
                self._viewer.layers.remove(self._marks)
            self._marks = None
        elif there:
            self._marks.data = list(self.picked.values())
        else:
            self._marks = self._viewer.add_points(
                list(self.picked.values()),
                name=f"{self._result.plane.name} good examples",
                symbol="star",
                face_color="lime",
                border_color="black",
                size=12,
                **self._result.plane.placement,
            )
            self._marks.editable = False
            self._viewer.layers.selection.active = self._result.layer

    def _accept(self) -> None:
        if self.proposal is not None:
            self.accepted.emit(self.proposal.limits)
