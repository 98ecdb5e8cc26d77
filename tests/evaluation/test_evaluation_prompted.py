"""Windows, boxes and the order of the single-object protocol, with a stand-in for the model."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from napari_sam.evaluation import prompted
from napari_sam.evaluation.prompted import first_click, iter_object_scores, noised_box, objects_by_window, window_for
from napari_sam.geometry import Box
from napari_sam.predict import ImageEmbedding, embed_image, predict_masks
from workflows.workflows_scenes import tiny_model


@dataclass
class Reply:
    masks: np.ndarray
    predicted_iou: np.ndarray
    low_res_logits: np.ndarray


class Oracle:
    """Answers a box with the box, and points with the true objects they lie on: three masks, the second best rated."""

    model = SimpleNamespace(config=SimpleNamespace(image_size=64), device=SimpleNamespace(type="cuda"))

    def __init__(self, labels, monkeypatch):
        self.embedded = 0
        self.asked = []
        monkeypatch.setattr(prompted, "embed_image", self.embed)
        monkeypatch.setattr(prompted, "predict_masks", self.predict)
        self.labels = labels

    def embed(self, model, image) -> ImageEmbedding:
        self.embedded += 1
        return image[..., 0].astype(int)  # the labels themselves, in the tests' images

    def predict(
        self, model, embedding, points_xy=None, point_labels=None, boxes_xyxy=None, mask_logits=None, multimask=True
    ):
        self.asked.append((None if points_xy is None else np.shape(points_xy), mask_logits is not None, multimask))
        if boxes_xyxy is not None:
            y, x = np.indices(embedding.shape)
            masks = np.stack([(x >= a) & (y >= b) & (x < c) & (y < d) for a, b, c, d in boxes_xyxy])
        else:
            first = np.asarray(points_xy).reshape(-1, np.shape(points_xy)[-2], 2)[:, 0].astype(int)
            masks = np.stack([embedding == embedding[y, x] for x, y in first])
        count = 3 if multimask else 1
        masks = np.repeat(masks[:, None], count, axis=1)
        if multimask:
            masks[:, 0], masks[:, 2] = False, True
        return Reply(masks, np.tile([0.1, 0.9, 0.2][:count], (len(masks), 1)), np.zeros((len(masks), count, 4, 4)))


def three_objects(size=(60, 60)):
    labels = np.zeros(size, np.int32)
    labels[5:15, 5:25], labels[30:50, 30:40], labels[55, 55] = 7, 90, 200
    return labels


def test_every_object_is_asked_by_clicks_and_boxes_with_one_embedding(monkeypatch):
    labels = three_objects()
    oracle = Oracle(labels, monkeypatch)
    image = np.repeat(labels[..., None], 3, axis=2).astype(np.uint8)
    scores = list(iter_object_scores(oracle.model, image, labels, clicks=3, random_draws=2))
    assert oracle.embedded == 1
    assert [(s.label, s.area_px, s.place) for s in scores] == [
        (7, 200, Box(5, 5, 25, 15)),
        (90, 200, Box(30, 30, 40, 50)),  # the object of one pixel is left out
    ]
    for s in scores:
        assert s.clicks == (1, 1, 1)
        assert s.random_clicks == ((1, 1, 1), (1, 1, 1))
        assert (s.oracle, s.box) == (1, 1)
        assert 0.3 < s.noised_box < 1


def test_objects_without_clicks_or_boxes_say_so(monkeypatch):
    labels = three_objects()
    oracle = Oracle(labels, monkeypatch)
    image = np.repeat(labels[..., None], 3, axis=2).astype(np.uint8)
    (scores, _) = iter_object_scores(oracle.model, image, labels, clicks=0, random_draws=2)
    assert (scores.clicks, scores.random_clicks, scores.box) == ((), (), 1)
    (scores, _) = iter_object_scores(oracle.model, image, labels, clicks=1, boxes=False)
    assert scores.clicks == (1,)
    assert np.isnan([scores.box, scores.noised_box]).all()


def test_an_objects_own_randomness_does_not_depend_on_the_others(monkeypatch):
    labels = three_objects()
    oracle = Oracle(labels, monkeypatch)
    image = np.repeat(labels[..., None], 3, axis=2).astype(np.uint8)
    both = list(iter_object_scores(oracle.model, image, labels, clicks=0, seed=(3, 4)))
    (alone,) = iter_object_scores(oracle.model, image, np.where(labels == 90, labels, 0), clicks=0, seed=(3, 4))
    (other,) = iter_object_scores(oracle.model, image, np.where(labels == 90, labels, 0), clicks=0, seed=5)
    assert both[1].noised_box == alone.noised_box != other.noised_box


def test_the_first_click_can_be_looked_at(monkeypatch):
    labels = three_objects((60, 200))
    oracle = Oracle(labels, monkeypatch)
    labels[:] = np.roll(labels, 120, axis=1)
    image = np.repeat(labels[..., None], 3, axis=2).astype(np.uint8)
    point, mask = first_click(oracle.model, image, labels, 90, Box(150, 30, 160, 50))
    assert labels[int(point[1]), int(point[0])] == 90
    assert (mask == (labels == 90)).all()


@pytest.mark.parametrize(
    "labels", [np.zeros((9, 9), int), np.full((9, 9), 2**24 - 1)], ids=["none", "one, large number"]
)
def test_objects_are_found_whatever_their_numbers(labels):
    found = [member for members in objects_by_window(labels, 64).values() for member in members]
    assert found == ([(2**24 - 1, Box(0, 0, 9, 9))] if labels.any() else [])


def test_noise_moves_each_side_by_a_tenth_at_most_twenty_pixels_and_stays_inside():
    rng = np.random.default_rng(0)
    for sides, deviation in (((100, 60), (10, 6)), ((600, 900), (20, 20))):
        box = np.array([1000, 1000, 1000 + sides[0], 1000 + sides[1]], float)
        moved = np.array([noised_box(box, (3000, 3000), rng) - box for _ in range(4000)])
        assert moved.mean(axis=0) == pytest.approx([0] * 4, abs=1.5)
        assert moved.std(axis=0) == pytest.approx([*deviation, *deviation], rel=0.06)
    tiny = [noised_box(np.array([0.0, 0, 1, 40]), (40, 1), rng) for _ in range(200)]
    assert all(x1 - x0 >= 1 and y1 - y0 >= 1 and x0 >= 0 and x1 <= 1 and y1 <= 40 for x0, y0, x1, y1 in tiny)


def test_a_small_image_is_one_window():
    assert window_for(Box(3, 3, 5, 5), (300, 400), 512) == Box(0, 0, 400, 300)


@pytest.mark.parametrize("place", [(0, 0), (1400, 20), (700, 700), (1990, 1490)])
def test_a_window_holds_its_object_and_lies_on_the_lattice(place):
    box = Box(place[0], place[1], place[0] + 10, place[1] + 10)
    window = window_for(box, (1500, 2000), 512)
    assert window.clipped(box) == box
    assert window.x0 % 256 == 0 or window.x1 == 2000
    assert max(window.width, window.height) <= 512


def test_an_object_larger_than_a_window_gets_a_coarser_one():
    box = Box(100, 100, 800, 200)
    window = window_for(box, (3000, 3000), 512)
    assert window.clipped(box) == box
    assert window.width == 1024


def test_prompts_with_masks_are_answered_alone_just_as_in_a_batch():
    model = tiny_model()
    image = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    embedding = embed_image(model, image)
    points, signs = np.array([[[10, 10], [30, 20]], [[40, 40], [5, 50]]]), np.array([[1, 0], [1, 1]])
    logits = np.random.default_rng(1).normal(size=(2, *embedding.low_res_size)).astype(np.float32)
    asked = {"points_xy": points, "point_labels": signs, "mask_logits": logits, "multimask": False}
    alone, batch = prompted._answer(model, embedding)(**asked), predict_masks(model, embedding, **asked)
    assert alone.low_res_logits == pytest.approx(batch.low_res_logits, abs=1e-4)
    assert alone.predicted_iou == pytest.approx(batch.predicted_iou, abs=1e-4)
    assert alone.masks.shape == batch.masks.shape
