"""A picture for a quick look: the image, reduced, with every object outlined in its own colour."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ConfigError, OutputError
from napari_sam.geometry import Box
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.labels import PaintableObjects, label_dtype, paint_labels
from napari_sam.tiling.multiscale import iter_blocks
from napari_sam.tiling.writing import atomic_path

_BLOCK_PX = 2048
_GOLDEN_RATIO = 0.618033988749895


def write_overlay(
    objects: PaintableObjects,
    path: str | os.PathLike[str],
    read: Callable[[Box, int], NDArray[Any]],
    *,
    max_px: int = 2048,
    progress: Progress | None = None,
) -> Path:
    """Write a PNG of the image with coloured outlines, its longer side at most `max_px`.

    The image is reduced by a power of two and read block by block. An outline is one pixel wide in the picture
    however far it is reduced, so small objects stay visible as coloured dots.

    Parameters
    ----------
    objects : PaintableObjects
        Overlaps are flattened as in the label image.
    path : path
        NAME.png; an existing file is replaced when the new one is complete.
    read : callable
        From a Box of whole-image pixels and a step (a power of two) to uint8 (h, w, 3), reduced to
        (ceil(box.height / step), ceil(box.width / step)); `Plane.read` is one.
    max_px : int
        At least 16.
    progress : callable, optional
        Called with (blocks done, blocks in all).

    Raises
    ------
    OutputError
        If the name does not end in .png, or the disk refuses.
    ConfigError
        If `max_px` is too small.
    """
    target = Path(path)
    check_overlay_path(target)
    if max_px < 16:
        raise ConfigError(f"max_px must be at least 16, got {max_px}; 2048 fills a screen.")
    step = overlay_step(objects.image_size, max_px)
    picture = _picture(objects, read, step, progress)
    with atomic_path(target) as partial:
        partial.write_bytes(imagecodecs.png_encode(picture))
    return target


def check_overlay_path(path: str | os.PathLike[str]) -> None:
    """Refuse a name that does not end in .png (:class:`OutputError`); to be asked before a long run."""
    if Path(path).suffix.lower() != ".png":
        raise OutputError(f"an overlay is a PNG, got {path}; let the name end in .png.")


def overlay_step(image_size: tuple[int, int], max_px: int) -> int:
    """The power of two by which an image (H, W) is reduced so that its longer side has at most `max_px` pixels.

    Examples
    --------
    >>> overlay_step((5000, 4000), 2048)
    4
    """
    step = 1
    while -(-max(image_size) // step) > max_px:
        step *= 2
    return step


def label_colours(labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """A bright colour for each label, shape (N, 3); labels close in number differ strongly in hue.

    Hues advance by the golden ratio, so any run of neighbouring labels is spread over the whole circle.
    """
    hue: NDArray[np.float64] = 6 * (labels.astype(np.float64) * _GOLDEN_RATIO % 1)
    # The three channels of a fully saturated hue are one tent function, shifted by a third of the circle.
    shifted = (hue[:, None] + np.array([0.0, 4.0, 2.0])) % 6
    tent = np.clip(np.abs(shifted - 3) - 1, 0, 1)
    colours: NDArray[np.uint8] = np.round(255 * (0.15 + 0.85 * tent)).astype(np.uint8)
    return colours


def _picture(
    objects: PaintableObjects,
    read: Callable[[Box, int], NDArray[Any]],
    step: int,
    progress: Progress | None,
) -> NDArray[np.uint8]:
    height, width = objects.image_size
    picture = np.empty((-(-height // step), -(-width // step), 3), dtype=np.uint8)
    # A block is a whole number of picture pixels, so that no picture pixel is made of two blocks.
    blocks = list(iter_blocks((height, width), max(_BLOCK_PX, step)))
    for done, block in enumerate(blocks, start=1):
        part = np.array(read(block, step), dtype=np.uint8)
        outlines = _reduced(_outlines(objects, block), step)
        drawn = outlines > 0
        part[drawn] = label_colours(outlines[drawn])
        rows, columns = block.y0 // step, block.x0 // step
        picture[rows : rows + part.shape[0], columns : columns + part.shape[1]] = part
        if progress is not None:
            progress(done, len(blocks))
    return picture


def _outlines(objects: PaintableObjects, block: Box) -> NDArray[Any]:
    """Labels of the pixels of `block` that have another label, or the image's end, beside, above or below them."""
    around = block.grown(1).clipped(Box.of_size(objects.image_size))
    framed = np.zeros((block.height + 2, block.width + 2), dtype=label_dtype(objects.table.label))
    framed[around.shifted(1 - block.x0, 1 - block.y0).slices] = paint_labels(objects, around, framed.dtype)
    inner = framed[1:-1, 1:-1]
    same = (
        (inner == framed[:-2, 1:-1])
        & (inner == framed[2:, 1:-1])
        & (inner == framed[1:-1, :-2])
        & (inner == framed[1:-1, 2:])
    )
    return np.where(same, 0, inner)


def _reduced(labels: NDArray[Any], step: int) -> NDArray[Any]:
    """The largest label of each step x step square: a thin line is not lost as it is when pixels are sampled."""
    height, width = labels.shape
    padded = np.pad(labels, ((0, -height % step), (0, -width % step)))
    squares = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step)
    return np.asarray(squares.max(axis=(1, 3)))
