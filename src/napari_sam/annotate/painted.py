"""The objects of a session as the writers of label images and tables want them, one plane at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from napari_sam.annotate.labels import SparseLabels
from napari_sam.annotate.objects import AnnotatedObject
from napari_sam.annotate.prompts import Plane, prompt_kind
from napari_sam.geometry import Box, Mask
from napari_sam.tiling import ObjectTable


class PaintedObjects:
    """The labels of one plane, pixel for pixel, as objects that do not overlap; masks are made when asked for."""

    def __init__(self, labels: SparseLabels, objects: Mapping[int, AnnotatedObject], plane: Plane = ()) -> None:
        self.labels = labels
        self.plane = plane
        self._objects = [known for _, known in sorted(objects.items()) if known.part(plane) is not None]
        self.table = object_table(self._objects, [mask for _, mask in self.iter_masks()], plane)

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.labels.frame_size

    def masks_in(self, box: Box) -> list[tuple[int, Mask]]:
        """Label and mask of what is labelled in a box; the masks end at the box."""
        from scipy import ndimage

        pixels = self.labels.window(self.plane, box)
        if not pixels.any():
            return []
        found, places = np.unique(pixels, return_inverse=True)
        numbered = places.reshape(pixels.shape).astype(np.int32) + (0 if found[0] == 0 else 1)
        masks = []
        for label, (rows, columns) in zip(found[found > 0].tolist(), ndimage.find_objects(numbered), strict=True):
            window = Box(columns.start, rows.start, columns.stop, rows.stop).shifted(box.x0, box.y0)
            masks.append((label, Mask.from_window(pixels[rows, columns] == label, window, self.image_size)))
        return masks

    def iter_masks(self) -> Iterator[tuple[int, Mask]]:
        """Label and mask of every object of the plane, one in memory at a time."""
        for known in self._objects:
            part = known.part(self.plane)
            if part is not None:
                yield known.label, self.labels.mask_of(known.label, self.plane, part.extent)


def object_table(objects: Sequence[AnnotatedObject], masks: Sequence[Mask], plane: Plane) -> ObjectTable:
    """One row an object of one plane, in the columns that every table of this package has.

    `verified` says that a person accepted the object in review, as it was or mended. `prompt` is what it came from:
    the kind of its first prompt, "prefilled" or "painted".
    """
    parts = [known.part(plane) for known in objects]
    bare = ObjectTable.from_masks(masks)
    return ObjectTable(
        **{  # type: ignore[arg-type]
            **bare.columns(),
            "label": np.array([known.label for known in objects], dtype=np.uint64),
            "predicted_iou": np.array([part.predicted_iou for part in parts if part is not None], dtype=np.float64),
            "stability_score": np.array([part.stability_score for part in parts if part is not None], dtype=np.float64),
            "prompt": np.array([_prompt_word(known) for known in objects], dtype=np.str_),
            "verified": np.array([known.is_verified for known in objects], dtype=np.bool_),
        }
    )


def _prompt_word(known: AnnotatedObject) -> str:
    return known.origin if not known.prompts else prompt_kind(known.prompts[0])
