"""Regions of one image from the instance head, and which prompts ask for one of them.

A model with this head sees a whole image densely at once: what is an object, and where objects border. Flooding from
the centres of the proposal head parts it into regions. A region that agrees with every part of a prompt (all positive
points inside, all negative ones outside, as large as the box) is one more answer to it, rated like the decoder's masks.
So is one that agrees with the most part of the points, once it is mended by the others.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from napari_sam.geometry import ModelFrame, box_iou
from napari_sam.model.instance_head import InstanceHead
from napari_sam.predict.mending import mended
from napari_sam.predict.prompts import Prompts
from napari_sam.predict.regions import grow_regions

LEAST_BOX_IOU = 0.6
"""A single region answers a box if their boxes agree at least so much."""
MOSTLY = 0.5
"""Regions of which more than this part lies in a box answer it together, if they fill more than this part of it."""
MARGIN = 4
"""Low-resolution pixels around a region in which its logits are the head's own; further away they are `FAR`."""
FAR = -10.0
LEAST_SURE = 0.2
"""Least logit, in size, of what clicks changed."""

Labels = tuple[int, ...]
"""Numbers of regions that make one object together."""


@dataclass(frozen=True, slots=True, eq=False)
class RegionAnswer:
    """What the regions say to one prompt set."""

    labels: Labels
    """The regions it is made of, one object together."""
    inside: NDArray[np.bool_] | None = None
    """(h, w) what the clicks made of them; None for the regions as they are."""


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
    areas: NDArray[np.int64]
    """(N + 1,) low-resolution pixels; entry 0 belongs to no region."""

    def __len__(self) -> int:
        return len(self.ratings) - 1

    @property
    def nbytes(self) -> int:
        """Memory it holds."""
        return sum(getattr(self, f.name).nbytes for f in fields(self))

    def logits_for(self, answer: RegionAnswer) -> NDArray[np.float32]:
        """(h, w) mask logits of an answer."""
        if answer.inside is None:
            return self.logits_of(answer.labels)
        # Clicks overrule the head near its zero line, where its logits are too small to say where the mask ends.
        sure = np.maximum(np.abs(self.foreground), LEAST_SURE)
        return np.where(answer.inside, sure, -sure)

    def logits_of(self, labels: Labels) -> NDArray[np.float32]:
        """(h, w) mask logits of regions together, sharing the zero line of the foreground and of their neighbours."""
        logits = np.full(self.labels.shape, FAR, dtype=np.float32)
        boxes = self.boxes[list(labels)]
        (x0, y0), (x1, y1) = boxes[:, :2].min(axis=0) - MARGIN, boxes[:, 2:].max(axis=0) + MARGIN
        window = slice(max(0, y0), y1), slice(max(0, x0), x1)
        sure = np.abs(self.foreground[window])
        logits[window] = np.where(np.isin(self.labels[window], labels), sure, -sure)
        return logits

    def rating_of(self, labels: Labels) -> float:
        """Predicted IoU of regions together: their mean by area; 0 for none."""
        chosen = list(labels)
        return float(np.average(self.ratings[chosen], weights=self.areas[chosen])) if chosen else 0.0

    def seed_xy(self, label: int, frame: ModelFrame) -> tuple[float, float]:
        """Where region `label` grew from, (x, y) in image pixels."""
        cell = frame.model_size / self.labels.shape[0]
        x, y = frame.points_to_image(self.seeds_xy[label][None] * cell - 0.5)[0].tolist()
        return x, y

    def answers_for(self, prompts: Prompts, frame: ModelFrame) -> list[RegionAnswer | None]:
        """What the regions say to each of P prompt sets: those that agree with it, or with points alone also those
        that do once they are mended; None where there are none."""
        agreed = self.labels_for(prompts, frame)
        answers = [RegionAnswer(labels) if labels else None for labels in agreed]
        if len(self) == 0 or prompts.points_xy is None or prompts.point_labels is None:
            return answers
        if prompts.boxes_xyxy is not None:
            return answers
        cells = self._cells(prompts.points_xy, frame)
        return [
            self._mended(at[said == 1], at[said == 0]) if answer is None else answer
            for answer, at, said in zip(answers, cells, prompts.point_labels, strict=True)
        ]

    def _mended(self, positive: NDArray[np.intp], negative: NDArray[np.intp]) -> RegionAnswer | None:
        labels = np.unique(self.labels[positive[:, 1], positive[:, 0]])
        probability = 1 / (1 + np.exp(-self.foreground.astype(np.float64)))
        inside = mended(self.labels, probability, positive, negative)
        return None if inside is None else RegionAnswer(tuple(labels[labels > 0].tolist()), inside)

    def labels_for(self, prompts: Prompts, frame: ModelFrame) -> list[Labels]:
        """The regions that agree with all that each of P prompt sets says; none where nothing does.

        Those under the positive points, one object together, if no negative point lies in them; for a box the region
        as large as it is, or else those that lie in it and fill it.
        """
        count = len(prompts)
        cell = frame.model_size / self.labels.shape[0]
        boxes = None if prompts.boxes_xyxy is None else frame.boxes_to_model(prompts.boxes_xyxy) / cell
        points = prompts.points_xy
        if len(self) == 0 or (points is None and boxes is None):
            return [()] * count
        found: list[Labels] = [()] * count if boxes is None else [self._labels_in(box) for box in boxes]
        if points is None or prompts.point_labels is None:
            return found
        cells = self._cells(points, frame)
        at = self.labels[cells[..., 1], cells[..., 0]].astype(np.int64)  # (P, N)
        said = prompts.point_labels
        inside = [tuple(np.unique(row[kind == 1]).tolist()) for row, kind in zip(at, said, strict=True)]
        asked = inside if boxes is None else found
        outside = [row[kind == 0].tolist() for row, kind in zip(at, said, strict=True)]
        return [
            labels if 0 not in under and set(under) <= set(labels) and not set(labels) & set(beside) else ()
            for labels, under, beside in zip(asked, inside, outside, strict=True)
        ]

    def _cells(self, points_xy: NDArray[np.float64], frame: ModelFrame) -> NDArray[np.intp]:
        """Low-resolution pixels (x, y) of points (..., 2) in image pixels."""
        places = (frame.points_to_model(points_xy) + 0.5) * (self.labels.shape[0] / frame.model_size)
        cells: NDArray[np.intp] = np.clip(np.floor(places), 0, np.array(self.labels.shape[::-1]) - 1).astype(np.intp)
        return cells

    def _labels_in(self, box: NDArray[np.float64]) -> Labels:
        """What answers a box (4,) in low-resolution pixels."""
        agreement = box_iou(box[None], self.boxes[1:].astype(np.float64))[0]  # (N,)
        best = int(agreement.argmax())
        if agreement[best] >= LEAST_BOX_IOU:
            return (best + 1,)
        x0, y0, x1, y1 = np.maximum(np.round(box), 0).astype(int)
        held = np.bincount(self.labels[y0:y1, x0:x1].ravel(), minlength=len(self.areas))
        mostly = np.flatnonzero(held[1:] > MOSTLY * self.areas[1:]) + 1
        if not len(mostly):
            return ()
        (left, top), (right, bottom) = self.boxes[mostly, :2].min(axis=0), self.boxes[mostly, 2:].max(axis=0)
        filled = (min(right, x1) - max(left, x0)) * (min(bottom, y1) - max(top, y0))
        return tuple(mostly.tolist()) if filled > MOSTLY * (x1 - x0) * (y1 - y0) else ()


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
    areas = np.bincount(grown.labels.ravel(), minlength=count + 1)
    areas[0] = 0
    return InstanceMap(labels, grown.foreground, _boxes(grown.labels, count), ratings, grown.seeds_xy, areas)


def _boxes(regions: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """(count + 1, 4) boxes of the regions; row 0 is empty."""
    places = ndimage.find_objects(regions, max_label=count)
    rows = [(0, 0, 0, 0)] + [(p[1].start, p[0].start, p[1].stop, p[0].stop) for p in places]
    return np.array(rows, dtype=np.int64)
