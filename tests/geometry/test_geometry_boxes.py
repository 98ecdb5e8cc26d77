import time

import numpy as np
import pytest

from napari_sam.errors import ConfigError, PromptError
from napari_sam.geometry import Box, as_boxes, box_iou, nms, overlapping_pairs


def random_boxes(rng, n, size=100, side=40, fractional=False):
    low = rng.uniform(0, size, (n, 2))
    boxes = np.concatenate([low, low + rng.uniform(0, side, (n, 2))], axis=1)
    return boxes if fractional else np.floor(boxes)


def plain_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def plain_nms(boxes, scores, thresh):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(plain_iou(boxes[i], boxes[k]) <= thresh for k in kept):
            kept.append(i)
    return kept


def test_box_iou_equals_the_double_loop():
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 23, fractional=True), random_boxes(rng, 31)
    expected = [[plain_iou(p, q) for q in b] for p in a]
    np.testing.assert_allclose(box_iou(a, b), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_box_iou_of_no_boxes_is_an_empty_matrix(shape):
    assert box_iou(np.zeros((shape[0], 4)), np.zeros((shape[1], 4))).shape == shape


def test_empty_boxes_have_no_iou_with_themselves():
    assert box_iou([[3, 3, 3, 3]], [[3, 3, 3, 3]]).tolist() == [[0.0]]


@pytest.mark.parametrize("thresh", [0.0, 0.1, 0.5, 0.7, 1.0])
@pytest.mark.parametrize(
    ("n", "size"), [(1, 10), (50, 20), (300, 15), (300, 1000)], ids=["one", "few", "crowd", "thin"]
)
def test_nms_equals_the_double_loop(n, size, thresh):
    rng = np.random.default_rng(n + size)
    boxes = random_boxes(rng, n, size=size)
    scores = rng.integers(0, 20, n) / 20  # many ties
    assert nms(boxes, scores, thresh).tolist() == plain_nms(boxes, scores, thresh)


def test_nms_of_equal_scores_keeps_the_lower_index():
    assert nms([[0, 0, 9, 9]] * 3, [0.5, 0.5, 0.5], 0.7).tolist() == [0]


def test_nms_keeps_a_pair_whose_iou_is_exactly_the_threshold():
    assert nms([[0, 0, 10, 10], [0, 0, 10, 5]], [1.0, 0.9], 0.5).tolist() == [0, 1]


def test_nms_does_not_mind_the_order_of_its_boxes():
    rng = np.random.default_rng(5)
    boxes, scores = random_boxes(rng, 200), rng.permutation(200) / 200
    shuffle = rng.permutation(200)
    assert shuffle[nms(boxes[shuffle], scores[shuffle], 0.4)].tolist() == nms(boxes, scores, 0.4).tolist()


def test_nms_keeps_the_best_and_leaves_nothing_above_the_threshold():
    rng = np.random.default_rng(6)
    boxes, scores = random_boxes(rng, 500), rng.random(500)
    kept = nms(boxes, scores, 0.3)
    iou = box_iou(boxes[kept], boxes[kept])
    assert kept[0] == np.argmax(scores)
    assert (iou[~np.eye(len(kept), dtype=bool)] <= 0.3).all()


def test_nms_of_no_boxes_keeps_none():
    assert nms([], [], 0.7).tolist() == []


@pytest.mark.parametrize("size", [20, 1000], ids=["crowd", "scattered"])
def test_nms_of_ten_thousand_boxes_is_quick(size):
    rng = np.random.default_rng(7)
    boxes, scores = random_boxes(rng, 10_000, size=size, side=90), rng.random(10_000)
    start = time.process_time()
    nms(boxes, scores, 0.7)
    assert time.process_time() - start < 1.0  # about 0.15 s on an idle core


def test_overlapping_pairs_are_those_that_share_a_pixel():
    rng = np.random.default_rng(8)
    boxes = random_boxes(rng, 80)
    shared = np.triu(box_iou(boxes, boxes) > 0, k=1)
    assert sorted(map(tuple, overlapping_pairs(boxes))) == list(zip(*np.nonzero(shared), strict=True))


def test_overlapping_pairs_of_no_boxes_are_none():
    assert overlapping_pairs(np.zeros((0, 4))).shape == (0, 2)


def test_a_box_is_a_range_of_pixels():
    box = Box(2, 3, 7, 4)
    image = np.arange(80).reshape(8, 10)
    assert (box.width, box.height, box.area, box.size) == (5, 1, 5, (1, 5))
    assert image[box.slices].tolist() == [[32, 33, 34, 35, 36]]
    assert box.as_xyxy().tolist() == [2, 3, 7, 4]
    assert box.center_xy == (4.5, 3.5)


def test_a_box_contains_its_lower_edges_and_not_its_upper_ones():
    box = Box(0, 0, 4, 4)
    assert box.contains(0, 0)
    assert box.contains(3.99, 3.99)
    assert not box.contains(4, 0)
    assert not box.contains(0, 4)


def test_clipping_boxes_that_do_not_meet_gives_an_empty_box():
    a, b = Box(0, 0, 4, 4), Box(6, 6, 9, 9)
    assert a.clipped(b).is_empty
    assert not a.intersects(b)
    assert a.intersects(Box(3, 3, 5, 5))
    assert a.clipped(Box(3, -2, 5, 2)) == Box(3, 0, 4, 2)


def test_boxes_that_only_touch_do_not_intersect():
    assert not Box(0, 0, 4, 4).intersects(Box(4, 0, 8, 4))


def test_two_boxes_joined_are_the_smallest_box_around_both():
    assert Box(1, 2, 3, 4).joined(Box(2, 0, 9, 3)) == Box(1, 0, 9, 4)
    rng = np.random.default_rng(0)
    for a, b in random_boxes(rng, 40).astype(int).reshape(20, 2, 4).tolist():
        around = Box(*a).joined(Box(*b))
        assert around.as_xyxy().tolist() == [*np.minimum(a, b)[:2], *np.maximum(a, b)[2:]]


def test_a_box_grows_on_all_sides_and_shrinks_at_most_to_nothing():
    assert Box(2, 2, 4, 6).grown(1) == Box(1, 1, 5, 7)
    assert Box(2, 2, 4, 6).grown(-2) == Box(3, 4, 3, 4)
    assert Box(2, 2, 4, 6).shifted(-2, 1) == Box(0, 3, 2, 7)


def test_a_box_knows_which_boxes_it_holds():
    assert Box.of_size((5, 8)) == Box(0, 0, 8, 5)
    assert Box(0, 0, 8, 5).contains_box(Box(0, 0, 8, 5))
    assert not Box(0, 0, 8, 5).contains_box(Box(0, 0, 9, 5))


def test_a_fractional_box_becomes_the_pixels_it_touches():
    assert Box.from_xyxy([0.2, 1.0, 3.1, 4.0]) == Box(0, 1, 4, 4)


def test_numpy_numbers_in_a_box_become_plain_integers():
    assert type(Box(*np.array([0, 0, 2, 2])).x1) is int


def test_a_box_of_fractional_pixels_is_refused():
    with pytest.raises(PromptError, match=r"whole pixels, got x1 = 2\.5; round it"):
        Box(0, 0, 2.5, 3)


def test_a_box_with_swapped_corners_is_refused():
    with pytest.raises(PromptError, match=r"x0 <= x1 .*got \(5, 0, 2, 3\)"):
        Box(5, 0, 2, 3)


@pytest.mark.parametrize("corners", [[1, 2, 3], [0, 0, np.nan, 1], [[0, 0, 1, 1]]])
def test_corners_that_are_not_four_finite_numbers_are_refused(corners):
    with pytest.raises(PromptError, match="four finite numbers"):
        Box.from_xyxy(corners)


def test_boxes_of_the_wrong_shape_are_named():
    with pytest.raises(PromptError, match=r"\(N, 4\).*got \(4,\); a single box is"):
        as_boxes([0, 0, 1, 1])


def test_scores_that_do_not_fit_the_boxes_are_named():
    with pytest.raises(PromptError, match=r"one score a box, shape \(2,\), got \(3,\)"):
        nms([[0, 0, 1, 1]] * 2, [1, 2, 3], 0.5)


@pytest.mark.parametrize("thresh", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_is_no_iou_is_refused(thresh):
    with pytest.raises(ConfigError, match=r"must lie in \[0, 1\], got"):
        nms([[0, 0, 1, 1]], [1], thresh)
