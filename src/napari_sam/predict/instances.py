"""Regions of one image from the instance head, and which prompts ask for one of them.

A model with this head sees a whole image densely at once: what is an object, and where objects border. Flooding from
the centres of the proposal head parts it into regions. A region that agrees with every part of a prompt (all positive
points inside, all negative ones outside, as large as the box) is one more answer to it, rated like the decoder's masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from napari_sam.geometry import ModelFrame, box_iou
from napari_sam.model.instance_head import InstanceHead
from napari_sam.predict.prompts import Prompts
from napari_sam.predict.regions import grow_regions

LEAST_BOX_IOU = 0.6
"""A region answers a box if their boxes agree at least so much."""
MARGIN = 4
"""Low-resolution pixels around a region in which its logits are the head's own; further away they are `FAR`."""
FAR = -10.0


@dataclass(frozen=True, slots=True, eq=False)
class InstanceMap:
    """The regions of one embedded image, at the decoder's low resolution. Arrays on the CPU."""

    labels: NDArray[np.int32]
    """(h, w) over the model's frame: 0 or the number of a region."""
    foreground: NDArray[np.float32]
    """(h, w) logits of "an object is here"."""
    boxes: NDArray[np.int64]
    """(N + 1, 4) half-open XYXY in low-resolution pixels; row 0 belongs to no region."""
    ratings: NDArray[np.float32]
    """(N + 1,) predicted IoU; entry 0 belongs to no region."""
    seeds_xy: NDArray[np.float64]
    """(N + 1, 2) where each region grew from, in low-resolution pixels; row 0 belongs to no region."""

    def __len__(self) -> int:
        return len(self.ratings) - 1

    @property
    def nbytes(self) -> int:
        """Memory it holds."""
        return sum(array.nbytes for array in (self.labels, self.foreground, self.boxes, self.ratings, self.seeds_xy))

    def logits_of(self, label: int) -> NDArray[np.float32]:
        """(h, w) mask logits of region `label`, sharing the zero line of the foreground and of its neighbours."""
        logits = np.full(self.labels.shape, FAR, dtype=np.float32)
        x0, y0, x1, y1 = self.boxes[label]
        window = slice(max(0, y0 - MARGIN), y1 + MARGIN), slice(max(0, x0 - MARGIN), x1 + MARGIN)
        sure = np.abs(self.foreground[window])
        logits[window] = np.where(self.labels[window] == label, sure, -sure)
        return logits

    def seed_xy(self, label: int, frame: ModelFrame) -> tuple[float, float]:
        """Where region `label` grew from, (x, y) in image pixels."""
        cell = frame.model_size / self.labels.shape[0]
        x, y = frame.points_to_image(self.seeds_xy[label][None] * cell - 0.5)[0].tolist()
        return x, y

    def labels_for(self, prompts: Prompts, frame: ModelFrame) -> NDArray[np.int64]:
        """(P,) the region that agrees with all that a prompt set says, 0 where there is none."""
        count = len(prompts)
        if len(self) == 0 or (prompts.points_xy is None and prompts.boxes_xyxy is None):
            return np.zeros(count, dtype=np.int64)
        cell = frame.model_size / self.labels.shape[0]
        found = (
            None
            if prompts.boxes_xyxy is None
            else self._labels_of_boxes(frame.boxes_to_model(prompts.boxes_xyxy) / cell)
        )
        if prompts.points_xy is not None and prompts.point_labels is not None:
            at = self._labels_at((frame.points_to_model(prompts.points_xy) + 0.5) / cell)  # (P, N)
            inside, outside = prompts.point_labels == 1, prompts.point_labels == 0
            if found is None:
                found = np.where(inside.any(axis=1), np.where(inside, at, 0).max(axis=1), 0)
            asked = found[:, None]
            agrees = ((at == asked) | ~inside).all(axis=1) & ((at != asked) | ~outside).all(axis=1)
            found = np.where(agrees, found, 0)
        return np.zeros(count, dtype=np.int64) if found is None else found

    def _labels_at(self, places_xy: NDArray[np.float64]) -> NDArray[np.int64]:
        """Region at each of the places (..., 2), in low-resolution pixels."""
        limits = np.array(self.labels.shape[::-1]) - 1
        cells = np.clip(np.floor(places_xy), 0, limits).astype(np.intp)
        return self.labels[cells[..., 1], cells[..., 0]].astype(np.int64)

    def _labels_of_boxes(self, boxes: NDArray[np.float64]) -> NDArray[np.int64]:
        agreement = box_iou(boxes, self.boxes[1:].astype(np.float64))  # (P, N)
        best = agreement.argmax(axis=1)
        return np.where(agreement[np.arange(len(boxes)), best] >= LEAST_BOX_IOU, best + 1, 0)


def find_instances(head: InstanceHead, embedding: Tensor, centre_logits: Tensor, frame: ModelFrame) -> InstanceMap:
    """The regions of an embedded image.

    Parameters
    ----------
    head : InstanceHead
    embedding : (1, C, h, w) tensor
    centre_logits : (2h, 2w) tensor
        Of the proposal head.
    frame : ModelFrame
        Where the image lies in the model's frame; there are no regions in the padding.
    """
    grown = grow_regions(head, embedding, centre_logits, seen=tuple(s / frame.model_size for s in frame.input_size))
    labels = np.zeros(grown.foreground.shape, dtype=np.int32)
    labels[: grown.labels.shape[0], : grown.labels.shape[1]] = grown.labels
    count = len(grown.features)
    ratings = np.zeros(count + 1, dtype=np.float32)
    ratings[1:] = head.rate(grown.features).float().cpu().numpy()
    return InstanceMap(labels, grown.foreground, _boxes(grown.labels, count), ratings, grown.seeds_xy)


def _boxes(regions: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """(count + 1, 4) boxes of the regions; row 0 is empty."""
    places = ndimage.find_objects(regions, max_label=count)
    rows = [(0, 0, 0, 0)] + [(p[1].start, p[0].start, p[1].stop, p[0].stop) for p in places]
    return np.array(rows, dtype=np.int64)
