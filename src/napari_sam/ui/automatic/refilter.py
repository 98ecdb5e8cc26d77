"""Sliders that choose among the objects of a finished result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from qtpy.QtCore import Qt, QTimer, Signal, Slot
from qtpy.QtWidgets import QFormLayout, QGroupBox, QHBoxLayout, QLabel, QPushButton, QSlider, QVBoxLayout, QWidget
from superqt import QRangeSlider

from napari_sam.workflows.field_help import field_help
from napari_sam.workflows.refilter import ObjectFilterConfig

STEPS = 1000
"""Positions of a slider."""
_SETTLE_MS = 30
_NAMES = (("min_predicted_iou",), ("min_stability_score",), ("min_area_px", "max_area_px"))
"""The limits that each slider sets."""


class RefilterPanel(QGroupBox):
    """Sliders for predicted IoU, stability and area, and a button that writes what they leave.

    They span the values that the result has; all the way out they keep everything.
    """

    changed = Signal(object)
    """ObjectFilterConfig: the limits were moved."""
    keep_pressed = Signal()

    def __init__(self) -> None:
        super().__init__("Filter the result")
        texts = field_help(ObjectFilterConfig)
        self.predicted_iou, self._iou_text = _score_slider(texts["min_predicted_iou"])
        self.stability_score, self._stability_text = _score_slider(texts["min_stability_score"])
        self.area: Any = QRangeSlider(Qt.Orientation.Horizontal)  # type: ignore[no-untyped-call]
        self.area.setRange(0, STEPS)
        self.area.setToolTip(f"{texts['min_area_px']} {texts['max_area_px']} The scale is logarithmic.")
        self._area_text = QLabel()
        self.count = QLabel("There is no result yet.")
        self.count.setWordWrap(True)
        self.keep = QPushButton("Keep these")
        self.keep.setToolTip(
            "Write the objects that are shown as a label image and a table beside the result (NAME.kept); "
            "the result itself stays as it is."
        )
        self._lay_out()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_SETTLE_MS)
        self._timer.timeout.connect(self._tell)
        for slider in (self.predicted_iou, self.stability_score, self.area):
            slider.valueChanged.connect(self._moved)
        self.keep.clicked.connect(lambda _: self.keep_pressed.emit())
        self._scores = {"predicted_iou": (0.0, 1.0), "stability_score": (0.0, 1.0)}
        self._areas = (1, 1)
        self._applied: tuple[ObjectFilterConfig, tuple[Any, ...]] | None = None
        self.set_result(None)

    def set_result(self, features: Mapping[str, Any] | None) -> None:
        """Begin with all objects of a result; None: there is none."""
        has_rows = features is not None and len(features["label"]) > 0
        self.setEnabled(has_rows)
        if features is not None and has_rows:
            self._scores = {name: (float(features[name].min()), float(features[name].max())) for name in self._scores}
            self._areas = (max(int(features["area_px"].min()), 1), max(int(features["area_px"].max()), 1))
        self._set_silently(0, 0, (0, STEPS))
        self._applied = None
        self._timer.stop()
        self._show_texts()
        if features is None:
            self.count.setText("There is no result yet.")
        else:
            self.show_count(len(features["label"]), len(features["label"]))

    def show_count(self, kept: int, total: int) -> None:
        """Say how many objects are left."""
        self.count.setText(f"{kept} of {total} objects are shown.")

    def limits(self) -> ObjectFilterConfig:
        """What the sliders say; at an end of a slider, no limit. One that is where `apply` put it says just that."""
        smallest, largest = self.area.value()
        min_area_px = 0 if smallest == 0 else int(np.ceil(self._area_at(smallest)))
        limits = ObjectFilterConfig(
            min_predicted_iou=self._score(self.predicted_iou, "predicted_iou"),
            min_stability_score=self._score(self.stability_score, "stability_score"),
            min_area_px=min_area_px,
            max_area_px=None if largest == STEPS else max(int(self._area_at(largest)), min_area_px),
        )
        if self._applied is None:
            return limits
        given, positions = self._applied
        names = [
            name
            for names, was, is_now in zip(_NAMES, positions, self._positions(), strict=True)
            if was == is_now
            for name in names
        ]
        return replace(limits, **{name: getattr(given, name) for name in names})

    def apply(self, limits: ObjectFilterConfig) -> None:
        """Move the sliders to `limits`; each of these holds as it is until its slider is moved by hand."""
        low, high = np.log(self._areas)
        span = max(high - low, 1e-9)
        wanted = np.log([max(limits.min_area_px, 1), limits.max_area_px or self._areas[1]])
        smallest, largest = np.clip(np.round((wanted - low) / span * STEPS), 0, STEPS).astype(int)
        self._set_silently(
            self._position(limits.min_predicted_iou, "predicted_iou"),
            self._position(limits.min_stability_score, "stability_score"),
            (int(smallest), int(max(largest, smallest))),
        )
        self._applied = limits, self._positions()
        self._show_texts()
        self.changed.emit(limits)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
        form.addRow("Predicted IoU", _beside(self.predicted_iou, self._iou_text))
        form.addRow("Stability", _beside(self.stability_score, self._stability_text))
        form.addRow("Area", self.area)
        form.addRow("", self._area_text)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.count)
        layout.addWidget(self.keep)

    def _set_silently(self, predicted_iou: int, stability_score: int, area: tuple[int, int]) -> None:
        for slider, value in (
            (self.predicted_iou, predicted_iou),
            (self.stability_score, stability_score),
            (self.area, area),
        ):
            slider.blockSignals(True)
            slider.setValue(value)
            slider.blockSignals(False)

    @Slot()
    def _moved(self) -> None:
        self._show_texts()
        self._timer.start()

    @Slot()
    def _tell(self) -> None:
        self.changed.emit(self.limits())

    def _show_texts(self) -> None:
        limits = self.limits()
        self._iou_text.setText(f"≥ {limits.min_predicted_iou:.3f}")
        self._stability_text.setText(f"≥ {limits.min_stability_score:.3f}")
        largest = self._areas[1] if limits.max_area_px is None else limits.max_area_px
        self._area_text.setText(
            "" if not self.isEnabled() else f"{max(limits.min_area_px, self._areas[0])} to {largest} px"
        )

    def _positions(self) -> tuple[Any, ...]:
        return self.predicted_iou.value(), self.stability_score.value(), tuple(self.area.value())

    def _score(self, slider: QSlider, name: str) -> float:
        low, high = self._scores[name]
        return 0.0 if slider.value() == 0 else low + (high - low) * slider.value() / STEPS

    def _position(self, score: float, name: str) -> int:
        low, high = self._scores[name]
        return int(np.clip((score - low) / max(high - low, 1e-9) * STEPS, 0, STEPS))

    def _area_at(self, position: int) -> float:
        low, high = np.log(self._areas)
        return float(np.exp(low + (high - low) * position / STEPS))


def _score_slider(text: str) -> tuple[QSlider, QLabel]:
    slider = QSlider(Qt.Orientation.Horizontal)
    slider.setRange(0, STEPS)
    slider.setToolTip(text)
    return slider, QLabel()


def _beside(slider: QSlider, label: QLabel) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    label.setFixedWidth(label.fontMetrics().horizontalAdvance("≥ 0.00000"))
    layout.addWidget(slider)
    layout.addWidget(label)
    return row
