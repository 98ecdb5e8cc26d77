"""Objects to write, and the plain way to flatten them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.geometry import Box, Mask, Rle
from napari_sam.tiling.objects import MergedObjects, ObjectTable


def blob_masks(size: tuple[int, int], n: int, *, seed: int = 0, radius: tuple[int, int] = (3, 30)) -> list[Mask]:
    """Overlapping noisy blobs, some with holes, some of several pieces, some at the image's edges."""
    rng = np.random.default_rng(seed)
    masks = []
    while len(masks) < n:
        side = 2 * int(rng.integers(*radius)) + 1
        rows, columns = np.mgrid[:side, :side] - side // 2
        disk = rows**2 + columns**2 <= (side // 2) ** 2
        pixels = disk & (ndimage.uniform_filter(rng.random((side, side)), 3) > 0.42)
        y0, x0 = rng.integers(-side // 2, [size[0] - side // 2, size[1] - side // 2])
        window = Box(int(x0), int(y0), int(x0) + side, int(y0) + side)
        inside = window.clipped(Box.of_size(size))
        part = pixels[inside.shifted(-window.x0, -window.y0).slices]
        if part.any():
            point = (float(inside.x0), float(inside.y0)) if rng.random() < 0.5 else None
            scores = {"predicted_iou": float(rng.random()), "stability_score": float(rng.random())}
            masks.append(Mask.from_window(part, inside, size, point_xy=point, prompt="grid", **scores))
    return masks


def blobs(size: tuple[int, int] = (300, 420), n: int = 40, *, seed: int = 0) -> MergedObjects:
    return MergedObjects.from_masks(blob_masks(size, n, seed=seed), size)


def squares(size: tuple[int, int], corners_xy: Sequence[tuple[int, int]], side: int = 4) -> MergedObjects:
    """Full squares with their upper left corner where told; the later ones have the higher predicted IoU."""
    masks = [
        Mask.from_window(np.ones((side, side), bool), Box(x, y, x + side, y + side), size, predicted_iou=0.5 + i / 1e6)
        for i, (x, y) in enumerate(corners_xy)
    ]
    return MergedObjects.from_masks(masks, size)


def flattened(objects: MergedObjects) -> NDArray[np.uint64]:
    """The label image by the stated rule, one whole mask after another: lowest predicted IoU, then label, first."""
    labels = np.zeros(objects.image_size, dtype=np.uint64)
    for label, mask in sorted(objects.iter_masks(), key=lambda item: (item[1].predicted_iou, item[0])):
        labels[mask.to_array()] = label
    return labels


class Relabelled:
    """Objects whose labels are moved up, as far as no real run would get."""

    def __init__(self, objects: MergedObjects, by: int) -> None:
        self._objects, self._by = objects, by
        self.image_size = objects.image_size
        self.table: ObjectTable = replace(objects.table, label=objects.table.label + np.uint64(by))

    def masks_in(self, box: Box) -> list[tuple[int, Mask]]:
        return [(label + self._by, mask) for label, mask in self._objects.masks_in(box)]

    def iter_masks(self) -> Iterator[tuple[int, Mask]]:
        return ((label + self._by, mask) for label, mask in self._objects.iter_masks())


def grid_of_squares(n: int) -> MergedObjects:
    """`n` x `n` squares of 3 pixels, 8 pixels apart, made only when asked for: cheap for very many."""
    y0, x0 = (8 * axis.ravel() for axis in np.mgrid[:n, :n])
    count = n * n
    table = ObjectTable(
        label=np.arange(1, count + 1, dtype=np.uint64),
        y0=y0,
        x0=x0,
        y1=y0 + 3,
        x1=x0 + 3,
        area_px=np.full(count, 9),
        centroid_y=y0 + 1.0,
        centroid_x=x0 + 1.0,
        tile=np.zeros(count, np.int64),
        predicted_iou=np.full(count, 0.9),
        stability_score=np.full(count, 0.95),
        touches_seam=np.zeros(count, bool),
        verified=np.zeros(count, bool),
        prompt=np.full(count, "grid"),
    )
    rle = Rle.encode(np.ones((3, 3)))
    size = (8 * n, 8 * n)
    return MergedObjects(
        table, size, lambda row: Mask(rle, table.box(row), size, predicted_iou=0.9, stability_score=0.95)
    )
