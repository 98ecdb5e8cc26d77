"""A segmentation that depends on local pixels only, and images for it: the oracle for everything tiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.draw import disk, polygon2mask
from skimage.measure import label

from napari_sam.geometry import Box, Mask, Tile
from napari_sam.tiling import Ledger, MergedObjects, RunKey, TilePlan, TilingConfig, merge_tiles, plan_tiles, run_tiles


def components(values: np.ndarray) -> np.ndarray:
    """Numbers the connected regions of equal value; 0 is background. Touching regions of two values stay two."""
    return label(values, background=0, connectivity=1)


def segment(pixels: np.ndarray) -> list[Mask]:
    """Every region as a mask; the predicted IoU depends on the value alone, so that all tiles agree on it."""
    numbers = components(pixels[..., 0])
    masks = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(numbers), start=1):
        window = Box(columns.start, rows.start, columns.stop, rows.stop)
        inside = numbers[rows, columns] == number
        value = int(pixels[rows, columns, 0][inside][0])
        masks.append(
            Mask.from_window(
                inside,
                window,
                pixels.shape[:2],
                predicted_iou=0.5 + value / 512,
                stability_score=1.0,
                point_xy=(float(window.x0), float(window.y0)),
                prompt="grid",
            )
        )
    return masks


def make_segment() -> Callable[[np.ndarray], list[Mask]]:
    return segment


def reprompt(pixels: np.ndarray, fragment: Mask) -> Mask | None:
    """The region of the window that the fragment lies on most."""
    numbers = components(pixels[..., 0])
    counts = np.bincount(numbers[fragment.to_array()], minlength=1)
    counts[0] = 0
    return Mask.from_array(numbers == counts.argmax(), predicted_iou=0.75) if counts.any() else None


@dataclass(frozen=True)
class Picture:
    """A single-channel image that is read as the plugin reads one; can be sent to a worker process."""

    values: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        return self.values.shape

    def read(self, box: Box, step: int = 1) -> np.ndarray:
        assert not box.is_empty
        assert Box.of_size(self.size).contains_box(box)
        part = self.values[box.slices][::step, ::step]
        return np.repeat(part[..., None], 3, axis=2)


def blobs(size: tuple[int, int], seed: int, *, n: int = 60, radius: tuple[int, int] = (2, 14)) -> np.ndarray:
    """Discs of random places and values over one another: touching, nested, cut by the image's edges."""
    rng = np.random.default_rng(seed)
    values = np.zeros(size, dtype=np.uint8)
    for _ in range(n):
        centre = rng.uniform([0, 0], size)
        values[disk(centre, rng.uniform(*radius), shape=size)] = rng.integers(0, 256)
    return values


def obstacles(size: tuple[int, int]) -> np.ndarray:
    """Objects on purpose: a snake over everything, a U, nested rings larger than tiles, edge bars, touching pairs."""
    height, width = size
    values = blobs(size, 7, n=40, radius=(2, 9))
    rows = np.arange(height)[:, None]
    columns = np.arange(width)[None]
    snake = np.abs(rows - height // 2 - (height // 3) * np.sin(columns * 6 / width)) < 5
    values[snake] = 250
    u_shape = ((np.abs(columns - 40) < 6) | (np.abs(columns - 150) < 6)) & (rows > 20) & (rows < 120)
    u_shape |= (np.abs(rows - 120) < 6) & (columns > 34) & (columns < 156)
    values[u_shape] = 240
    distance = np.hypot(rows - height * 0.7, columns - width * 0.7)
    values[(distance < 70) & (distance > 60)] = 230
    values[(distance < 45) & (distance > 36)] = 229
    values[distance < 12] = 228
    values[:3, 10:-10] = 220
    values[10:-10, -3:] = 219
    triangle = polygon2mask(size, [[height - 60, 5], [height - 1, 90], [height - 20, 5]])
    values[triangle] = 218
    # Pairs of touching squares with their common border on multiples of 64, where cores end.
    for at in range(64, min(size) - 10, 64):
        values[at - 6 : at + 6, at - 6 : at] = 200
        values[at - 6 : at + 6, at : at + 6] = 201
    return values


def canonical(masks: Iterable[Mask]) -> list[tuple[tuple[int, ...], bytes]]:
    """What a set of masks is apart from its order: boxes and run lengths, sorted."""
    return sorted((tuple(mask.box.as_xyxy().tolist()), np.asarray(mask.rle.counts).tobytes()) for mask in masks)


def key_of(picture: Picture, plan: TilePlan, config: TilingConfig, **changes: object) -> RunKey:
    fields: dict[str, object] = {
        "image": {"size": list(picture.size)},
        "model": {"fingerprint": "regions"},
        "version": "0",
        "segment": {"tiling": plan.settings()},
        "merge": config.merge_settings(),
        "output": {},
    }
    return RunKey(**{**fields, **changes})


def tiled(
    picture: Picture,
    folder: Path,
    *,
    core_px: int,
    halo_px: int,
    workers: int = 1,
    order: Callable[[list[Tile]], list[Tile]] | None = None,
    **settings: float,
) -> MergedObjects:
    """Plan, run and merge a picture."""
    config = TilingConfig(core_px=core_px, halo_px=halo_px, **settings)
    plan = plan_tiles(picture.size, config)
    with Ledger.open(folder, key_of(picture, plan, config), picture.size) as ledger:
        if order is not None:
            for tile in order(list(plan.tiles)):
                masks = [m.shifted(tile.read.x0, tile.read.y0, picture.size) for m in segment(picture.read(tile.read))]
                ledger.tiles.write(tile.index, masks)
        summary = run_tiles(picture.read, plan, segment, ledger, workers=workers)
        assert summary.is_complete
        assert not summary.failed
        return merge_tiles(ledger, plan, picture.read, reprompt, config)
