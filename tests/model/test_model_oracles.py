"""The oracles themselves: importable without torchvision, and honest stand-ins for it."""

import sys

import numpy as np
import pytest
import torch

from oracles.reference import build_reference_sam, import_mobile_sam, import_segment_anything
from oracles.torchvision_stub import NoDropPath, batched_nms, box_area, resize, to_pil_image

BOXES = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 10, 9]])
SCORES = torch.tensor([0.5, 0.9, 0.1, 0.8])


def test_nms_keeps_the_best_of_overlapping_boxes_best_first():
    assert batched_nms(BOXES, SCORES, torch.zeros(4), 0.7).tolist() == [1, 2]
    assert batched_nms(BOXES, SCORES, torch.zeros(4), 0.75).tolist() == [1, 3, 2]


def test_nms_lets_boxes_of_different_kinds_be():
    assert batched_nms(BOXES, SCORES, torch.tensor([0, 0, 0, 1]), 0.7).tolist() == [1, 3, 2]


def test_nms_of_no_boxes_is_empty():
    assert batched_nms(BOXES[:0], SCORES[:0], torch.zeros(0), 0.7).tolist() == []


def test_box_area_is_width_times_height():
    assert box_area(BOXES).tolist() == [100, 100, 100, 90]


def test_resize_takes_height_and_width_and_smooths():
    checkers = np.indices((8, 16)).sum(axis=0)[..., None].repeat(3, axis=2) % 2 * np.uint8(200)
    small = np.asarray(resize(to_pil_image(checkers.astype(np.uint8)), (4, 8)))
    assert small.shape == (4, 8, 3)
    assert abs(int(small[1:-1, 1:-1].mean()) - 100) < 5


def test_stochastic_depth_is_refused_and_not_silently_left_out():
    with pytest.raises(NotImplementedError, match=r"rate 0 only, got 0\.1"):
        NoDropPath(0.1)


def test_importing_the_references_leaves_no_stand_in_behind():
    assert import_segment_anything().SamAutomaticMaskGenerator
    assert import_mobile_sam().SamPredictor
    assert [n for n in sys.modules if n.startswith(("torchvision", "timm")) and not sys.modules[n].__spec__] == []


def test_random_weights_are_the_same_for_the_same_seed_and_never_zero():
    first, again, other = (build_reference_sam(seed=seed).state_dict() for seed in (3, 3, 4))
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name]), name
        assert not torch.equal(tensor, other[name]), name
        assert tensor.abs().max() > 0.01, name
