"""A scripted user: annotates objects by clicks alone, with real mouse and key events on napari's canvas.

    xvfb-run -s "-screen 0 1600x1200x24" python benchmarks/annotate_session.py --data ../shared/data/val
    ... --data FOLDER --pyramid      the same images repeated to 50 000 x 50 000 pixels, at places far apart
    ... --data FOLDER --kills 20     kills sessions at random moments and continues them

The user clicks in the middle of an object, then in the middle of the largest error, until the IoU is 0.85 or five
clicks are spent, and commits with Enter. An answer's latency is the time from the press of the mouse button until the
mask is in its layer, the events of the window included. Cold: the window had to be embedded for it. Beside it stands
what the whole process, drawing included, worked meanwhile: where that is less, the machine was busy with other things.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from scipy import ndimage

from napari_sam.annotate.images import AnnotatedImage
from napari_sam.images import open_image
from napari_sam.ui import InteractiveSegmentation
from napari_sam.workflows.annotating.interactive import AnnotationSession, Box, Click, first_window

GOOD_IOU, MOST_CLICKS, PATIENCE_S = 0.85, 5, 300
SMALLEST_PX = 60
LOOKED_AT = 20
SIDE = 50_000


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of one answer: by the clock, and those the threads of this process were on a processor."""

    wall: float
    worked: float


@dataclass
class Scores:
    """What is printed at the end."""

    clicks: list[int] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)
    cold: list[Spent] = field(default_factory=list)
    warm: list[Spent] = field(default_factory=list)

    def report(self) -> str:
        lines = [
            f"{len(self.ious)} objects, {np.mean(self.clicks):.2f} clicks an object, mean IoU {np.mean(self.ious):.3f}",
            _latency("cold", self.cold),
            _latency("warm", self.warm),
            f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB",
        ]
        return "\n".join(lines)


class Repeated:
    """An image that repeats a small one, as a lazy level of a pyramid: nothing of it is ever in memory."""

    def __init__(self, tile: np.ndarray, side: int, step: int = 1) -> None:
        self.tile, self.step = tile, step
        self.shape = (side // step, side // step, *tile.shape[2:])
        self.dtype, self.ndim, self.size = tile.dtype, tile.ndim, int(np.prod(self.shape))

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, columns = (key + (slice(None),) * 2)[:2] if isinstance(key, tuple) else (key, slice(None))
        y, x = (
            np.arange(*part.indices(n)) if isinstance(part, slice) else np.atleast_1d(part)
            for part, n in zip((rows, columns), self.shape[:2], strict=True)
        )
        found = self.tile[np.ix_(y * self.step % self.tile.shape[0], x * self.step % self.tile.shape[1])]
        drop = tuple(0 if isinstance(part, int | np.integer) else slice(None) for part in (rows, columns))
        return found[drop]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:, :].astype(dtype or self.dtype)


class User:
    """A mouse, a keyboard and eyes."""

    def __init__(self, viewer: napari.Viewer, widget: InteractiveSegmentation) -> None:
        self.viewer, self.widget, self.scores = viewer, widget, Scores()

    @property
    def canvas(self) -> Any:
        return self.viewer.window._qt_viewer.canvas

    def start(self, journal: Path) -> None:
        self.widget.form.journal.setText(str(journal))
        self.widget.start()
        self.wait(lambda: self.widget.control is not None)

    def wait(self, done: Any) -> None:
        until = time.monotonic() + PATIENCE_S
        while not done():
            if time.monotonic() > until:
                raise TimeoutError(self.widget.form.status.text())
            QApplication.processEvents()
            time.sleep(0.001)

    def click(self, x: float, y: float, positive: bool) -> Spent:
        """Click on a pixel of the image; the time until the mask is shown."""
        control, keys = self.widget.control, Qt.KeyboardModifier
        world = control.placed.layer.data_to_world((y, x))
        view = self.canvas.view
        column, row = (view.transform * view.scene.transform).map([world[1], world[0]])[:2]
        modifiers = keys.ControlModifier if positive else keys.ControlModifier | keys.ShiftModifier
        began, worked = time.perf_counter(), time.process_time()
        place = QPoint(round(float(column)), round(float(row)))
        QTest.mouseClick(self.canvas.native, Qt.MouseButton.LeftButton, modifiers, place)
        self.wait(lambda: control.current is not None and control.current.mask is not None)
        return Spent(time.perf_counter() - began, time.process_time() - worked)

    def key(self, key: Any) -> None:
        QTest.keyClick(self.canvas.native, key)
        QApplication.processEvents()

    def look_at(self, x: float, y: float, zoom: float) -> None:
        camera = self.viewer.scene.camera
        camera.center, camera.zoom = (y, x), zoom
        for _ in range(5):
            QApplication.processEvents()

    def annotate(self, truth: np.ndarray, x0: int, y0: int) -> None:
        """One object, given by its pixels (h, w) whose first lies at (x0, y0)."""
        control = self.widget.control
        shown = np.zeros_like(truth)
        clicks, iou = 0, 0.0
        while clicks < MOST_CLICKS and iou < GOOD_IOU:
            x, y, positive = _next_click(truth, shown)
            plane, view_step = (), control.view_step
            question = control.session.hover_question(Click((x0 + x, y0 + y), positive), plane, view_step)
            is_cold = control.store.peek(first_window(control.store, question)) is None
            spent = self.click(x0 + x, y0 + y, positive)
            (self.scores.cold if is_cold else self.scores.warm).append(spent)
            mask, clicks = control.current.mask, clicks + 1
            box = Box(x0, y0, x0 + truth.shape[1], y0 + truth.shape[0])
            shown = mask.window(box)
            inside = int((shown & truth).sum())
            iou = inside / (int(truth.sum()) + mask.area - inside)
        self.scores.clicks.append(clicks)
        self.scores.ious.append(iou)
        self.key(Qt.Key.Key_Return)


