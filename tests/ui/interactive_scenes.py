"""What the tests of the interactive widget share: images of discs, a segmenter that thresholds, a mouse and keys."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from scipy import ndimage

from napari_sam.annotate.segmenter import WindowAnswer, WindowQuestion
from napari_sam.geometry import Mask
from napari_sam.ui.interactive.widget import InteractiveSegmentation

WAIT_MS = 30_000
CTRL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier
NONE = Qt.KeyboardModifier.NoModifier


def discs(side: int = 256, radius: int = 20) -> np.ndarray:
    """A bright disc in the middle of each quarter."""
    y, x = np.mgrid[:side, :side]
    quarter = side // 4
    found = np.zeros((side, side), bool)
    for cy in (quarter, 3 * quarter):
        for cx in (quarter, 3 * quarter):
            found |= (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
    return np.where(found, 200, 20).astype(np.uint8)


class ThresholdSegmenter:
    """Bright regions under the positive points or in the box; three nested masks for an ambiguous click.

    Negative points take their half away: all that lies to their right.
    """

    name, window_px = "threshold", 256

    def __init__(self, fingerprint: str = "threshold-1") -> None:
        self.fingerprint = fingerprint
        self.embedded = 0
        self.decoded = 0
        self.go = threading.Event()
        self.go.set()

    def embed(self, pixels: np.ndarray, /) -> np.ndarray:
        assert self.go.wait(WAIT_MS / 1000)
        self.embedded += 1
        return pixels[..., 0] > 100 if pixels.ndim == 3 else pixels > 100

    def to_arrays(self, embedding: np.ndarray, /) -> dict[str, np.ndarray]:
        return {"bright": embedding}

    def from_arrays(self, arrays: Mapping[str, np.ndarray], /) -> np.ndarray:
        return arrays["bright"]

    def nbytes(self, embedding: np.ndarray, /) -> int:
        return embedding.nbytes

    def decode(self, embedding: np.ndarray, question: WindowQuestion, /) -> WindowAnswer:
        assert self.go.wait(WAIT_MS / 1000)
        self.decoded += 1
        pixels = self._pixels(embedding, question)
        nested = [pixels, ndimage.binary_erosion(pixels, iterations=5), ndimage.binary_erosion(pixels, iterations=10)]
        chosen = nested if question.multimask else nested[:1]
        scores = (0.9, 0.8, 0.7)[: len(chosen)]
        masks = tuple(Mask.from_array(m, predicted_iou=s) for m, s in zip(chosen, scores, strict=True))
        return WindowAnswer(masks, scores, np.zeros((len(chosen), 8, 8), np.float32))

    def _pixels(self, bright: np.ndarray, question: WindowQuestion) -> np.ndarray:
        regions, _ = ndimage.label(bright)
        wanted = np.zeros_like(bright)
        for (x, y), label in zip(question.points_xy, question.point_labels, strict=True):
            number = regions[round(y), round(x)]
            if label and number:
                wanted |= regions == number
        if question.box_xyxy is not None:
            x0, y0, x1, y1 = (round(value) for value in question.box_xyxy)
            wanted[y0:y1, x0:x1] |= bright[y0:y1, x0:x1]
        if question.mask is not None:
            wanted |= bright & question.mask.to_array()
        for (x, _), label in zip(question.points_xy, question.point_labels, strict=True):
            if not label:
                wanted[:, round(x) :] = False
        return wanted


class Hands:
    """A user's mouse and keyboard on a viewer's canvas."""

    def __init__(self, viewer: Any, widget: InteractiveSegmentation, qtbot: Any) -> None:
        self.viewer, self.widget, self.qtbot = viewer, widget, qtbot

    @property
    def canvas(self) -> Any:
        return self.viewer.window._qt_viewer.canvas

    def at(self, x: float, y: float, plane: tuple[int, ...] = ()) -> QPoint:
        """Where on the canvas a pixel of the image is."""
        layer = self.widget.control.placed.layer if self.widget.control else self.viewer.layers[0]
        world = layer.data_to_world((*plane, y, x))
        canvas = self.canvas
        transform = canvas.view.transform * canvas.view.scene.transform
        column, row = transform.map([world[-1], world[-2]])[:2]
        return QPoint(round(float(column)), round(float(row)))

    def click(self, x: float, y: float, modifiers: Any = CTRL, *, wait: bool = True) -> None:
        QTest.mouseClick(self.canvas.native, Qt.MouseButton.LeftButton, modifiers, self.at(x, y))
        self.settle()
        if wait:
            self.wait_for_answer()

    def drag(self, *points: tuple[float, float], modifiers: Any = CTRL, wait: bool = True) -> None:
        native, places = self.canvas.native, [self.at(x, y) for x, y in points]
        QTest.mousePress(native, Qt.MouseButton.LeftButton, modifiers, places[0])
        for place in places:
            self._move(place, Qt.MouseButton.LeftButton, modifiers)
            # napari looks at most every 5 ms where the mouse is.
            self.qtbot.wait(8)
        QTest.mouseRelease(native, Qt.MouseButton.LeftButton, modifiers, places[-1])
        self.settle()
        if wait:
            self.wait_for_answer()

    def point_at(self, x: float, y: float) -> None:
        self._move(self.at(x, y), Qt.MouseButton.NoButton, NONE)
        self.qtbot.waitUntil(lambda: self._is_pointing_at(x, y), timeout=WAIT_MS)

    def _is_pointing_at(self, x: float, y: float) -> bool:
        found = self.widget.control.placed.locate(self.viewer.cursor.position)[1]
        return abs(found[0] - x) <= 2 and abs(found[1] - y) <= 2

    def _move(self, place: QPoint, button: Any, modifiers: Any) -> None:
        # QTest.mouseMove says nothing of the button that is held.
        native = self.canvas.native
        where, none = QPointF(native.mapToGlobal(place)), Qt.MouseButton.NoButton
        QApplication.sendEvent(
            native, QMouseEvent(QEvent.Type.MouseMove, QPointF(place), where, none, button, modifiers)
        )

    def key(self, key: Any, modifiers: Any = NONE) -> None:
        QTest.keyClick(self.canvas.native, key, modifiers)
        self.settle()

    def settle(self) -> None:
        QApplication.processEvents()

    def wait_for_answer(self) -> None:
        control = self.widget.control
        self.qtbot.waitUntil(lambda: not control.is_answering and control.session.question() is None, timeout=WAIT_MS)
        self.settle()


def open_session(viewer: Any, qtbot: Any, journal: Any, segmenter: Any = None) -> Hands:
    """The widget in a dock, with a session on the chosen layer."""
    widget = InteractiveSegmentation(viewer, segmenter or ThresholdSegmenter())
    viewer.window.add_dock_widget(widget, name="Interactive segmentation")
    widget.form.journal.setText(str(journal))
    hands = Hands(viewer, widget, qtbot)
    start(hands)
    return hands


def start(hands: Hands) -> None:
    hands.widget.form.start.click()
    hands.qtbot.waitUntil(lambda: hands.widget.control is not None, timeout=WAIT_MS)
    hands.qtbot.wait(50)


def labels_of(viewer: Any, name: str = "cells objects") -> np.ndarray:
    """The pixels of the layer of objects."""
    layer = viewer.layers[name]
    return np.asarray(layer.data[0] if layer.multiscale else layer.data)
