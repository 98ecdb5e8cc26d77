"""The form of an automatic run: image, region, model, preset, settings and where the result goes."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image, Shapes
from numpy.typing import NDArray
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_sam.errors import ImageError
from napari_sam.predict import PRESETS
from napari_sam.predict.config import AutoMaskConfig
from napari_sam.tiling import TilingConfig
from napari_sam.ui.automatic.region import shapes_corners, view_corners
from napari_sam.ui.fold import Fold
from napari_sam.ui.form import ConfigForm
from napari_sam.ui.interactive.arranging import placed_image
from napari_sam.ui.interactive.placing import PlacedImage, check_axes, guess_axes
from napari_sam.ui.interactive.text import channels_of
from napari_sam.ui.layer_choice import LayerChoice
from napari_sam.ui.layers import ShownPlane, shown_plane
from napari_sam.ui.model_choice import ModelChoice
from napari_sam.workflows import SegmentConfig
from napari_sam.workflows.recommended import recommended_settings
from napari_sam.workflows.stack import LinkConfig

if TYPE_CHECKING:
    import napari.viewer

NO_PRESET = "(the model's own)"
WHOLE_IMAGE, CURRENT_VIEW, SHAPES = "whole image", "current view", "shapes layer"
REGIONS = {
    WHOLE_IMAGE: "Everything is segmented.",
    CURRENT_VIEW: "Only what the window shows of the image when you press Segment.",
    SHAPES: "Only inside the rectangles, polygons and ellipses of a layer.",
}
BASIC = ("prompts", "pred_iou_thresh", "stability_score_thresh", "min_mask_region_area")
"""Settings of automatic masks that most people change; the others are folded away."""
LINKING = ("link_iou_thresh", "least_planes")
WORKING = ("workers", "torch_threads", "scheduler")
"""Of a run's settings those that say who does the work; the others follow from the layer."""


@dataclass(frozen=True, slots=True, eq=False)
class RunRequest:
    """All that a run needs, read from the form at one moment: later changes of form and layers do not reach it."""

    plane: ShownPlane
    image: Image
    """The layer the plane is of, to see what part of it is in view; it may be gone later."""
    output: Path
    model: str
    automatic: AutoMaskConfig
    tiling: TilingConfig
    config: SegmentConfig
    """What the pixels are, and by how many workers they are segmented."""
    region: list[NDArray[np.float64]] | None
    """Polygons in pixels of the plane; None for all of it."""
    restart: bool
    link: LinkConfig | None = None
    """How masks of neighbouring planes are linked; None where a single plane is segmented."""


