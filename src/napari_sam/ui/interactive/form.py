"""The form of the widget *Interactive segmentation*: its fields and buttons, without what they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from napari.layers import Image, Labels, Shapes
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_sam.ui import parts
from napari_sam.ui.interactive.shortcut_table import ShortcutTable
from napari_sam.ui.interactive.shortcuts import SHORTCUTS, read_keys
from napari_sam.ui.layer_choice import LayerChoice
from napari_sam.ui.model_choice import ModelChoice
from napari_sam.workflows.annotating.interactive import POLICIES

ACT_BUTTONS = (
    ("commit", "Commit"),
    ("next_object", "Next"),
    ("cycle", "Other mask"),
    ("discard", "Discard"),
    ("undo", "Undo"),
    ("redo", "Redo"),
    ("commit_all", "Commit all"),
    ("merge", "Merge"),
)
TOOL_BUTTONS = (
    ("box", "Box"),
    ("scribble", "Scribble"),
    ("lasso", "Lasso"),
    ("brush", "Brush"),
    ("knife", "Knife"),
)
MIN_WIDTH_PX = 350
"""Narrower, buttons would lose their texts."""
POLICY_TEXTS = {
    "keep_pixels": "keep their pixels",
    "overwrite": "overwrite theirs",
    "keep_objects": "keep theirs, one piece",
}


class InteractiveForm(QWidget):
    """Fields and buttons; `InteractiveSegmentation` gives them their meaning."""

    def __init__(self, viewer: Any, rebound: Callable[[Mapping[str, str]], None]) -> None:
        super().__init__()
        self.image = LayerChoice(viewer, (Image,), "The image to annotate; for a stack the plane that is shown.")
        self.model = ModelChoice(
            "Who answers. Others are fetched with the widget Models; it can be changed at any time."
        )
        self.axes = _line("One letter an axis of the layer: T time, C channel, Z depth, Y row, X column.")
        self.channels = _line("With an axis C: up to three channels to look at, such as 0, 2. Empty takes the first.")
        self.channels.setPlaceholderText("all")
        self.journal = _line("Everything you do is written here at once; an existing one is continued.")
        self.browse = parts.small_button("...", "Choose another place for the journal.")
        self.start = QPushButton("Start")
        self.stop = QPushButton("Close session")
        self.status = parts.text("What happened last")
        self.object_text = parts.text("The current object")
        self.objects_text = parts.text("What is annotated so far")
        keys = read_keys()
        told = {shortcut.act: f"{shortcut.about} ({keys[shortcut.act]})" for shortcut in SHORTCUTS}
        self.acts = {act: parts.small_button(text, told[act]) for act, text in ACT_BUTTONS}
        self.tools = {tool: parts.small_button(text, told[f"tool_{tool}"]) for tool, text in TOOL_BUTTONS}
        self.policy = QComboBox()
        for policy in POLICIES:
            self.policy.addItem(POLICY_TEXTS[policy], policy)
        # A combo box is as wide as its longest text otherwise, and so would the form be.
        self.policy.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.policy.setMinimumContentsLength(10)
        self.policy.setToolTip("What a committed object does where its mask meets other objects.")
        self.plain_clicks = _box("Click without Ctrl", told["toggle_plain_clicks"])
        self.live = _box("Live preview", told["toggle_live"])
        self.paint = parts.small_button(
            "Paint by hand", "Take napari's brush; strokes are kept and undone with the rest."
        )
        self.boxes = LayerChoice(viewer, (Shapes, Labels), "Shapes or labels of any detector; each gives a box.")
        self.use_boxes = parts.small_button(
            "Segment boxes", "The object in each box of this layer, committed as one act."
        )
        self.propagate = parts.small_button("Follow in planes", "The current object in the planes around, to its end.")
        self.stop_job = parts.small_button("Stop", "End the job that runs; nothing half done is kept.")
        self.shortcuts = ShortcutTable(rebound)
        self._lay_out()

    def set_running(self, running: bool) -> None:
        """Allow what can be done with, or without, a session."""
        self.stop.setEnabled(running)
        self.session_box.setEnabled(running)

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        # Without it napari fills the dock with empty space below the form.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self.setMinimumWidth(MIN_WIDTH_PX)
        self.browse.setMaximumWidth(30)
        layout.addLayout(self._fields())
        layout.addLayout(parts.row(self.start, self.stop))
        layout.addWidget(self.status)
        self.session_box = QWidget()
        inside = QVBoxLayout(self.session_box)
        inside.setContentsMargins(0, 2, 2, 0)
        inside.addWidget(parts.group("Current object", self.object_text, parts.grid(list(self.acts.values()), 4)))
        inside.addWidget(
            parts.group("Ctrl + drag", parts.row(*self.tools.values()), parts.row(self.plain_clicks, self.live))
        )
        commits = QFormLayout()
        commits.addRow("Where objects meet", self.policy)
        inside.addWidget(parts.group("Objects", self.objects_text, commits, parts.row(self.paint, self.propagate)))
        inside.addWidget(parts.group("Boxes of a layer", self.boxes, parts.row(self.use_boxes, self.stop_job)))
        inside.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(self.session_box)
        self.tabs = QTabWidget()
        self.tabs.addTab(scroll, "Annotate")
        self.tabs.addTab(self.shortcuts, "Keys")
        layout.addWidget(self.tabs, stretch=1)
        self.tool_group = QButtonGroup(self)
        for button in self.tools.values():
            button.setCheckable(True)
            self.tool_group.addButton(button)
        self.tools["box"].setChecked(True)

    def _fields(self) -> QFormLayout:
        fields = QFormLayout()
        fields.setContentsMargins(0, 0, 0, 0)
        fields.addRow("Image", self.image)
        fields.addRow("Model", self.model)
        self.axes.setMaximumWidth(80)
        fields.addRow("Axes", parts.row(self.axes, QLabel("Channels"), self.channels))
        fields.addRow("Journal", parts.row(self.journal, self.browse))
        return fields


def _box(text: str, tooltip: str) -> QCheckBox:
    box = QCheckBox(text)
    box.setToolTip(tooltip)
    box.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return box


def _line(tooltip: str) -> QLineEdit:
    line = QLineEdit()
    line.setToolTip(tooltip)
    return line
