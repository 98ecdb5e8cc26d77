"""The objects of a whole image: one row each in a table, their masks read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import TilingError
from napari_sam.geometry import Box, Mask
from napari_sam.geometry.overlap import runs_of
from napari_sam.geometry.runs import MaskRuns
from napari_sam.tiling.places import BoxPlaces

TABLE_DTYPES: dict[str, type | str] = {
    "label": np.uint64,
    "y0": np.int64,
    "x0": np.int64,
    "y1": np.int64,
    "x1": np.int64,
    "area_px": np.int64,
    "centroid_y": np.float64,
    "centroid_x": np.float64,
    "predicted_iou": np.float64,
    "stability_score": np.float64,
    "tile": np.int64,
    "touches_seam": np.bool_,
    "prompt": np.str_,
    "verified": np.bool_,
}
"""Type of each column, in the order in which a table is written."""


COARSE_PROMPT = "coarse"
"""What the table says of objects that only a tile read at reduced resolution showed: their contours are less exact."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ObjectTable:
    """One row an object, as equally long columns; pixels are those of the whole image."""

    label: NDArray[np.uint64]
    """The pixel value in the label image; after an automatic run 1 to N, in the order of the rows."""
    y0: NDArray[np.int64]
    x0: NDArray[np.int64]
    y1: NDArray[np.int64]
    x1: NDArray[np.int64]
    """With y0, x0, y1: the tight box, half-open."""
    area_px: NDArray[np.int64]
    centroid_y: NDArray[np.float64]
    centroid_x: NDArray[np.float64]
    """With centroid_y: mean of the pixel centres; a whole number is the centre of a pixel."""
    predicted_iou: NDArray[np.float64]
    stability_score: NDArray[np.float64]
    tile: NDArray[np.int64]
    """Index of the tile whose mask (or whose cut mask, if it was re-prompted) this is."""
    touches_seam: NDArray[np.bool_]
    """The mask is a fragment cut by a tile border: no whole version of it could be had."""
    prompt: NDArray[np.str_]
    """Where the prompt came from: "grid", "proposal", "reprompt", ...; "coarse" for a large object that only a tile
    read at reduced resolution showed whole."""
    verified: NDArray[np.bool_]
    """Whether a person has accepted it, as it was or mended; never so after an automatic run."""

    def __post_init__(self) -> None:
        lengths = {}
        for name, dtype in TABLE_DTYPES.items():
            column = np.asarray(getattr(self, name), dtype=dtype)
            if column.ndim != 1:
                raise TilingError(
                    f"column {name!r} of an object table must be 1-D, got shape {column.shape}; pass one value a row."
                )
            column.setflags(write=False)
            object.__setattr__(self, name, column)
            lengths[name] = len(column)
        if len(set(lengths.values())) > 1:
            raise TilingError(
                f"the columns of an object table must be equally long, got {lengths}; pass one value a row."
            )

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def column_names(cls) -> tuple[str, ...]:
        """Names of the columns, in the order in which a table is written."""
        return tuple(column.name for column in fields(cls))

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """The columns by name, in the order in which a table is written."""
        return {name: getattr(self, name) for name in self.column_names()}

    def box(self, row: int) -> Box:
        """The box of one row."""
        return Box(int(self.x0[row]), int(self.y0[row]), int(self.x1[row]), int(self.y1[row]))

    @classmethod
    def from_masks(cls, masks: Sequence[Mask], *, tile: int = 0) -> ObjectTable:
        """A table of `masks` in whole-image pixels, labelled 1 to N in their order."""
        boxes = np.array([mask.box.as_xyxy() for mask in masks], dtype=np.int64).reshape(-1, 4)
        centroids = np.array([mask.centroid_xy for mask in masks], dtype=np.float64).reshape(-1, 2)
        n = len(masks)
        return cls(
            label=np.arange(1, n + 1, dtype=np.uint64),
            y0=boxes[:, 1],
            x0=boxes[:, 0],
            y1=boxes[:, 3],
            x1=boxes[:, 2],
            area_px=np.array([mask.area for mask in masks], dtype=np.int64),
            centroid_y=centroids[:, 1],
            centroid_x=centroids[:, 0],
            predicted_iou=np.array([mask.predicted_iou for mask in masks], dtype=np.float64),
            stability_score=np.array([mask.stability_score for mask in masks], dtype=np.float64),
            tile=np.full(n, tile, dtype=np.int64),
            touches_seam=np.zeros(n, dtype=np.bool_),
            prompt=np.array([mask.prompt for mask in masks], dtype=np.str_),
            verified=np.zeros(n, dtype=np.bool_),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeSummary:
    """What a merge came to."""

    masks: int = 0
    """Masks of all tiles."""
    duplicates: int = 0
    """Uncut masks dropped for a better one of the same object."""
    cut: int = 0
    """Masks cut by the edge of what their tile read."""
    cut_seen_whole: int = 0
    """Of these, masks of objects that another tile sees whole."""
    cut_objects_reprompted: int = 0
    """Fragments for which a larger window was prompted again."""
    reprompted_whole: int = 0
    """Objects that came out whole from it."""
    large: int = 0
    """Objects that only coarse tiles showed."""
    covered: int = 0
    """Objects dropped because better ones cover most of them."""
    fragments: int = 0
    """Objects of which only a fragment could be had; `touches_seam` marks them."""
    seam_cuts: int = 0
    """Objects whose contour runs straight along a tile border, see `seam_cut_labels`."""
    reprompts_failed: dict[str, str] = field(default_factory=dict)
    """Errors while prompting again, by fragment; the next run tries these again."""


class ObjectMasks(Protocol):
    """Where the masks of objects come from, by row of their table; in the frame of the whole image."""

    def mask(self, row: int) -> Mask:
        """One mask."""

    def runs(self, rows: NDArray[np.intp]) -> MaskRuns:
        """The run lengths of many masks, in the order of `rows`."""

    def taken(self, rows: NDArray[np.intp]) -> ObjectMasks:
        """Those of some rows, in that order."""


@dataclass(frozen=True, slots=True, eq=False)
class _LoadedMasks:
    """Masks that a function gives."""

    mask: Callable[[int], Mask]

    def runs(self, rows: NDArray[np.intp]) -> MaskRuns:
        return runs_of([self.mask(row) for row in rows.tolist()])

    def taken(self, rows: NDArray[np.intp]) -> _LoadedMasks:
        return _LoadedMasks(lambda row: self.mask(int(rows[row])))


class MergedObjects:
    """The objects of a whole image; a mask is read when it is asked for, so that memory does not grow with the image.

    `masks` says where from: a function from the row of the table to the mask will do.

    Where masks overlap, a label image shows the one painted last. Painting goes from the lowest predicted IoU to the
    highest, so that the mask the model trusts more lies on top; among equals the higher label does. Objects that only
    coarse tiles showed lie below all others: they never hide what was seen at full resolution.
    """

    def __init__(
        self,
        table: ObjectTable,
        image_size: tuple[int, int],
        masks: ObjectMasks | Callable[[int], Mask],
        summary: MergeSummary | None = None,
    ) -> None:
        self.table = table
        self.image_size = image_size
        self.summary = summary or MergeSummary(masks=len(table))
        self.masks: ObjectMasks = _LoadedMasks(masks) if callable(masks) else masks

    @classmethod
    def from_masks(cls, masks: Sequence[Mask], image_size: tuple[int, int]) -> MergedObjects:
        """The objects of an image that was segmented in one piece; `masks` are in whole-image pixels."""
        return cls(ObjectTable.from_masks(masks), image_size, masks.__getitem__)

    def __len__(self) -> int:
        return len(self.table)

    def masks_in(self, box: Box) -> list[tuple[int, Mask]]:
        """Objects whose box shares a pixel with `box`, in painting order.

        Parameters
        ----------
        box : Box
            In whole-image pixels.

        Returns
        -------
        list of (label, Mask)
            The masks are whole and in the frame of the whole image; paint them one over the other.
        """
        return [(int(self.table.label[row]), self.masks.mask(row)) for row in self.rows_in(box).tolist()]

    def mask(self, row: int) -> Mask:
        """The mask of one row of the table, in the frame of the whole image."""
        return self.masks.mask(row)

    def runs(self, rows: NDArray[np.intp]) -> MaskRuns:
        """The run lengths of the masks of many rows, in the frame of the whole image and the order of `rows`."""
        return self.masks.runs(rows)

    def iter_masks(self) -> Iterator[tuple[int, Mask]]:
        """All objects as (label, Mask), in the order of the table, one mask in memory at a time."""
        for row in range(len(self)):
            yield int(self.table.label[row]), self.masks.mask(row)

    def select(self, rows: Sequence[int] | NDArray[np.intp]) -> MergedObjects:
        """The objects of some rows of the table, in that order, labelled 1 to N again; masks are not read."""
        chosen = np.asarray(rows, dtype=np.intp)
        columns: dict[str, Any] = {name: column[chosen] for name, column in self.table.columns().items()}
        table = ObjectTable(**{**columns, "label": np.arange(1, len(chosen) + 1, dtype=np.uint64)})
        return MergedObjects(table, self.image_size, self.masks.taken(chosen), self.summary)

    def rows_in(self, box: Box) -> NDArray[np.intp]:
        """Rows of the objects whose box shares a pixel with `box`, in painting order."""
        table, rows = self.table, self._places.meeting(box)
        is_fine = table.prompt[rows] != COARSE_PROMPT
        ordered: NDArray[np.intp] = rows[np.lexsort((table.label[rows], table.predicted_iou[rows], is_fine))]
        return ordered

    @cached_property
    def _places(self) -> BoxPlaces:
        return BoxPlaces(self.table.x0, self.table.y0, self.table.x1, self.table.y1)