class SettingsPanel(QWidget):
    """What is asked before a run; choosing a model or preset fills in its settings, which can then be changed.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    links : ExitStack
        Takes what undoes the connections to the viewer.
    """

    def __init__(self, viewer: napari.viewer.Viewer, links: ExitStack) -> None:
        super().__init__()
        self._viewer = viewer
        self.image = LayerChoice(viewer, (Image,), "The layer to segment. Of a stack, the plane under the sliders.")
        self.axes = QLineEdit()
        self.axes.setToolTip(
            "One letter an axis of the layer: T time, C channel, Z depth, Y row, X column. Where channels are not "
            "first, or rows and columns not last, the image is shown once more with its axes in that order."
        )
        self.channels = QLineEdit()
        self.channels.setPlaceholderText("all")
        self.channels.setToolTip("Up to three channels to look at, such as 0, 2; empty takes all of up to three.")
        self.region = _combo(list(REGIONS), "\n".join(f"{name}: {text}" for name, text in REGIONS.items()))
        self.shapes = LayerChoice(viewer, (Shapes,), REGIONS[SHAPES])
        for layers in (self.image, self.shapes):
            links.callback(layers.release)
        self.model = ModelChoice("nano is built in; others are fetched, or your own added, with the widget Models.")
        self.problem = self.model.fill()
        """Why not all models are offered; empty if they are."""
        self.model.setCurrentIndex(max(self.model.findData("nano"), 0))
        self.preset = _combo([NO_PRESET, *PRESETS], "Settings for a kind of image.")
        self.output = QLineEdit()
        self.output.setPlaceholderText("a temporary folder")
        self.output.setToolTip(
            "Where labels are written, as OME-Zarr. With the same name and settings, an interrupted run goes on; "
            "also after napari was closed."
        )
        self.all_planes = QCheckBox("All planes, linked to 3-D objects")
        self.all_planes.setToolTip(
            "Of a stack or film: every plane is segmented, and masks that overlap from plane to plane are one object."
        )
        self.linking = ConfigForm(LinkConfig, LINKING)
        self.linking.set_values({f.name: f.default for f in fields(LinkConfig)})
        self.restart = QCheckBox("Replace an earlier run of this name")
        self.restart.setToolTip("Forget what an earlier run with this 'Save as' has finished.")
        self.basic = ConfigForm(AutoMaskConfig, BASIC)
        self.advanced = ConfigForm(AutoMaskConfig, [f.name for f in fields(AutoMaskConfig) if f.name not in BASIC])
        self.tiling = ConfigForm(TilingConfig, [f.name for f in fields(TilingConfig)])
        self.tiling.set_values({f.name: f.default for f in fields(TilingConfig)})
        self.working = ConfigForm(SegmentConfig, WORKING)
        self.working.set_values({f.name: f.default for f in fields(SegmentConfig)})
        for choice in (self.image, self.shapes, self.model):
            choice.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._lay_out()
        self.model.currentTextChanged.connect(self._fill_in)
        self.preset.currentTextChanged.connect(self._fill_in)
        self.region.currentTextChanged.connect(self._show_shapes)
        self.image.chosen.connect(self._guess_axes)
        self.axes.textChanged.connect(self._show_linking)
        self.all_planes.toggled.connect(self._show_linking)
        self._fill_in()
        self._show_shapes()
        self._guess_axes()

    def request(self) -> RunRequest:
        """What the form asks for.

        Raises
        ------
        ImageError
            If there is no image, no such plane, or nothing in the region.
        ConfigError
            If a setting lies outside its range.
        """
        image = self.image.layer
        if image is None:
            raise ImageError("There is no image layer to segment; open an image first (File > Open, or a sample).")
        axes = self.axes.text().strip().upper()
        check_axes(image, axes)
        config = SegmentConfig(channels=channels_of(self.channels.text(), axes), **self.working.values())
        tiling, automatic = self._settings()
        link = LinkConfig(**self.linking.values()) if self.is_stack else None
        is_in_view = image.visible and axes.endswith("YX")
        # All else is checked by now: this may add a layer, and hide the other.
        placed = placed_image(self._viewer, image, axes)
        plane = self._plane(placed)
        return RunRequest(
            plane=plane,
            image=placed.layer,
            output=output_path(self.output.text()),
            model=self.model.name,
            automatic=automatic,
            tiling=tiling,
            config=replace(config, axes=plane.axes),
            region=self._region(image if is_in_view else placed.layer, placed),
            restart=self.restart.isChecked(),
            link=link,
        )

    def _settings(self) -> tuple[TilingConfig, AutoMaskConfig]:
        return (
            TilingConfig(**self.tiling.values()),
            AutoMaskConfig(**self.basic.values(), **self.advanced.values()),
        )

    def _plane(self, placed: PlacedImage, *, is_single: bool = False) -> ShownPlane:
        is_stack = self.is_stack and not is_single
        return shown_plane(placed.layer, self._viewer.dims.point, is_stack=is_stack, has_channels="C" in placed.axes)

    @property
    def _has_planes(self) -> bool:
        return bool(set(self.axes.text().strip().upper()) & set("TZ"))

    @property
    def is_stack(self) -> bool:
        """Whether all planes of a stack are asked for."""
        return self.all_planes.isChecked() and self._has_planes

    def _region(self, seen: Image, placed: PlacedImage) -> list[NDArray[np.float64]] | None:
        if self.region.currentText() == WHOLE_IMAGE:
            return None
        if self.region.currentText() == CURRENT_VIEW:
            corners = view_corners(seen)
            if corners is None:
                raise ImageError(f"layer {seen.name!r} is not in view; move it into view, or choose another region.")
            return [corners]
        shapes = self.shapes.layer
        if shapes is None:
            raise ImageError("There is no shapes layer; draw the region in one, or choose another region.")
        index = self._plane(placed, is_single=True).index
        return shapes_corners(shapes, placed.layer, index, self._viewer.dims.point)

    def _fill_in(self, _: str = "") -> None:
        preset = self.preset.currentText()
        self.preset.setToolTip("Settings for a kind of image." if preset == NO_PRESET else PRESETS[preset].description)
        settings = recommended_settings(self.model.name, None if preset == NO_PRESET else preset)
        values = {f.name: getattr(settings, f.name) for f in fields(AutoMaskConfig)}
        self.basic.set_values(values)
        self.advanced.set_values(values)

    def _show_shapes(self, _: str = "") -> None:
        self.shapes.setVisible(self.region.currentText() == SHAPES)

    def _guess_axes(self) -> None:
        layer = self.image.layer
        self.axes.setText("" if layer is None else guess_axes(layer))
        self._show_row(self.axes, layer is not None and layer.ndim > 2)
        self._show_linking()

    def _show_linking(self, _: object = None) -> None:
        self._show_row(self.channels, "C" in self.axes.text().upper())
        self.all_planes.setVisible(self._has_planes)
        self.linking.setVisible(self.is_stack)

    def _show_row(self, field: QWidget, on: bool) -> None:
        # Of the form itself only Qt 6.4 can ask this.
        field.setVisible(on)
        self._form.labelForField(field).setVisible(on)

    def _choose_output(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(self, "Save labels as", self.output.text(), "OME-Zarr (*.ome.zarr)")
        if chosen:
            self.output.setText(chosen)

    def _lay_out(self) -> None:
        browse = QPushButton("…")
        browse.setMaximumWidth(32)
        browse.setToolTip("Choose a place.")
        browse.clicked.connect(lambda _: self._choose_output())
        place = QHBoxLayout()
        place.addWidget(self.output)
        place.addWidget(browse)
        self._form = form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Image", self.image)
        form.addRow("Axes", self.axes)
        form.addRow("Channels", self.channels)
        form.addRow("", self.all_planes)
        form.addRow("Region", self.region)
        form.addRow("", self.shapes)
        form.addRow("Model", self.model)
        form.addRow("Preset", self.preset)
        form.addRow("Save as", place)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.linking)
        layout.addWidget(self.basic)
        layout.addWidget(Fold("More settings of masks", self.advanced))
        layout.addWidget(Fold("Tiles and files", self.tiling, self.restart))
        layout.addWidget(Fold("Workers", self.working))


def output_path(text: str) -> Path:
    """The path to write to: as given (`.ome.zarr` added to a bare name), else in a new temporary folder."""
    if not text.strip():
        return Path(tempfile.mkdtemp(prefix="napari-sam-")) / "labels.ome.zarr"
    chosen = Path(text.strip()).expanduser()
    return chosen if chosen.suffix else chosen.with_name(f"{chosen.name}.ome.zarr")


def _combo(options: list[str], tooltip: str) -> QComboBox:
    combo = QComboBox()
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    combo.addItems(options)
    combo.setToolTip(tooltip)
    return combo
