"""Regions grown from the centres of objects over the dense maps of the instance head, and what they are rated by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.segmentation import watershed
from torch import Tensor
from torch.nn import functional as F

from napari_sam.model.instance_head import InstanceHead

SEED_PROBABILITY = 0.2
"""A region grows from each centre that is at least this probable; its rating says whether it is any good."""
SEED_DISTANCE = 2
"""Of two centres nearer than this, in cells of the map of centres, the more probable one stays."""
LEAST_REGION = 6
"""Smaller regions, in low-resolution pixels, are none."""


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """N regions of one embedded image, not yet rated."""

    labels: NDArray[np.int32]
    """(h, w) of the part of the frame that shows the image: 0, or the number of a region."""
    foreground: NDArray[np.float32]
    """(H, W) logits over the whole frame."""
    seeds_xy: NDArray[np.float64]
    """(N + 1, 2) where each region grew from; row 0 belongs to no region."""
    features: Tensor
    """(N, F) what :meth:`InstanceHead.rate` looks at, on its device."""


def grow_regions(
    head: InstanceHead, embedding: Tensor, centre_logits: Tensor, *, seen: tuple[float, ...] = (1.0, 1.0)
) -> Regions:
    """Regions of an image embedding (1, C, h, w) and its map of centres (2h, 2w).

    `seen` is the part of the frame's height and width that shows the image. Pixels that are foreground belong to the
    centre from which a flood reaches them first; it is slow where the head sees borders.
    """
    features = head.features(embedding)
    dense = head.out(features)[0].float()  # (2, 4h, 4w)
    rows, columns = (math.ceil(side * part) for side, part in zip(dense.shape[1:], seen, strict=True))
    logits = dense[:, :rows, :columns].cpu().numpy()
    labels, peaks, seeds = _flood(logits, centre_logits.float().sigmoid())
    # On the CPU, where the regions are: a GPU adds up in an order of its own each time, and bytes would differ.
    rated_by = region_features(labels, features[0, :, :rows, :columns].float().cpu(), logits, peaks)
    return Regions(labels, dense[0].cpu().numpy(), seeds, rated_by.to(embedding.device))


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
    labels: NDArray[np.int32] = numbers[flooded]
    return labels, heights[kept[1:]], places


def _peaks(heat: Tensor) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Cells (K, 2), (row, column), of the peaks of a map of probabilities, the highest first, and their heights."""
    reach = 2 * SEED_DISTANCE + 1
    highest = F.max_pool2d(heat[None, None], kernel_size=reach, stride=1, padding=SEED_DISTANCE)[0, 0]
    rows, columns = torch.nonzero((heat == highest) & (heat >= SEED_PROBABILITY), as_tuple=True)
    order = torch.argsort(heat[rows, columns], descending=True, stable=True)
    cells = torch.stack([rows, columns], dim=1)[order]
    return np.asarray(cells.cpu()), np.asarray(heat[rows, columns][order].cpu())


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
    features : (C, h, w) tensor on the CPU
        Of the instance head, at low resolution.
    logits : (2, h, w) float32
        Foreground and border.
    peaks : (N,) float32
    """
    count = len(peaks)
    at = torch.from_numpy(regions.ravel().astype(np.int64))
    sums = features.new_zeros(features.shape[0], count + 1).index_add_(1, at, features.flatten(1))
    rim, meets = _rims(regions)
    foreground, border = _sigmoid(logits)

    def total(values: NDArray[np.floating] | NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(regions.ravel(), weights=values.ravel(), minlength=count + 1)[1:], np.float64)

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
    shape = torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))
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
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)
