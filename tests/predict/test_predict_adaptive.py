"""The grid asked from coarse to fine: which points are asked, which are left out and why."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.geometry import Mask, ModelFrame, mask_iou_matrix, point_grid
from napari_sam.predict import AutoMaskConfig, adaptive, embed_image, generate_masks
from napari_sam.predict.adaptive import grid_rounds, iter_adaptive, looks_at

SIDE = 16
SIZE = (64, 64)
POINTS = point_grid(SIDE) * (SIZE[1], SIZE[0])


class Objects:
    """Answers a point with the object it lies on, if any, and remembers what it was asked."""

    def __init__(self, labels: np.ndarray, rating: float = 0.95) -> None:
        self.labels, self.rating, self.asked = labels, rating, []

    def __call__(self, points_xy: np.ndarray) -> Iterator[Mask]:
        self.asked.extend(map(tuple, points_xy.tolist()))
        for x, y in points_xy.tolist():
            label = self.labels[math.floor(y + 0.5), math.floor(x + 0.5)]
            if label:
                yield Mask.from_array(self.labels == label, predicted_iou=self.rating, point_xy=(x, y), prompt="grid")

    def looks(self) -> np.ndarray:
        """An embedding that tells the objects apart from the background."""
        rows, columns = np.floor(POINTS[:, ::-1] + 0.5).astype(int).T
        return (self.labels[rows, columns] > 0)[:, None].astype(np.float32)


def squares(*corners: tuple[int, int], side: int = 12) -> np.ndarray:
    labels = np.zeros(SIZE, dtype=int)
    for i, (y, x) in enumerate(corners, start=1):
        labels[y : y + side, x : x + side] = i
    return labels


def found_by(objects: Objects, looks: np.ndarray, thresh: float = 0.5) -> set[int]:
    masks = iter_adaptive(objects, POINTS, looks, pred_iou_thresh=thresh)
    return {int(objects.labels[mask.box.y0, mask.box.x0]) for mask in masks}


@given(st.integers(1, 40))
def test_each_point_comes_in_one_round(points_per_side):
    rounds = grid_rounds(points_per_side)
    assert all(len(numbers) for numbers in rounds)
    assert np.array_equal(np.sort(np.concatenate(rounds)), np.arange(points_per_side**2))


def test_coarse_points_come_first_and_evenly():
    rows, columns = np.divmod(grid_rounds(8)[0], 8)
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {(2, 2), (2, 6), (6, 2), (6, 6)}


def test_all_objects_are_found_with_few_of_the_points():
    objects = Objects(squares((4, 4), (8, 40), (40, 20)))
    assert found_by(objects, objects.looks()) == {1, 2, 3}
    assert len(objects.asked) == len(set(objects.asked)) < 0.4 * len(POINTS)


def test_a_small_object_between_the_coarse_points_is_found_where_it_looks_different():
    objects = Objects(squares((4, 4), (21, 33), side=4))
    coarse = POINTS[grid_rounds(SIDE)[0]]
    assert not any(objects.labels[int(y), int(x)] == 2 for x, y in coarse.tolist())
    assert 2 in found_by(objects, objects.looks())


def test_an_image_where_everything_looks_different_is_asked_everywhere():
    objects = Objects(np.zeros(SIZE, dtype=int))
    assert found_by(objects, np.eye(len(POINTS), dtype=np.float32)) == set()
    assert len(objects.asked) == len(POINTS)


def test_a_blank_image_is_asked_at_the_coarse_points_only():
    objects = Objects(np.zeros(SIZE, dtype=int))
    assert found_by(objects, objects.looks()) == set()
    assert len(objects.asked) == len(grid_rounds(SIDE)[0])


@pytest.mark.parametrize(("rating", "asks_again"), [(0.86, False), (0.84, True)], ids=["sure", "not sure"])
def test_points_on_a_mask_are_left_out_if_it_is_rated_surely(rating, asks_again):
    objects = Objects(squares((0, 0), side=64), rating)  # 0.85 lies seven tenths of the way from 0.5 to 1
    found_by(objects, objects.looks())
    assert len(objects.asked) == (len(POINTS) if asks_again else len(grid_rounds(SIDE)[0]))


def test_a_point_speaks_only_for_those_within_reach(monkeypatch):
    monkeypatch.setattr(adaptive, "REACH", 1)
    objects = Objects(np.zeros(SIZE, dtype=int))
    found_by(objects, objects.looks())
    rows, columns = np.divmod(np.arange(SIDE**2), SIDE)
    near = (np.abs(rows - 2) <= 1) & (np.abs(columns - 2) <= 1)  # the first coarse point and its neighbours
    asked = {tuple(p) for p in POINTS[near].tolist()} & set(objects.asked)
    assert asked == {tuple(POINTS[2 * SIDE + 2].tolist())}
    assert len(objects.asked) > SIDE


def test_looks_are_the_embedding_where_the_point_lies():
    embedding = torch.arange(16.0).reshape(1, 1, 4, 4)
    frame = ModelFrame((32, 64), 64)  # twice as wide as high: the lower half of the frame is padding
    places = np.array([[7.5, 7.5], [55.5, 23.5], [15.5, 7.5], [0.0, 0.0]])
    assert looks_at(embedding, frame, places)[:, 0].tolist() == pytest.approx([0, 7, 0.5, 0])


def test_the_batch_size_changes_nothing(blob_model, clouds):
    image = clouds(96, 160)
    settings = {"prompts": "adaptive", "points_per_side": 8, "pred_iou_thresh": 0.3, "stability_score_thresh": 0.0}
    one, many = (generate_masks(blob_model, image, AutoMaskConfig(**settings, points_per_batch=n)) for n in (3, 64))
    assert [m.rle for m in one] == [m.rle for m in many]


def test_what_is_found_is_among_the_masks_of_the_full_grid(blob_model, clouds):
    image = clouds(96, 160)
    settings = {"points_per_side": 8, "pred_iou_thresh": 0.8, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
    full, fewer = (
        generate_masks(blob_model, image, AutoMaskConfig(prompts=p, **settings)) for p in ("grid", "adaptive")
    )
    assert 0 < len(fewer) < len(full)
    assert (mask_iou_matrix(fewer, full).max(axis=1) == 1).all()
    assert {m.prompt for m in fewer} == {"grid"}


def test_crop_layers_are_asked_adaptively_too(blob_model, clouds):
    settings = {"points_per_side": 4, "pred_iou_thresh": 0.3, "stability_score_thresh": 0.0, "crop_n_layers": 1}
    masks = generate_masks(blob_model, clouds(96, 160), AutoMaskConfig(prompts="adaptive", **settings))
    assert len({m.crop_box for m in masks}) > 1


def test_every_point_of_an_image_of_one_pixel_is_on_it(blob_model):
    image = np.full((1, 1), 90, dtype=np.uint8)
    assert looks_at(embed_image(blob_model, image).embedding, ModelFrame((1, 1), 128), point_grid(4)).shape == (16, 64)
    assert isinstance(generate_masks(blob_model, image, AutoMaskConfig(prompts="adaptive", points_per_side=4)), list)
