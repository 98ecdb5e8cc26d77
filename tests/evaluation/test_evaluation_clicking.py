"""Clicks: where they go, how they are answered, when they end. A stand-in answers, so each rule can be seen alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from napari_sam.evaluation import click_objects, mask_iou, next_click, random_point


def disc(size, centre, radius):
    y, x = np.indices(size)
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2


@dataclass
class Reply:
    masks: np.ndarray
    predicted_iou: np.ndarray
    low_res_logits: np.ndarray


class Script:
    """Answers with given masks, one after the other, and keeps the questions."""

    def __init__(self, first, later=()):
        """`first` (P, 3, h, w) and its ratings; `later` masks of single answers (h, w), the same for all objects."""
        self.first, self.later, self.asked = first, list(later), []

    def __call__(self, *, points_xy, point_labels, multimask, mask_logits=None):
        self.asked.append((points_xy, point_labels, multimask, mask_logits))
        if multimask:
            masks, ratings = self.first
            numbers = np.arange(masks.shape[0] * 3).reshape(-1, 3, 1, 1)
            return Reply(masks, ratings, np.broadcast_to(numbers, (*numbers.shape[:2], 2, 2)).astype(float))
        masks = np.repeat(self.later.pop(0)[None, None], len(points_xy), axis=0)
        number = 100.0 + len(self.asked)
        return Reply(masks, np.ones((len(points_xy), 1)), np.full((len(points_xy), 1, 2, 2), number))


TRUTH = disc((40, 40), (20, 20), 9)
HALF = TRUTH & (np.indices((40, 40))[1] < 20)
TOO_MUCH = TRUTH | disc((40, 40), (34, 34), 4)


def script(later=(), ratings=(0.2, 0.9, 0.3)):
    first = np.stack([TRUTH, HALF, np.ones_like(TRUTH)])[None]
    return Script((first, np.array([ratings])), later)


def test_the_first_click_counts_the_most_confident_mask_and_the_oracle_the_best():
    (scores,) = click_objects(script(), np.array([[20, 20]]), TRUTH[None], clicks=1)
    assert scores.iou == pytest.approx((HALF.sum() / TRUTH.sum(),))
    assert scores.oracle == 1


def test_later_clicks_are_asked_with_all_former_ones_and_the_former_logits_for_a_single_mask():
    answer = script([TOO_MUCH, TRUTH])
    (scores,) = click_objects(answer, np.array([[20, 20]]), TRUTH[None], clicks=3)
    assert scores.iou == pytest.approx((HALF.sum() / TRUTH.sum(), TRUTH.sum() / TOO_MUCH.sum(), 1))
    points, signs, multimask, logits = zip(*answer.asked, strict=True)
    assert multimask == (True, False, False)
    assert [p.shape for p in points] == [(1, 1, 2), (1, 2, 2), (1, 3, 2)]
    assert points[2][0, :2].tolist() == points[1][0].tolist()
    assert signs[2].tolist() == [[1, 1, 0]]  # missed half, then the invented disc
    assert points[2][0, 2].tolist() == [34, 34]
    assert logits[0] is None
    assert logits[1].flat[0] == 1  # of the second mask, which was the most confident
    assert logits[2].flat[0] == 102  # of the answer to the second click


def test_beyond_the_clicks_for_all_only_objects_below_the_goal_go_on():
    first = np.stack([np.stack([TRUTH] * 3), np.stack([HALF] * 3)])
    answer = Script((first, np.ones((2, 3))), [HALF, HALF, TRUTH, HALF])
    scores = click_objects(answer, np.array([[20, 20]] * 2), np.stack([TRUTH] * 2), clicks=2, max_clicks=20, goal=0.9)
    # The first has been good once: it gets its two clicks and no more. The second ends when it is good.
    assert [len(s.iou) for s in scores] == [2, 4]
    assert scores[1].iou[-1] == 1
    assert [len(points) for points, *_ in answer.asked] == [2, 2, 1, 1]


def test_without_a_goal_every_object_gets_just_its_clicks():
    answer = script([HALF] * 4)
    (scores,) = click_objects(answer, np.array([[20, 20]]), TRUTH[None], clicks=5)
    assert len(scores.iou) == len(answer.asked) == 5


def test_random_first_clicks_lie_anywhere_inside_and_nowhere_else():
    rng = np.random.default_rng(0)
    mask = disc((20, 30), (5, 5), 2) | disc((20, 30), (25, 15), 1)
    drawn = [tuple(random_point(mask, rng).astype(int)) for _ in range(2000)]
    assert set(drawn) == {(x, y) for y, x in np.argwhere(mask)}
    counts = [drawn.count(place) for place in set(drawn)]
    assert max(counts) < 2 * min(counts)


def test_the_same_seed_draws_the_same_place():
    places = [random_point(TRUTH, np.random.default_rng(seed)).tolist() for seed in (1, 1, 2)]
    assert places[0] == places[1] != places[2]


def test_the_next_click_is_positive_in_a_missed_region():
    truth = disc((60, 60), (20, 20), 10) | disc((60, 60), (45, 45), 6)
    point, sign = next_click(disc((60, 60), (20, 20), 10), truth)
    assert (point.tolist(), sign) == ([45, 45], 1)


def test_the_next_click_is_negative_in_an_invented_region():
    truth = disc((60, 60), (20, 20), 10)
    point, sign = next_click(truth | disc((60, 60), (45, 45), 6), truth)
    assert (point.tolist(), sign) == ([45, 45], 0)


def test_the_larger_of_two_errors_is_clicked():
    truth = disc((60, 60), (20, 20), 10)
    mask = disc((60, 60), (45, 45), 6)  # all of the object missed, a smaller one invented
    assert next_click(mask, truth)[1] == 1


def test_a_perfect_mask_is_clicked_in_its_middle_again():
    truth = disc((60, 60), (20, 20), 10)
    assert next_click(truth, truth)[0].tolist() == [20, 20]


@pytest.mark.parametrize("seed", range(6))
def test_the_next_click_lies_in_the_largest_wrong_region_of_its_sign(seed):
    rng = np.random.default_rng(seed)
    mask, truth = rng.random((2, 12, 12)) < 0.5
    (x, y), sign = next_click(mask, truth)
    assert (truth & ~mask if sign else mask & ~truth)[int(y), int(x)]


def test_mask_iou_is_that_of_each_pair():
    a = np.zeros((2, 4, 4), bool)
    a[0, :2], a[1, 0, 0] = True, True
    b = np.zeros((2, 4, 4), bool)
    b[0, :1], b[1, 3, 3] = True, True
    assert mask_iou(a, b).tolist() == [0.5, 0.0]
