"""What a session's objects teach: windows of the image with the verified ones, and some that are held back to judge."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.labels import SparseLabels
from napari_sam.annotate.objects import AnnotatedObject
from napari_sam.annotate.prompts import Plane
from napari_sam.annotate.review import Place
from napari_sam.errors import TrainingError
from napari_sam.geometry import Box

LEAST_VERIFIED = 5
"""With fewer there is nothing to learn from and nothing to judge by."""
LEAST_CELLS = 5
"""Cells with verified objects that there should be, to hold back about a fifth of them; smaller ones are tried."""
FINEST = 8
"""Cells are at least this part of the model's frame wide."""

SPARSE, EXHAUSTIVE = "sparse", "exhaustive"


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """A verified object in one plane."""

    plane: Plane
    label: int


@dataclass(frozen=True, slots=True, eq=False)
class Verified:
    """What a person has verified on an image, as it was at one moment."""

    image: AnnotatedImage
    labels: SparseLabels
    """Read while the windows are written; may be those of an open session."""
    objects: Mapping[int, AnnotatedObject]
    complete: tuple[Place, ...] = ()
    """Places where every object is labelled."""

    @property
    def good(self) -> frozenset[int]:
        """Labels that teach: accepted or fixed in review, or made by a person and not rejected."""
        return frozenset(
            label
            for label, known in self.objects.items()
            if known.is_verified or (known.origin != "prefilled" and known.verdict is None)
        )

    @property
    def digest(self) -> str:
        """Changes with what is verified."""
        rows = [
            [
                label,
                [[list(part.plane), part.area, part.extent.as_xyxy().tolist()] for part in self.objects[label].parts],
            ]
            for label in sorted(self.good)
        ]
        places = [[list(place.plane), place.box.as_xyxy().tolist()] for place in self.complete]
        told = json.dumps([self.image.key, rows, places])
        return hashlib.sha256(told.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a plane that is shown to the network whole."""

    plane: Plane
    box: Box
    labels: tuple[int, ...]
    """Objects that were assigned to it by their middle."""


@dataclass(frozen=True, slots=True)
class Division:
    """Which verified objects teach and which judge."""

    teach: tuple[Window, ...]
    judge: tuple[Window, ...]

    @property
    def n_teach(self) -> int:
        return len({(w.plane, label) for w in self.teach for label in w.labels})

    @property
    def held_back(self) -> frozenset[int]:
        """Labels that are never shown as truth in training."""
        return frozenset(label for window in self.judge for label in window.labels)


def divide(verified: Verified, frame_px: int, *, held_back: float, seed: int) -> Division:
    """Hold some of the verified objects back, by squares of the image, so that neighbours are on the same side.

    The squares are as large as the model's frame; where too few of these hold objects, they are smaller. Which are held
    back is drawn by a hash of their place, so that it is nearly the same when more was verified.

    Parameters
    ----------
    frame_px : int
        Side of the model's frame.
    held_back : float
        Share of the verified objects that is held back, at least one.
    seed : int

    Raises
    ------
    TrainingError
        If fewer than LEAST_VERIFIED objects are verified, or they all lie in one square.
    """
    parts = _parts(verified)
    if len(parts) < LEAST_VERIFIED:
        raise TrainingError(
            f"{len(parts)} objects are verified, and training needs {LEAST_VERIFIED} at least; accept or mend more of "
            "them in review, or click on some. Twenty or more are usual."
        )
    cells = _cells(parts, frame_px)
    if len(cells) < 2:
        raise TrainingError(
            f"all {len(parts)} verified objects lie in one place, so none can be held back to judge by; verify some "
            "elsewhere in the image."
        )
    ordered = sorted(cells, key=lambda cell: hashlib.sha256(repr((seed, cell)).encode()).hexdigest())
    wanted, held, judge = max(1, round(held_back * len(parts))), 0, []
    for cell in ordered[:-1]:
        if held >= wanted:
            break
        judge.append(cell)
        held += len(cells[cell])
    # An object in several planes is judged or taught as a whole.
    judged = {part.label for cell in judge for part in cells[cell]}
    size = verified.image.frame_size
    windows: dict[bool, list[Window]] = {True: [], False: []}
    for cell in sorted(cells):
        for is_judge in (True, False):
            labels = tuple(sorted(part.label for part in cells[cell] if (part.label in judged) == is_judge))
            if labels:
                windows[is_judge].append(Window(cell[0], _frame_around(cell, size, frame_px), labels))
    return Division(_joined(windows[False]), tuple(windows[True]))


def teach_all(verified: Verified, frame_px: int) -> Division:
    """Windows of the model's frame with all verified objects, none held back; TrainingError if nothing is verified."""
    parts = _parts(verified)
    if not parts:
        raise TrainingError("no object of this session is verified; commit some, or accept some in review.")
    size = verified.image.frame_size
    windows = (
        Window(cell[0], _frame_around(cell, size, frame_px), tuple(sorted(part.label for part in members)))
        for cell, members in sorted(_cells(parts, frame_px).items())
    )
    return Division(_joined(windows), ())


def _parts(verified: Verified) -> dict[Part, Box]:
    """Where the verified objects are, plane by plane."""
    return {Part(part.plane, label): part.extent for label in verified.good for part in verified.objects[label].parts}


_Cell = tuple[Plane, int, int, int]
"""Plane, row and column of the cell, and its side in pixels."""


def _cells(parts: Mapping[Part, Box], frame_px: int) -> dict[_Cell, list[Part]]:
    """The objects by the square their middle lies in, with the largest squares of which there are enough."""
    side = frame_px
    while True:
        cells: dict[_Cell, list[Part]] = {}
        for part, extent in sorted(parts.items()):
            x, y = extent.center_xy
            cells.setdefault((part.plane, int(y // side), int(x // side), side), []).append(part)
        if len(cells) >= LEAST_CELLS or side <= max(1, frame_px // FINEST):
            return cells
        side //= 2


def _frame_around(cell: _Cell, size: tuple[int, int], frame_px: int) -> Box:
    """A box of the model's frame with the cell in its middle, moved into the image: what is smaller would be enlarged
    by the network, and shown at another scale than in use."""
    _, row, column, side = cell
    (y0, y1), (x0, x1) = (_span((i + 0.5) * side, n, frame_px) for i, n in zip((row, column), size, strict=True))
    return Box(x0, y0, x1, y1)


def _span(middle: float, length: int, frame_px: int) -> tuple[int, int]:
    width = min(frame_px, length)
    start = min(max(math.floor(middle - width / 2), 0), length - width)
    return start, start + width


def _joined(windows: Iterable[Window]) -> tuple[Window, ...]:
    """One window for each box."""
    found: dict[tuple[Plane, Box], set[int]] = {}
    for window in windows:
        found.setdefault((window.plane, window.box), set()).update(window.labels)
    return tuple(Window(plane, box, tuple(sorted(labels))) for (plane, box), labels in found.items())


def is_exhaustive(verified: Verified, window: Window, held_back: Collection[int]) -> bool:
    """Whether background in a window is known to be background.

    It lies in places that a person called complete, and each object in it is verified and taught: one that was not
    looked at, rejected or held back may hide another truth.
    """
    covered = np.zeros(window.box.size, dtype=bool)
    for place in verified.complete:
        if place.plane == window.plane:
            inside = place.box.clipped(window.box).shifted(-window.box.x0, -window.box.y0)
            covered[inside.slices] = True
    if not covered.all():
        return False
    shown = np.unique(verified.labels.window(window.plane, window.box))
    return set(shown[shown > 0].tolist()) <= verified.good - set(held_back)


def write_pairs(verified: Verified, division: Division, folder: Path) -> dict[str, int]:
    """The windows to teach with, as pairs of PNG files below `folder`; returns how many of each group.

    The groups are "exhaustive", where unlabelled pixels are background, and "sparse", where they teach nothing.
    """
    counts = {EXHAUSTIVE: 0, SPARSE: 0}
    teach = verified.good - division.held_back
    for number, window in enumerate(division.teach):
        group = EXHAUSTIVE if is_exhaustive(verified, window, division.held_back) else SPARSE
        image, labels = read_window(verified, window.plane, window.box, teach)
        if not labels.any():  # deleted since
            continue
        place = folder / group
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:05d}.image.png").write_bytes(imagecodecs.png_encode(image))
        (place / f"{number:05d}.labels.png").write_bytes(imagecodecs.png_encode(labels))
        counts[group] += 1
    if not any(counts.values()):
        raise TrainingError("no verified object is left in the labels to train with; they were deleted meanwhile.")
    return counts


def read_window(
    verified: Verified, plane: Plane, box: Box, labels: Collection[int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Pixels (h, w, 3) as the model sees them, and the objects `labels` in them, numbered from 1 on.

    Colour, so that they are not normalised a second time where they are read back.
    """
    pixels = verified.image.plane(plane).read(box)
    shown = verified.labels.window(plane, box)
    kept = np.where(np.isin(shown, list(labels)), shown, 0)
    ids, numbered = np.unique(kept, return_inverse=True)
    return pixels, (numbered.reshape(kept.shape) + int(ids[0] != 0)).astype(np.uint16)


def read_judged(verified: Verified, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Image and labels of a window to judge by, large enough to hold its objects whole."""
    box = window.box
    for label in window.labels:
        part = verified.objects[label].part(window.plane)
        if part is not None:
            box = box.joined(part.extent)
    return read_window(verified, window.plane, box, window.labels)
