"""Masks of planes linked into objects: optimal, one a plane, in whatever order they come."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_sam.annotate.linking import best_links, link_planes
from napari_sam.errors import ConfigError
from napari_sam.geometry import Mask, mask_iou_matrix


def masks_of(labels: np.ndarray) -> list[Mask]:
    return [Mask.from_array(labels == value) for value in np.unique(labels[labels > 0])]


def random_masks(rng: np.random.Generator, count: int, side: int = 16) -> list[Mask]:
    masks = []
    for _ in range(count):
        pixels = np.zeros((side, side), bool)
        y, x = rng.integers(0, side - 4, 2)
        pixels[y : y + rng.integers(2, 8), x : x + rng.integers(2, 8)] = True
        masks.append(Mask.from_array(pixels))
    return masks


def best_sum(iou: np.ndarray) -> float:
    """The largest sum of a matching, by trying all."""
    if iou.shape[0] > iou.shape[1]:
        iou = iou.T
    return max(sum(iou[i, j] for i, j in enumerate(chosen)) for chosen in permutations(range(iou.shape[1]), len(iou)))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=st.tuples(st.integers(0, 5), st.integers(0, 5)), thresh=st.floats(0, 0.6))
def test_links_have_the_largest_sum_of_iou_there_is(seed, sizes, thresh):
    rng = np.random.default_rng(seed)
    a, b = (random_masks(rng, count) for count in sizes)
    links = best_links(a, b, thresh)
    assert len({i for i, _ in links}) == len({j for _, j in links}) == len(links)
    iou = mask_iou_matrix(a, b)
    assert all(iou[i, j] >= thresh for i, j in links)
    allowed = np.where(iou >= thresh, iou, 0)
    assert sum(iou[i, j] for i, j in links) == pytest.approx(best_sum(allowed))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_mask_is_part_of_one_object_whatever_the_order(seed):
    rng = np.random.default_rng(seed)
    planes = [random_masks(rng, int(rng.integers(0, 7))) for _ in range(4)]
    orders = [rng.permutation(len(masks)) for masks in planes]
    shuffled = [[masks[i] for i in order] for masks, order in zip(planes, orders, strict=True)]
    objects = link_planes(planes)
    assert sorted(part for found in objects for part in found.parts) == [
        (z, i) for z, masks in enumerate(planes) for i in range(len(masks))
    ]

    def drawn(objects, planes):
        return [[(z, planes[z][i].box, planes[z][i].area) for z, i in found.parts] for found in objects]

    assert drawn(link_planes(shuffled), shuffled) == drawn(objects, planes)


def test_balls_and_tubes_of_a_volume_are_found_as_its_connected_regions():
    z, y, x = np.indices((20, 60, 60))
    volume = np.zeros(z.shape, bool)
    for cz, cy, cx, r in ((6, 12, 12, 8), (10, 40, 40, 9), (14, 12, 44, 5)):
        # Flat caps: a mask that is a hundredth of its neighbour is no longer the same one by IoU.
        volume |= ((y - cy) ** 2 + (x - cx) ** 2 <= r**2) & (abs(z - cz) < r)
    volume |= (y - 45 - z / 4) ** 2 + (x - 12) ** 2 <= 16
    truth, count = ndimage.label(volume)
    planes = [masks_of(ndimage.label(plane)[0]) for plane in volume]
    objects = link_planes(planes)
    found = np.zeros_like(truth)
    for label, parts in enumerate(objects, start=1):
        for plane, index in parts.parts:
            found[plane][planes[plane][index].to_array()] = label
    assert len(objects) == count == 4
    pairs = np.unique(np.stack([truth[volume], found[volume]]), axis=1)
    assert pairs.shape[1] == count  # one to one


def test_an_object_ends_where_a_plane_does_not_show_it():
    mask = random_masks(np.random.default_rng(0), 1)
    assert [found.parts for found in link_planes([mask, [], mask])] == [((0, 0),), ((2, 0),)]


def test_no_planes_are_no_objects():
    assert link_planes([]) == []
    assert link_planes([[], []]) == []


def test_a_threshold_outside_its_range_is_named():
    with pytest.raises(ConfigError, match=r"\[0, 1\], got 2"):
        link_planes([], iou_thresh=2)
