"""The form of the widget *Review*: its fields and buttons, without what they do."""

from __future__ import annotations

from typing import Any

from napari.layers import Image
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGroupBox,
    QLabel,
    QProgressBar,
    QSizePolicy,
    QSpinBox,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_sam.ui import parts
from napari_sam.ui.layer_choice import LayerChoice
from napari_sam.ui.model_choice import ModelChoice
from napari_sam.workflows.annotating.data_engine import CONFIDENT
from napari_sam.workflows.annotating.retraining import RetrainConfig
from napari_sam.workflows.field_help import field_help

VERDICT_KEYS = {"accept": "A", "reject": "R", "fix": "F", "skip": "S"}
"""They hold while a round is on; while an object is mended, the keys of *Interactive segmentation* do."""
MODE_TEXTS = {"semi-automatic": "semi-automatic: what is sure", "automatic": "automatic: everything"}


class ReviewForm(QWidget):
    """Fields and buttons; `ReviewWidget` gives them their meaning."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.session_text = parts.text("What is reviewed")
        self.status = parts.text("What happened last")
        self.bar = QProgressBar()
        self.stop = parts.button("Stop", "End the job that runs; what it has finished is kept.")
        self.model = ModelChoice("Finds masks, answers where objects are mended, and is what a retraining begins with.")
        self.tabs = QTabWidget()
        self.tabs.addTab(self._review_tab(viewer), "Review")
        self.tabs.addTab(self._prefill_tab(), "Prefill")
        self.tabs.addTab(self._retrain_tab(), "Retrain")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        layout.addWidget(self.session_text)
        fields = QFormLayout()
        fields.addRow("Model", self.model)
        layout.addLayout(fields)
        layout.addWidget(self.tabs)
        layout.addLayout(parts.row(self.bar, self.stop))
        layout.addWidget(self.status)
        layout.addStretch()
        self.bar.hide()
        self.stop.hide()

    def _review_tab(self, viewer: Any) -> QWidget:
        self.image = LayerChoice(viewer, (Image,), "The image that an automatic result was made from.")
        self.open = parts.button(
            "Open result ...", "Review NAME.ome.zarr of an automatic run, with the table beside it."
        )
        self.begin = parts.button("Review", "Go through the objects, the most doubtful first; press again to end.")
        self.begin.setCheckable(True)
        self.by_hand = QCheckBox("by hand too")
        self.by_hand.setToolTip("Also objects that were clicked or painted; a person has seen these already.")
        self.object_text = parts.text("The object under review")
        self.done = QProgressBar()
        self.done.setFormat("%v of %m reviewed")
        self.verdicts = {
            "accept": parts.button("Accept", "The mask is right as it is."),
            "reject": parts.button("Reject", "The mask is of no use; its pixels stay until it is deleted."),
            "fix": parts.button("Fix", "Mend it with prompts; Enter commits it as fixed, Escape leaves it as it was."),
            "skip": parts.button("Skip", "Leave it without a verdict."),
        }
        for name, button in self.verdicts.items():
            button.setText(f"{button.text()} ({VERDICT_KEYS[name]})")
        self.rating = QComboBox()
        self.rating.addItem("no rating", None)
        for value in range(1, 11):
            self.rating.addItem(f"{value}" + {1: " useless", 10: " perfect"}.get(value, ""), value)
        self.rating.setToolTip("If wanted: quality of the mask from 1 to 10, stored with the next verdict.")
        self.delete_rejected = parts.button(
            "Delete rejected", "Take rejected objects out of the labels; can be undone."
        )
        result = parts.group("Result of an automatic run", parts.row(self.image, self.open))
        queue = parts.group(
            "Queue",
            parts.row(self.begin, self.by_hand),
            self.object_text,
            parts.row(*list(self.verdicts.values())[:2]),
            parts.row(*list(self.verdicts.values())[2:]),
            parts.row(self.rating, self.delete_rejected),
            self.done,
        )
        return _page(result, queue, self._audit_box())

    def _audit_box(self) -> QGroupBox:
        self.audit_count = _spin(5, 500, 30, "Objects, or places, to draw at random.")
        self.audit = parts.button("Objects", "Review objects drawn at random: their verdicts estimate the precision.")
        self.places = parts.button(
            "Places", "Look at windows at random and count missed objects: that estimates the recall."
        )
        self.missed = _spin(0, 999, 0, "Objects with their middle in the frame that have no mask.")
        self.next_place = parts.button("Next place", "Store the count, and show the next window.")
        self.audit_text = parts.text("What the audit says")
        self.missed_row = QWidget()
        self.missed_row.setLayout(parts.row(QLabel("missed here"), self.missed, self.next_place))
        draw = parts.row(self.audit_count, self.audit, self.places)
        return parts.group("Random audit", draw, self.missed_row, self.audit_text)

    def _prefill_tab(self) -> QWidget:
        self.mode = QComboBox()
        for mode, text in MODE_TEXTS.items():
            self.mode.addItem(text, mode)
        self.mode.setToolTip("Assisted manual needs no prefilling: click with Interactive segmentation.")
        self.min_iou = _share(CONFIDENT.min_predicted_iou, "Prefill masks of at least this predicted IoU.")
        self.min_stability = _share(CONFIDENT.min_stability_score, "Prefill masks of at least this stability score.")
        self.prefill = parts.button("Find and prefill", "Segment the plane that is shown; objects there already stay.")
        fields = QFormLayout()
        fields.addRow("Mode", self.mode)
        fields.addRow("Predicted IoU ≥", self.min_iou)
        fields.addRow("Stability ≥", self.min_stability)
        return _page(parts.group("Automatic masks as objects", fields, self.prefill))

    def _retrain_tab(self) -> QWidget:
        texts = field_help(RetrainConfig)
        self.minutes = QDoubleSpinBox()
        self.minutes.setRange(0.1, 600)
        self.minutes.setDecimals(1)
        self.minutes.setValue(RetrainConfig().minutes)
        self.minutes.setSuffix(" min")
        self.minutes.setToolTip(texts["minutes"])
        self.held_back = _share(RetrainConfig().held_back, texts["held_back"])
        self.held_back.setRange(0.05, 0.9)
        self.complete = parts.button(
            "All in view is labelled", "Every object in the view has a mask: what is between them is background."
        )
        self.retrain = parts.button("Retrain on what I verified", "The model goes on learning, in the background.")
        self.retrain_text = parts.text("What the retraining came to")
        fields = QFormLayout()
        fields.addRow("Time", self.minutes)
        fields.addRow("Held back", self.held_back)
        return _page(parts.group("Fine-tune the model", fields, self.complete, self.retrain, self.retrain_text))


def _page(*groups: QWidget) -> QWidget:
    page = QWidget()
    layout = QVBoxLayout(page)
    layout.setContentsMargins(2, 4, 2, 2)
    for group in groups:
        layout.addWidget(group)
    layout.addStretch()
    return page


def _spin(least: int, most: int, value: int, tooltip: str) -> QSpinBox:
    spin = QSpinBox()
    spin.setRange(least, most)
    spin.setValue(value)
    spin.setToolTip(tooltip)
    return spin


def _share(value: float, tooltip: str) -> QDoubleSpinBox:
    spin = QDoubleSpinBox()
    spin.setRange(0, 1)
    spin.setSingleStep(0.05)
    spin.setDecimals(2)
    spin.setValue(value)
    spin.setToolTip(tooltip)
    return spin
