"""Regions of one image from the instance head, and which prompts ask for one of them.

A model with this head sees a whole image densely at once: what is an object, and where objects border. Flooding from
the centres of the proposal head parts it into regions. A region that agrees with every part of a prompt (all positive
points inside, all negative ones outside, as large as the box) is one more answer to it, rated like the decoder's masks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed
from torch import Tensor
from torch.nn import functional as F

from napari_sam.geometry import ModelFrame, box_iou
from napari_sam.model.instance_head import InstanceHead
from napari_sam.predict.prompts import Prompts

SEED_PROBABILITY = 0.2
"""A region grows from each centre that is at least this probable; its rating says whether it is any good."""
SEED_DISTANCE = 2
"""Of two centres nearer than this, in cells of the map of centres, the more probable one stays."""
LEAST_REGION = 6
"""Smaller regions, in low-resolution pixels, are none."""
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
    features = head.features(embedding)
    dense = head.out(features)[0].float()  # (2, 4h, 4w)
    seen = tuple(math.ceil(side * dense.shape[1] / frame.model_size) for side in frame.input_size)
    logits = dense[:, : seen[0], : seen[1]].cpu().numpy()
    regions, peaks, seeds = _flood(logits, centre_logits.float().sigmoid())
    labels = np.zeros(dense.shape[1:], dtype=np.int32)
    labels[: seen[0], : seen[1]] = regions
    rated_by = region_features(regions, features[0, :, : seen[0], : seen[1]].float(), logits, peaks)
    ratings = np.zeros(len(peaks) + 1, dtype=np.float32)
    ratings[1:] = head.rate(rated_by).float().cpu().numpy()
    return InstanceMap(labels, dense[0].cpu().numpy(), _boxes(regions, len(peaks)), ratings, seeds)


def _flood(
    logits: NDArray[np.float32], heat: Tensor
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float64]]:
    """Regions 1 to N of the foreground, grown from the peaks of `heat`; the height of each peak; (N + 1, 2) places."""
    foreground, border = _sigmoid(logits)
    cells, heights = _peaks(heat)
    markers = np.zeros((2 * heat.shape[0], 2 * heat.shape[1]), dtype=np.int32)
    for dy in (0, 1):
        for dx in (0, 1):
            markers[2 * cells[:, 0] + dy, 2 * cells[:, 1] + dx] = np.arange(1, len(cells) + 1)
    markers = markers[: foreground.shape[0], : foreground.shape[1]]
    flooded = watershed(border - foreground, markers, mask=foreground > 0.5)
    kept = np.bincount(flooded.ravel(), minlength=len(cells) + 1) >= LEAST_REGION
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    # A cell of the map of centres is two by two low-resolution pixels; row 0 stands for no region.
    places = np.concatenate([np.zeros((1, 2)), 2.0 * cells[kept[1:], ::-1] + 1])
    return numbers[flooded], heights[kept[1:]], places


def _peaks(heat: Tensor) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Cells (K, 2), (row, column), of the peaks of a map of probabilities, the highest first, and their heights."""
    reach = 2 * SEED_DISTANCE + 1
    highest = F.max_pool2d(heat[None, None], kernel_size=reach, stride=1, padding=SEED_DISTANCE)[0, 0]
    rows, columns = torch.nonzero((heat == highest) & (heat >= SEED_PROBABILITY), as_tuple=True)
    order = torch.argsort(heat[rows, columns], descending=True, stable=True)
    cells = torch.stack([rows, columns], dim=1)[order]
    return cells.cpu().numpy(), heat[rows, columns][order].cpu().numpy()


def region_features(
    regions: NDArray[np.int32], features: Tensor, logits: NDArray[np.float32], peaks: NDArray[np.float32]
) -> Tensor:
    """What regions 1 to N are rated by: (N, C + SHAPE_FEATURES).

    The means of the head's features; then the height of the peak it grew from; mean foreground, as logit and as
    probability; mean probability of a border on its rim and inside; the logarithms of its area and of its area as part
    of the median area; the part of its rim that meets other regions.

    Parameters
    ----------
    regions : (h, w) int32
    features : (C, h, w) tensor
        Of the instance head, at low resolution.
    logits : (2, h, w) float32
        Foreground and border.
    peaks : (N,) float32
    """
    count = len(peaks)
    at = torch.from_numpy(regions.ravel().astype(np.int64)).to(features.device)
    sums = features.new_zeros(features.shape[0], count + 1).index_add_(1, at, features.flatten(1))
    rim, meets = _rims(regions)
    foreground, border = _sigmoid(logits)

    def total(values: NDArray[np.floating] | NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(regions.ravel(), weights=values.ravel(), minlength=count + 1)[1:]

    area, rim_length = np.maximum(total(regions > 0), 1), np.maximum(total(rim), 1)
    columns = [
        peaks,
        total(logits[0]) / area / 8,
        total(foreground) / area,
        total(border * rim) / rim_length,
        total(border * ~rim) / np.maximum(area - total(rim), 1),
        np.log(area) / 8,
        np.log(area / np.median(area)) / 4 if count else area,
        total(meets) / rim_length,
    ]
    shape = torch.from_numpy(np.stack(columns, axis=1).astype(np.float32)).to(features.device)
    return torch.cat([(sums[:, 1:] / shape.new_tensor(area)).T, shape], dim=1)


def _rims(regions: NDArray[np.int32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pixels with a neighbour of another value, and those among them whose neighbour is another region."""
    padded = np.pad(regions, 1, mode="edge")
    height, width = regions.shape
    rim, meets = np.zeros(regions.shape, dtype=bool), np.zeros(regions.shape, dtype=bool)
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        beside = padded[dy : dy + height, dx : dx + width]
        rim |= beside != regions
        meets |= (beside != regions) & (beside > 0)
    return rim, meets


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return 1 / (1 + np.exp(-logits))


def _boxes(regions: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """(count + 1, 4) boxes of the regions; row 0 is empty."""
    places = ndimage.find_objects(regions, max_label=count)
    rows = [(0, 0, 0, 0)] + [(p[1].start, p[0].start, p[1].stop, p[0].stop) for p in places]
    return np.array(rows, dtype=np.int64)
