"""What the dense part of training teaches every pixel, computed from the labels of a crop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from napari_sam.geometry import most_interior_point
from napari_sam.model.conv_encoder import CENTRE_UNIT_PX


@dataclass(frozen=True, slots=True)
class ObjectPlaces:
    """Where the objects of a crop lie; row i belongs to label `ids[i]`. Crop pixels."""

    ids: np.ndarray
    centres_xy: np.ndarray
    """(N, 2): the centroid, or for bent objects the most interior pixel."""
    areas: np.ndarray
    boxes_xyxy: np.ndarray
    """(N, 4) half-open."""


def object_places(labels: np.ndarray) -> ObjectPlaces:
    """Centre, area and box of every object of `labels` (S, S)."""
    ids, first, inverse, areas = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    del first
    inverse = inverse.reshape(labels.shape)
    ys, xs = np.indices(labels.shape)
    centres = np.stack(
        [np.bincount(inverse.ravel(), weights=axis.ravel()) / areas for axis in (xs, ys)], axis=1
    )  # (N, 2)
    slices = ndimage.find_objects(inverse + 1)
    boxes = np.array([[s[1].start, s[0].start, s[1].stop, s[0].stop] for s in slices if s is not None]).reshape(-1, 4)
    keep = ids > 0
    rows = np.flatnonzero(keep)
    for row in rows:  # few: only objects whose centroid lies outside themselves
        x, y = np.rint(centres[row]).astype(int)
        if inverse[y, x] != row:
            centres[row] = most_interior_point(inverse[slices[row]] == row) + boxes[row, :2]
    return ObjectPlaces(ids[keep], centres[keep], areas[keep], boxes[keep])


@dataclass(frozen=True, slots=True)
class DenseTargets:
    """Per-pixel targets of one crop of S pixels with an embedding of stride 8."""

    foreground: Tensor
    """(S/2, S/2) float: how much of each pixel is an object."""
    border: Tensor
    """(S/2, S/2) float: how much of each pixel is an object's border."""
    offsets: Tensor
    """(2, S/8, S/8): from each embedding pixel to its object's centre, in units of CENTRE_UNIT_PX."""
    offset_weight: Tensor
    """(S/8, S/8): 0 on background, else the inverse of the object's radius."""
    heat: Tensor
    """(S/4, S/4): 1 at object centres, falling off as a Gaussian of the object's size."""


def dense_targets(labels: np.ndarray, places: ObjectPlaces) -> DenseTargets:
    """Targets of a crop whose labels (S, S) hold the objects at `places`."""
    foreground, border = np.zeros((2, labels.shape[0] // 2, labels.shape[1] // 2), dtype=np.float32)
    for y in (0, 1):
        for x in (0, 1):  # the mean of all four pixels: one alone lies half a pixel beside the middle
            part = labels[y::2, x::2]
            foreground += (part > 0) / 4
            border += (_differs_beside(part) & (part > 0)) / 4
    offsets, weight = _offset_targets(labels[4::8, 4::8], places)
    return DenseTargets(
        foreground=torch.from_numpy(foreground),
        border=torch.from_numpy(border),
        offsets=torch.from_numpy(offsets),
        offset_weight=torch.from_numpy(weight),
        heat=torch.from_numpy(_heat_map(labels.shape[0] // 4, places)),
    )


def _differs_beside(labels: np.ndarray) -> np.ndarray:
    """Where one of the four neighbours has another value."""
    padded = np.pad(labels, 1, mode="edge")
    differs = np.zeros(labels.shape, dtype=bool)
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        differs |= padded[dy : dy + labels.shape[0], dx : dx + labels.shape[1]] != labels
    return differs


def _offset_targets(labels8: np.ndarray, places: ObjectPlaces) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.zeros((2, *labels8.shape), dtype=np.float32)
    weight = np.zeros(labels8.shape, dtype=np.float32)
    if len(places.ids):
        row = np.searchsorted(places.ids, labels8).clip(max=len(places.ids) - 1)
        inside = labels8 > 0
        ys, xs = np.indices(labels8.shape) * 8 + 4
        offsets[0] = (places.centres_xy[row, 0] - xs + 0.5) / CENTRE_UNIT_PX * inside
        offsets[1] = (places.centres_xy[row, 1] - ys + 0.5) / CENTRE_UNIT_PX * inside
        radius = np.sqrt(places.areas / np.pi)
        weight[:] = np.where(inside, CENTRE_UNIT_PX / np.maximum(radius[row], 6), 0)
    return offsets, weight


def _heat_map(side: int, places: ObjectPlaces) -> np.ndarray:
    heat = np.zeros((side, side), dtype=np.float32)
    for (cx, cy), area in zip(places.centres_xy, places.areas, strict=True):
        px, py = int((cx + 0.5) / 4), int((cy + 0.5) / 4)  # the pixel that holds the centre gets exactly 1
        sigma = float(np.clip(0.12 * np.sqrt(area), 2.0, 16.0)) / 4
        reach = int(3 * sigma) + 1
        y = np.arange(max(0, py - reach), min(side, py + reach + 1))
        x = np.arange(max(0, px - reach), min(side, px + reach + 1))
        bump = np.exp(-((x[None, :] - px) ** 2 + (y[:, None] - py) ** 2) / (2 * sigma**2))
        window = np.ix_(y, x)
        heat[window] = np.maximum(heat[window], bump)
    return heat