def _next_click(truth: np.ndarray, shown: np.ndarray) -> tuple[int, int, bool]:
    """The middle of the largest connected error: (x, y, whether it is missing)."""
    errors = [(truth & ~shown, True), (shown & ~truth, False)]
    best, place = -1, (0, 0, True)
    for error, positive in errors:
        regions, count = ndimage.label(error)
        if not count:
            continue
        largest = 1 + int(np.argmax(np.bincount(regions.ravel())[1:]))
        depth = ndimage.distance_transform_edt(np.pad(regions == largest, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        area = int((regions == largest).sum())
        if area > best:
            best, place = area, (int(x), int(y), positive)
    return place


def pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Paths (image, labels) of the folder, in order of their names."""
    images = sorted(folder.rglob("*.image.*"))
    return [(image, next(image.parent.glob(image.name.split(".image.")[0] + ".labels.*"))) for image in images]


def read(pair: tuple[Path, Path]) -> tuple[np.ndarray, np.ndarray]:
    """(image, labels)."""
    image, labels = (np.squeeze(np.asarray(open_image(path).levels[0][:])) for path in pair)
    return image, labels


def crowded(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Of some pairs drawn at random, always the same, the one with the most objects."""
    found = pairs(folder)
    drawn = np.random.default_rng(0).permutation(len(found))[:LOOKED_AT]
    return max((read(found[i]) for i in drawn), key=lambda pair: len(np.unique(pair[1])))


def objects_of(labels: np.ndarray, rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, int, int]]:
    """Some of the objects, whole with a margin: (pixels, x0, y0)."""
    boxes = ndimage.find_objects(labels.astype(np.int64))
    known = [i for i, box in enumerate(boxes) if box is not None and (labels[box] == i + 1).sum() >= SMALLEST_PX]
    chosen = rng.permutation(known)[:count]
    found = []
    for i in chosen:
        y, x = boxes[i]
        y0, x0 = max(0, y.start - 40), max(0, x.start - 40)
        found.append((labels[y0 : y.stop + 40, x0 : x.stop + 40] == i + 1, x0, y0))
    return found


def annotate_folder(user: User, folder: Path, count: int, place: Path) -> None:
    rng, images = np.random.default_rng(0), pairs(folder)
    each = max(1, -(-count // min(len(images), 10)))
    for number, i in enumerate(rng.permutation(len(images))):
        image, labels = read(images[i])
        left = count - len(user.scores.ious)
        print(f"image {number}: {images[i][0].name}, {left} objects left", flush=True)
        if left <= 0:
            return
        # From the top: napari's software renderer fails on labels whose image below them was removed first.
        for layer in reversed(list(user.viewer.layers)):
            user.viewer.layers.remove(layer)
        QApplication.processEvents()
        user.viewer.add_image(image, name=f"image {number}", rgb=image.ndim == 3)
        user.start(place / f"{number}.jsonl")
        for truth, x0, y0 in objects_of(labels, rng, min(each, left)):
            user.annotate(truth, x0, y0)
        user.widget.close_session()


def annotate_pyramid(user: User, folder: Path, count: int, place: Path) -> None:
    rng = np.random.default_rng(0)
    image, labels = crowded(folder)
    levels = [Repeated(image, SIDE, 2**k) for k in range(7)]
    user.viewer.add_image(levels, name="huge", multiscale=True, rgb=image.ndim == 3, contrast_limits=(0, 255))
    user.start(place / "huge.jsonl")
    height, width = labels.shape
    objects = objects_of(labels, rng, count)
    for i in range(count):
        truth, x0, y0 = objects[i % len(objects)]
        # Two objects a place: the second one finds its window embedded.
        if i % 2 == 0:
            column, row = rng.integers(1, SIDE // width - 1), rng.integers(1, SIDE // height - 1)
        x, y = int(column) * width + x0, int(row) * height + y0
        user.look_at(x + truth.shape[1] / 2, y + truth.shape[0] / 2, 1.0)
        user.annotate(truth, x, y)


def session_to_be_killed(user: User, folder: Path, place: Path) -> None:
    """Annotates for ever; after each act writes down what the labels are by now."""
    image, labels = crowded(folder)
    user.viewer.add_image(image, name="image", rgb=image.ndim == 3)
    user.start(place / "killed.jsonl")
    session, rng = user.widget.control.session, np.random.default_rng(os.getpid())
    acts = (place / "acts").open("a")
    while True:
        for truth, x0, y0 in objects_of(labels, rng, 5):
            acts.write(f"{_state(session)}\n")
            acts.flush()
            x, y, _ = _next_click(truth, np.zeros_like(truth))
            user.click(x0 + x, y0 + y, True)
            acts.write(f"{_state(session)}\n")
            acts.flush()
            user.key(Qt.Key.Key_Return if rng.random() < 0.7 else Qt.Key.Key_Escape)
        QTest.keyClick(user.canvas.native, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)


def _state(session: AnnotationSession) -> str:
    """Labels and drafts in a few letters."""
    drafts = [len(seen.prompts) for seen in (*session.parked, *([session.current] if session.current else []))]
    return f"{zlib.crc32(np.ascontiguousarray(session.labels[...]).tobytes()):08x} {sorted(session.objects)} {drafts}"


def kill_sessions(arguments: argparse.Namespace) -> None:
    rng, lost = random.Random(0), 0
    image, _ = crowded(arguments.data)
    axes = "YXS" if image.ndim == 3 else "YX"
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        command = [sys.executable, __file__, "--data", str(arguments.data), "--to-be-killed", str(place)]
        for number in range(arguments.kills):
            before = _lines(place / "acts")
            process = subprocess.Popen(command)
            while _lines(place / "acts") < before + 4 and process.poll() is None:
                time.sleep(0.2)
            time.sleep(rng.uniform(0, 3))
            process.kill()
            process.wait()
            known = (place / "acts").read_text().splitlines()[-1]
            with AnnotationSession.resume(place / "killed.jsonl", AnnotatedImage.open(image, axes=axes)) as session:
                states = [_state(session)]
                # The act that the kill met may be in the journal already, or not: one step either way.
                if session.can_redo:
                    session.redo()
                    states.append(_state(session))
                    session.undo()
                if session.can_undo:
                    session.undo()
                    states.append(_state(session))
            is_lost = known not in states
            lost += is_lost
            print(f"kill {number + 1}: {'LOST ' + known if is_lost else 'nothing lost'}; {states[0]}")
            (place / "killed.jsonl").rename(place / f"killed-{number}.jsonl")
            (place / "acts").unlink()
    print(f"{arguments.kills} kills, {lost} with something lost")


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _latency(name: str, spent: list[Spent]) -> str:
    if not spent:
        return f"{name}: no answers"
    wall = 1000 * np.percentile([each.wall for each in spent], [50, 95])
    worked = 1000 * np.percentile([each.worked for each in spent], [50, 95])
    return (
        f"{name}: {len(spent)} answers, median {wall[0]:.0f} ms (worked {worked[0]:.0f}), "
        f"95th percentile {wall[1]:.0f} ms (worked {worked[1]:.0f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of NAME.image.* and NAME.labels.* pairs")
    parser.add_argument("--objects", type=int, default=50)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--pyramid", action="store_true", help="one image of 50 000 x 50 000 pixels")
    parser.add_argument("--kills", type=int, default=0, help="kill this many sessions instead")
    parser.add_argument("--to-be-killed", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.kills:
        kill_sessions(arguments)
        return
    with tempfile.TemporaryDirectory() as name:
        # A cache of its own: what another session embedded would make cold answers warm.
        os.environ["NAPARI_SAM_CACHE"] = name
        viewer = napari.Viewer(show=True)
        viewer.window.resize(1280, 800)
        widget = InteractiveSegmentation(viewer)
        viewer.window.add_dock_widget(widget, name="Interactive segmentation")
        widget.form.model.setCurrentIndex(max(0, widget.form.model.findData(arguments.model)))
        user = User(viewer, widget)
        if arguments.to_be_killed is not None:
            session_to_be_killed(user, arguments.data, arguments.to_be_killed)
        annotate = annotate_pyramid if arguments.pyramid else annotate_folder
        annotate(user, arguments.data, arguments.objects, Path(name))
        print(user.scores.report())
        viewer.close()


if __name__ == "__main__":
    main()
