"""Labels of an image of any size: memory and time follow what is labelled, never the image."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_sam.annotate.chunks import THUMBNAIL_STEP
from napari_sam.annotate.images import check_plane
from napari_sam.annotate.indexing import ArrayKey
from napari_sam.annotate.patches import Ints, Patch
from napari_sam.annotate.pixels import LabelPixels, by_plane
from napari_sam.annotate.policies import Policy, painted_pixels
from napari_sam.annotate.prompts import Plane
from napari_sam.errors import AnnotationError, ConfigError
from napari_sam.geometry import Box, Mask

_BAND_PIXELS = 1 << 22
"""Pixels looked at in one go while a mask is painted."""


class SparseLabels:
    """A label image that behaves like a numpy array, for napari and for whoever slices it.

    Reading gives copies. Writing by index (`labels[key] = value`, as napari's own tools do) is remembered if
    `keeps_edits` is set, until :meth:`take_edits` asks for it. All of it may be used from several threads.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: DTypeLike = np.uint32,
        chunk_px: int = 256,
        *,
        memory_bytes: int = 1 << 29,
        keeps_edits: bool = False,
    ) -> None:
        if len(shape) < 2 or min(shape) < 0 or chunk_px < THUMBNAIL_STEP or chunk_px % THUMBNAIL_STEP:
            raise ConfigError(
                f"labels need a shape (..., H, W) and chunk_px a multiple of {THUMBNAIL_STEP}, got {shape} and "
                f"{chunk_px}; the default 256 suits most images."
            )
        self.shape = tuple(int(side) for side in shape)
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.chunk_px = chunk_px
        self.keeps_edits = keeps_edits
        self._pixels = LabelPixels(chunk_px, self.dtype, memory_bytes)
        self._edits: list[Patch] = []

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def frame_size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.shape[-2], self.shape[-1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """As numpy would give it, always as a copy."""
        return self._get(ArrayKey.of(key, self.shape), 1)

    def __setitem__(self, key: Any, value: Any) -> None:
        """As numpy would take it."""
        where = ArrayKey.of(key, self.shape)
        value = np.asarray(value.__array__() if isinstance(value, SparseLabels) else value)
        with self._pixels.lock:
            if where.is_pixels:
                pixels = where.pixels()
                self._set_pixels(pixels, np.broadcast_to(value, pixels[0].shape))
            elif where.is_basic:
                ranges = where.ranges()
                kept = where.kept_axes()
                block = np.empty(tuple(len(r) for r in ranges), self.dtype)
                block[kept][tuple(where.new_axes)] = value
                self._set_block(ranges, block)
            else:
                ranges, inner = where.around()
                block = self._pixels.read(ranges, 1)
                block[inner] = value
                self._set_block(ranges, block)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it in memory; for a huge image ask for a part."""
        whole: NDArray[Any] = self[...]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def level(self, k: int) -> LabelsLevel:
        """It at 1 / 2^k of its size: every 2^k-th row and column, read where it is looked at."""
        return LabelsLevel(self, k)

    def paint(self, plane: Plane, mask: Mask, label: int, policy: Policy = "overwrite") -> Patch:
        """Give the pixels of a mask to a label, as far as the policy lets it; returns what changed."""
        patch = self.plan_paint(plane, mask, label, policy)
        self.apply(patch)
        return patch

    def plan_paint(self, plane: Plane, mask: Mask, label: int, policy: Policy = "overwrite") -> Patch:
        """What :meth:`paint` would change.

        Parameters
        ----------
        plane : tuple of int
        mask : Mask
            In the plane's frame.
        label : int
            0 erases.
        policy : "overwrite", "keep_pixels" or "keep_objects"
            See :mod:`napari_sam.annotate.policies`.

        Raises
        ------
        AnnotationError
            If there is no such plane, the mask is of another frame, or the label does not fit the type of the labels.
        """
        check_plane(plane, self.shape)
        if mask.frame_size != self.frame_size:
            raise AnnotationError(
                f"a mask of the frame {mask.frame_size} (H, W) cannot be painted into labels of {self.frame_size}; "
                "move it to the plane's frame first."
            )
        if not 0 <= label <= np.iinfo(self.dtype).max:
            raise AnnotationError(
                f"label {label} is outside what {self.dtype} labels hold, 0 to {np.iinfo(self.dtype).max}."
            )
        bands = []
        for band in self._bands(mask.box, whole=policy == "keep_objects"):
            old = self.window(plane, band)
            new = old.copy()
            new[painted_pixels(mask.window(band), old, label, policy)] = label
            bands.append(Patch.between(plane, band, old, new))
        return Patch.joined(plane, mask.box, bands)

    def apply(self, patch: Patch) -> None:
        """Set the pixels of a patch to their new values."""
        self._pixels.apply(patch)

    def revert(self, patch: Patch) -> None:
        """Set the pixels of a patch to their old values."""
        self.apply(patch.inverted())

    def window(self, plane: Plane, box: Box) -> NDArray[Any]:
        """Labels of a box of one plane, (height, width)."""
        return self._pixels.window(plane, box)

    def mask_of(self, label: int, plane: Plane = (), within: Box | None = None) -> Mask:
        """The pixels of one label in one plane, from a box that is known to hold them, or from everywhere."""
        check_plane(plane, self.shape)
        frame = Box.of_size(self.frame_size)
        with self._pixels.lock:
            found = self._pixels.extent_of(label, plane, frame if within is None else within.clipped(frame))
            if found.is_empty:
                return Mask.from_window(np.zeros((0, 0), np.bool_), found, self.frame_size)
            return Mask.from_window(self.window(plane, found) == label, found, self.frame_size)

    def planes(self) -> list[Plane]:
        """The planes in which something is labelled, in order."""
        return self._pixels.chunks.planes()

    def take_edits(self) -> tuple[Patch, ...]:
        """What was written by index since the last call, in order."""
        with self._pixels.lock:
            taken, self._edits = tuple(self._edits), []
        return taken

    @property
    def edits(self) -> tuple[Patch, ...]:
        """What :meth:`take_edits` would give."""
        return tuple(self._edits)

    @property
    def has_edits(self) -> bool:
        """Whether :meth:`take_edits` has something to give."""
        return bool(self._edits)

    @property
    def n_chunks(self) -> int:
        """Chunks that hold something."""
        return sum(len(self._pixels.chunks.keys(plane)) for plane in self._pixels.chunks.planes())

    @property
    def n_chunks_in_memory(self) -> int:
        return self._pixels.chunks.n_in_memory

    def close(self) -> None:
        """Remove the temporary folder of chunks that did not fit in memory; the labels are not to be used after it."""
        self._pixels.chunks.close()

    def _get(self, key: ArrayKey, step: int) -> Any:
        """What a key of the view at 1 / `step` names."""
        if key.is_pixels and not key.is_basic:
            *plane, rows, columns = key.pixels()
            return self._pixels.gather(plane, rows * step, columns * step)
        if not key.is_basic:
            ranges, inner = key.around()
            return self._pixels.read(ranges, step)[inner]
        ranges = key.ranges()
        block = self._pixels.read(ranges, step)
        kept = block[key.kept_axes()]
        return kept[key.new_axes] if key.new_axes else kept

    def _set_pixels(self, pixels: tuple[Ints, ...], values: NDArray[Any]) -> None:
        *plane, rows, columns = pixels
        values = self._fitting(values)
        for index, chosen in by_plane(plane, rows.shape):
            y, x = rows[chosen], columns[chosen]
            self._remember_and_apply(Patch.from_pixels(index, y, x, self._gather_one(index, y, x), values[chosen]))

    def _gather_one(self, plane: Plane, rows: Ints, columns: Ints) -> NDArray[Any]:
        return self._pixels.gather([np.full(rows.shape, i) for i in plane], rows, columns)

    def _set_block(self, ranges: tuple[range, ...], block: NDArray[Any]) -> None:
        block = self._fitting(block)
        if block.size == 0:
            return
        forward = tuple(r if r.step > 0 else r[::-1] for r in ranges)
        block = block[tuple(slice(None) if r.step > 0 else slice(None, None, -1) for r in ranges)]
        rows, columns = forward[-2:]
        box = Box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        for at in product(*(range(len(r)) for r in forward[:-2])):
            plane = tuple(r[i] for r, i in zip(forward[:-2], at, strict=True))
            old = self.window(plane, box)
            new = old.copy()
            new[:: rows.step, :: columns.step] = block[at]
            self._remember_and_apply(Patch.between(plane, box, old, new))

    def _remember_and_apply(self, patch: Patch) -> None:
        if patch.is_empty:
            return
        self.apply(patch)
        if self.keeps_edits:
            self._edits.append(patch)

    def _fitting(self, values: NDArray[Any]) -> NDArray[Any]:
        if values.dtype.kind == "f":
            raise AnnotationError(f"labels are whole numbers, got values of type {values.dtype}; convert them first.")
        return values.astype(self.dtype, copy=False)

    def _bands(self, box: Box, *, whole: bool) -> list[Box]:
        """Pieces of a box over its full width, in order; all of it where the policy has to see the mask whole."""
        height = box.height if whole else max(1, _BAND_PIXELS // max(1, box.width))
        tops = range(box.y0, box.y1, max(1, height))
        return [Box(box.x0, y0, box.x1, min(y0 + height, box.y1)) for y0 in tops]


class LabelsLevel:
    """A read-only view of sparse labels at 1 / 2^k, for multiscale layers."""

    def __init__(self, labels: SparseLabels, k: int) -> None:
        if not 0 <= k <= 30:
            raise ConfigError(f"a level must lie in 0 to 30, got {k}; level 0 is full resolution.")
        self.labels = labels
        self.step = 2**k
        height, width = labels.frame_size
        self.shape = (*labels.shape[:-2], -(-height // self.step), -(-width // self.step))
        self.dtype = labels.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, key: Any) -> Any:
        return self.labels._get(ArrayKey.of(key, self.shape), self.step)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        whole: NDArray[Any] = self[...]
        return whole if dtype is None else whole.astype(dtype, copy=False)
