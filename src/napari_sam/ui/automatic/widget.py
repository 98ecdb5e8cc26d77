"""The widget *Automatic segmentation*: an Image layer in, a Labels layer out, napari usable meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import QGridLayout, QProgressBar, QScrollArea, QVBoxLayout, QWidget

import napari_sam
from napari_sam.errors import NapariSamError, RunInterrupted
from napari_sam.ui import parts
from napari_sam.ui.automatic.form import RunRequest, SettingsPanel
from napari_sam.ui.automatic.refilter import RefilterPanel
from napari_sam.ui.automatic.region import view_corners
from napari_sam.ui.automatic.remaining import RemainingTime
from napari_sam.ui.automatic.result_layer import Outcome, ResultLayer
from napari_sam.ui.automatic.run_view import RunView
from napari_sam.ui.automatic.tile_signals import TileSignals
from napari_sam.ui.automatic.tuning import TuningPanel
from napari_sam.ui.automatic.work import plane_work, stack_work
from napari_sam.ui.worker import Job, Work
from napari_sam.workflows import stack as workflows_stack
from napari_sam.workflows.refilter import KeptObjects, ObjectFilterConfig, write_kept
from napari_sam.workflows.stages import StageProgress

if TYPE_CHECKING:
    import napari.viewer

LOOK_MS = 250
"""How often a run is told where the user looks."""
LEAST_WIDTH_PX = 340
"""So that the sliders are long enough to be set."""


class AutomaticSegmentation(QWidget):
    """Form, run, result: starts `napari_sam.segment` on another thread, shows its tiles, and filters what it found.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Where layers are taken from and the result is added.
    segment : callable, optional
        What segments, called as :func:`napari_sam.segment`, which it is when None.
    segment_stack : callable, optional
        The same for all planes of a stack: :func:`napari_sam.workflows.stack.segment_stack` when None.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        segment: Callable[..., Any] | None = None,
        segment_stack: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        self._viewer = viewer
        self._segment = napari_sam.segment if segment is None else segment
        self._segment_stack = workflows_stack.segment_stack if segment_stack is None else segment_stack
        self._job: Job | None = None
        self._run_view: RunView | None = None
        self._signals: TileSignals | None = None
        self._request: RunRequest | None = None
        self._failed_layer: Any = None
        self.result: ResultLayer | None = None
        self._remaining = RemainingTime()
        self._links = ExitStack()
        self.settings = SettingsPanel(viewer, self._links)
        self.refilter = RefilterPanel()
        self.tuning = TuningPanel(viewer)
        self.run = parts.button("Segment", "Begin, or go on with an earlier run of this 'Save as'.", self._start)
        self.pause = parts.button(
            "Pause", "Wait after the current tile; what is finished is on the disk.", self._pause_or_go_on
        )
        self.stop = parts.button(
            "Stop",
            "End after the current tile; with the same settings and 'Save as', the run goes on later.",
            self._ask_to_stop,
        )
        self.retry = parts.button("Retry failed", "Segment the tiles shown in red again.", self._retry)
        self.progress = QProgressBar()
        self.status = parts.text("What happened last")
        self._look_timer = QTimer(self)
        self._look_timer.setInterval(LOOK_MS)
        self._lay_out()
        self._connect()
        self._set_running(False)
        self._say(self.settings.problem)

    def event(self, event: QEvent) -> bool:
        """Close down when the widget is taken out of the window, which napari does instead of closing it."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._end_run_view()
            self._links.close()
            self.deleteLater()
        return bool(super().event(event))

    def _connect(self) -> None:
        self.refilter.changed.connect(self._filter)
        self.refilter.keep_pressed.connect(self._keep)
        self.tuning.accepted.connect(self.refilter.apply)
        self._look_timer.timeout.connect(self._look)
        removed = self._viewer.layers.events.removed
        removed.connect(self._forget_removed)
        self._links.callback(removed.disconnect, self._forget_removed)
        self._links.callback(self._abandon)
        # Not a method of this object: Qt would drop the connection before it is needed.
        self.destroyed.connect(partial(_close, self._links))

    # Starting and steering

    def _start(self) -> None:
        try:
            request = self.settings.request()
        except NapariSamError as error:
            self._say(str(error))
            return
        self._begin_run(request)

    def _retry(self) -> None:
        if self._request is not None:
            self._begin_run(replace(self._request, restart=False))

    def _begin_run(self, request: RunRequest) -> None:
        if self._job is not None:
            return
        self._request = request
        self._signals = TileSignals()
        self._run_view = RunView(self._viewer, request.plane, self._signals)
        self._look()
        self._look_timer.start()
        self._begin(
            plane_work(self._segment, request, self._signals)
            if request.link is None
            else stack_work(self._segment_stack, request, self._signals),
            f"Segmenting {request.plane.name}",
            lambda outcome: self._show(outcome, request),
            stopped="Stopped. With the same settings and the same 'Save as', the next run goes on from here.",
        )

    def _begin(self, work: Work, description: str, done: Callable[[Any], None], *, stopped: str) -> None:
        self._remaining = RemainingTime()
        self._job = Job(
            work,
            description=description,
            told=partial(self._tell, description),
            done=done,
            failed=lambda error: self._say(f"Failed: {error}"),
            closed=partial(self._close_job, stopped),
        )
        self._set_running(True)
        self._say(f"{description} ...")
        self._job.start()

    def _tell(self, description: str, stage: str, done: int, total: int) -> None:
        self._remaining.tell(stage, done, total)
        self.progress.setRange(0, max(total, 1))
        self.progress.setValue(done)
        left = self._remaining.as_text()
        self.progress.setFormat(f"{stage} %v of %m" + (f", {left}" if left else ""))
        if self._job is not None and not (self._job.is_paused or self._job.is_stopping):
            self._say(f"{description}: {stage} {done} of {total}")

    def _look(self) -> None:
        if self._signals is not None and self._request is not None and self._request.image in self._viewer.layers:
            self._signals.follower.look_at(view_corners(self._request.image))

    def _pause_or_go_on(self) -> None:
        if self._job is None:
            return
        if self._job.is_paused:
            self._job.go_on()
            self._remaining.go_on()
            self.pause.setText("Pause")
            self._say("Going on ...")
        else:
            self._job.pause()
            self._remaining.pause()
            self.pause.setText("Continue")
            self._say("Paused after the current tile. What is finished is on the disk.")

    def _ask_to_stop(self) -> None:
        if self._job is not None:
            self._job.stop()
            self._say("Stopping after the current tile ...")

    def _close_job(self, stopped: str) -> None:
        if self._job is not None and self._job.is_stopping:
            self._say(stopped)
        self._job = None
        self._end_run_view()
        self._set_running(False)

    def _end_run_view(self) -> None:
        self._look_timer.stop()
        if self._run_view is not None:
            self._run_view.close()
        self._run_view = self._signals = None

    def _abandon(self) -> None:
        """The widget or the window goes: the job ends after its tile, and tells nobody."""
        if self._job is not None:
            self._job.abandon()
            self._job = None
        if self._run_view is not None:
            self._run_view.abandon()

    # The result

    def _show(self, outcome: Outcome, request: RunRequest) -> None:
        failed = self._run_view.failed if self._run_view is not None else {}
        self._remove_layers_of(outcome.output)
        preview = None
        if self._run_view is not None:
            self._failed_layer = self._run_view.show_failed()
            preview = self._run_view.hand_over()
        self.result = ResultLayer(self._viewer, outcome, request.plane, preview)
        self.refilter.set_result(self.result.features)
        self.tuning.set_result(self.result)
        found = f"{len(outcome.result.table)} objects in {request.plane.name}"
        if request.link is not None:
            planes = outcome.result.planes
            found += f", linked over {len(planes)} planes"
            incomplete = [str(i) for i, plane in enumerate(planes) if not plane.is_complete]
            if incomplete:
                found += f"; tiles failed in planes {', '.join(incomplete)}: press 'Segment' to try them again"
        if failed:
            found += f"; {len(failed)} tiles failed, shown in red: press 'Retry failed' to try them again"
        self._say(f"{found}.")

    def _remove_layers_of(self, output: Path) -> None:
        """Take away what a new result replaces: red tiles, and the layer of the same files unless it was drawn on."""
        if self._failed_layer is not None and self._failed_layer in self._viewer.layers:
            self._viewer.layers.remove(self._failed_layer)
        self._failed_layer = None
        if self.result is not None and self.result.outcome.output == output and not self.result.is_edited:
            self.result.remove()

    def _filter(self, limits: ObjectFilterConfig) -> None:
        if self.result is not None and self.result.is_shown:
            shown = self.result.show_only(limits)
            self.refilter.show_count(shown, len(self.result.kept))

    def _keep(self) -> None:
        if self._job is None and self.result is not None and self.result.is_stack:
            self._say("Of linked planes, save the layer instead: File > Save Selected Layers writes what is shown.")
        elif self._job is None and self.result is not None:
            objects, kept, output = self.result.outcome.result.objects, self.result.kept, self.result.outcome.output

            def work(progress: StageProgress, should_stop: Callable[[], bool]) -> KeptObjects:
                def step(done: int, total: int) -> None:
                    progress("labels", done, total)
                    if should_stop():
                        raise RunInterrupted(f"stopped after {done} of {total} steps; nothing was written.")

                return write_kept(objects, kept, output, progress=step)

            self._begin(work, "Writing the kept objects", self._tell_kept, stopped="Stopped; nothing was written.")

    def _tell_kept(self, written: KeptObjects) -> None:
        self._say(f"{written.objects} objects written to {written.labels} and {written.table.name}.")

    def _forget_removed(self, event: Any) -> None:
        if event.value is self._failed_layer:
            self._failed_layer = None
            self._set_running(self._job is not None)
        if self.result is not None and event.value is self.result.layer:
            self.result = None
            self.tuning.set_result(None)
            self.refilter.set_result(None)

    # Looks

    def _set_running(self, running: bool) -> None:
        self.run.setEnabled(not running)
        self.refilter.keep.setEnabled(not running)
        self.retry.setVisible(self._failed_layer is not None)
        self.retry.setEnabled(not running)
        self.pause.setText("Pause")
        for shown in (self.pause, self.stop):
            shown.setEnabled(running)
        self.progress.setVisible(running)
        if running:
            self.progress.setRange(0, 0)  # moving: nothing is known yet
            self.progress.setFormat("")

    def _say(self, text: str) -> None:
        self.status.setText(text)

    def _lay_out(self) -> None:
        inside = QWidget()
        column = QVBoxLayout(inside)
        for part in (self.settings, self.refilter, self.tuning):
            column.addWidget(part)
        column.addStretch()
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inside)
        # Without a bar below, the scroll area must be as wide as what it holds.
        width = inside.minimumSizeHint().width() + scroll.verticalScrollBar().sizeHint().width()
        scroll.setMinimumWidth(max(width, LEAST_WIDTH_PX))
        buttons = QGridLayout()
        for place, button in enumerate((self.run, self.pause, self.stop)):
            buttons.addWidget(button, 0, place)
        buttons.addWidget(self.retry, 1, 0, 1, 3)
        layout = QVBoxLayout(self)
        layout.addWidget(scroll, stretch=1)
        layout.addLayout(buttons)
        layout.addWidget(self.progress)
        layout.addWidget(self.status)


def _close(links: ExitStack) -> None:
    links.close()
