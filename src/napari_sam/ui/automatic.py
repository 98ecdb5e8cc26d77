"""The widget *Automatic segmentation*: an Image layer in, a Labels layer out, napari usable meanwhile."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from magicgui.types import FileDialogMode
from magicgui.widgets import ComboBox, Container, FileEdit, Label, PushButton, create_widget
from napari.layers import Image

import napari_sam
from napari_sam.errors import ImageError
from napari_sam.model.registry import REGISTRY
from napari_sam.predict import PRESETS
from napari_sam.ui.layers import ShownPlane, labels_layer, shown_plane
from napari_sam.ui.worker import Job, StageProgress, Work

if TYPE_CHECKING:
    import napari.viewer

NO_PRESET = "(the model's own)"


class SegmentFunction(Protocol):
    """The part of `napari_sam.segment` that the widget uses."""

    def __call__(
        self,
        image: Any,
        output: Path,
        /,
        *,
        model: str,
        preset: str | None,
        progress: StageProgress,
        should_stop: Callable[[], bool],
    ) -> Any: ...


class AutomaticSegmentation(Container):  # type: ignore[type-arg]
    """Form with an image, a model, a preset and a place for the result; runs `napari_sam.segment` on another thread.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Where layers are taken from and the result is added.
    segment : callable, optional
        What segments; `napari_sam.segment` when None.
    """

    def __init__(self, viewer: napari.viewer.Viewer, segment: SegmentFunction | None = None) -> None:
        self._viewer = viewer
        self._segment = segment
        self._job: Job | None = None
        # napari fills this one with the viewer's layers, because of its annotation.
        self.image = cast(
            ComboBox, create_widget(annotation=Image, label="Image", options={"tooltip": "The layer to segment."})
        )
        self.model = ComboBox(
            label="Model",
            choices=list(REGISTRY),
            value="nano",
            tooltip="nano is built in; others must be on this machine.",
        )
        self.preset = ComboBox(
            label="Preset",
            choices=[NO_PRESET, *PRESETS],
            tooltip="Settings for a kind of image.",
        )
        self.output = FileEdit(
            label="Save as",
            mode=FileDialogMode.OPTIONAL_FILE,
            filter="OME-Zarr (*.ome.zarr)",
            nullable=True,
            tooltip="Where labels are written, as OME-Zarr; left empty, a temporary folder.",
        )
        self.run = PushButton(text="Segment")
        self.stop = PushButton(text="Stop", enabled=False)
        self.status = Label(value="")
        buttons = Container(widgets=[self.run, self.stop], layout="horizontal", labels=False)
        super().__init__(widgets=[self.image, self.model, self.preset, self.output, buttons, self.status])
        self.run.changed.connect(self._start)
        self.stop.changed.connect(self._ask_to_stop)
        self.native.destroyed.connect(self._abandon_job)

    def _start(self) -> None:
        if self._job is not None:
            return
        try:
            plane = self._chosen_plane()
        except ImageError as error:
            self.status.value = str(error)
            return
        self._job = Job(
            self._work(plane),
            description=f"Segmenting {plane.name}",
            told=lambda stage, done, total: self._say(f"Segmenting {plane.name}: {stage} {done} of {total}"),
            done=lambda result: self._show(result, plane),
            failed=lambda error: self._say(f"Failed: {error}"),
            closed=self._close_job,
        )
        self._set_running(True)
        self._say(f"Segmenting {plane.name} ...")
        self._job.start()

    def _chosen_plane(self) -> ShownPlane:
        if self.image.value is None:
            raise ImageError("There is no image layer to segment; open an image first (File > Open, or a sample).")
        return shown_plane(self.image.value, self._viewer.dims.point)

    def _work(self, plane: ShownPlane) -> Work:
        # The form is read here, on the GUI thread; the function below runs on another.
        segment: SegmentFunction = self._segment or napari_sam.segment
        model = self.model.value
        preset = None if self.preset.value == NO_PRESET else self.preset.value
        output = _output_path(cast("Path | None", self.output.value))

        def work(progress: StageProgress, should_stop: Callable[[], bool]) -> Any:
            return segment(plane.pixels, output, model=model, preset=preset, progress=progress, should_stop=should_stop)

        return work

    def _show(self, result: Any, plane: ShownPlane) -> None:
        data, options, _ = labels_layer(result.labels, plane)
        self._viewer.add_labels(data, **options)
        self._say(f"{len(result.table)} objects in {plane.name}")

    def _ask_to_stop(self) -> None:
        if self._job is not None:
            self._job.stop()
            self._say("Stopping after the current tile ...")

    def _abandon_job(self) -> None:
        if self._job is not None:
            self._job.abandon()

    def _close_job(self) -> None:
        if self._job is not None and self._job.is_stopping:
            self._say("Stopped. With the same settings and the same 'Save as', the next run goes on from here.")
        self._job = None
        self._set_running(False)

    def _set_running(self, running: bool) -> None:
        self.run.enabled = not running
        self.stop.enabled = running

    def _say(self, text: str) -> None:
        self.status.value = text


def _output_path(chosen: Path | None) -> Path:
    """The path to write to: as chosen (`.ome.zarr` added to a bare name), else in a new temporary folder."""
    if chosen is None or not chosen.name:
        return Path(tempfile.mkdtemp(prefix="napari-sam-")) / "labels.ome.zarr"
    return chosen if chosen.suffix else chosen.with_name(f"{chosen.name}.ome.zarr")
