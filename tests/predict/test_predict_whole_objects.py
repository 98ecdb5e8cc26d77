from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from napari_sam.errors import ImageError
from napari_sam.geometry import Box, Mask
from napari_sam.predict import reprompt


class FixedDecoder(nn.Module):
    """Three given masks, as boxes of the 32 x 32 logits, with their predicted IoU."""

    def __init__(self, *boxes: tuple[int, int, int, int], iou: tuple[float, ...]) -> None:
        super().__init__()
        self.boxes, self.iou = boxes, iou

    def forward(self, image, pe, sparse, dense, *, multimask_output):
        self.tokens = sparse.shape[1]
        logits = torch.full((len(sparse), len(self.boxes), 32, 32), -20.0)
        for m, (x0, y0, x1, y1) in enumerate(self.boxes):
            logits[:, m, y0:y1, x0:x1] = 20.0
        return logits, torch.tensor(self.iou).expand(len(sparse), -1)


def fragment(x0, y0, x1, y1, size=(128, 128)) -> Mask:
    return Mask.from_window(np.ones((y1 - y0, x1 - x0), bool), Box(x0, y0, x1, y1), size)


IMAGE = np.zeros((128, 128), np.uint8)
WHOLE, PART, BACKGROUND = (8, 8, 20, 16), (10, 10, 12, 12), (0, 0, 32, 32)  # in logits, 4 px each


def test_the_object_that_agrees_with_the_fragment_where_it_was_seen_is_taken(blob_model):
    blob_model.sam.mask_decoder = FixedDecoder(BACKGROUND, WHOLE, PART, iou=(0.9, 0.8, 0.9))
    # The left half of the object was seen, with background around.
    seen = np.zeros((64, 40), bool)
    seen[16:48, 16:] = True
    known = Mask.from_window(seen, Box(16, 16, 56, 80), (128, 128))
    found = reprompt(blob_model, IMAGE, known)
    assert found is not None
    assert abs(found.area - 48 * 32) < 100
    assert found.predicted_iou == pytest.approx(0.8)
    assert found.prompt == "reprompt"
    assert found.frame_size == (128, 128)
    assert found.stability_score > 0.8
    assert known.window(Box.from_xyxy([*found.point_xy, found.point_xy[0] + 1, found.point_xy[1] + 1])).all()


def test_of_two_that_agree_the_higher_predicted_iou_is_taken(blob_model):
    blob_model.sam.mask_decoder = FixedDecoder(WHOLE, (8, 8, 26, 16), PART, iou=(0.6, 0.7, 0.7))
    found = reprompt(blob_model, IMAGE, fragment(32, 32, 60, 64))
    assert found is not None
    assert found.predicted_iou == pytest.approx(0.7)


def test_nothing_that_covers_half_of_the_fragment_is_nothing(blob_model):
    blob_model.sam.mask_decoder = FixedDecoder(PART, PART, PART, iou=(0.9, 0.9, 0.9))
    assert reprompt(blob_model, IMAGE, fragment(32, 32, 60, 64)) is None


def test_a_mask_the_model_is_not_sure_of_is_no_answer(blob_model):
    blob_model.sam.mask_decoder = FixedDecoder(WHOLE, WHOLE, WHOLE, iou=(0.4, 0.5, 0.3))
    assert reprompt(blob_model, IMAGE, fragment(32, 32, 60, 64), pred_iou_thresh=0.5) is None
    assert reprompt(blob_model, IMAGE, fragment(32, 32, 60, 64), pred_iou_thresh=0.45) is not None


class Islands(FixedDecoder):
    """The same with an island in the lower right corner."""

    def forward(self, image, pe, sparse, dense, *, multimask_output):
        logits, iou = super().forward(image, pe, sparse, dense, multimask_output=multimask_output)
        logits[..., 26:31, 26:31] = 20.0
        return logits, iou


def test_of_one_piece_only_what_the_fragment_lies_on_is_the_answer(blob_model):
    blob_model.sam.mask_decoder = Islands(WHOLE, WHOLE, WHOLE, iou=(0.9, 0.8, 0.9))
    scattered = reprompt(blob_model, IMAGE, fragment(32, 32, 60, 64))
    whole = reprompt(blob_model, IMAGE, fragment(32, 32, 60, 64), one_piece=True)
    assert scattered is not None
    assert whole is not None
    assert scattered.box.x1 > 115
    assert abs(whole.area - 48 * 32) < 100
    assert whole.box.x1 < 90


def test_no_mask_at_all_is_nothing(blob_model):
    blob_model.sam.mask_decoder = FixedDecoder((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0), iou=(0.9, 0.9, 0.9))
    assert reprompt(blob_model, IMAGE, fragment(32, 32, 60, 64)) is None


def test_a_fragment_of_one_pixel_can_be_asked_for(blob_model):
    blob_model.sam.mask_decoder = FixedDecoder(WHOLE, WHOLE, WHOLE, iou=(0.9, 0.9, 0.9))
    found = reprompt(blob_model, IMAGE, fragment(40, 40, 41, 41))
    assert found is not None
    assert found.point_xy == (40.0, 40.0)


def test_it_works_with_a_network(blob_model, clouds):
    known = fragment(60, 40, 70, 50, size=(96, 160))
    found = reprompt(blob_model, clouds(96, 160), known)
    assert found is not None
    assert found.window(known.box).mean() >= 0.5


def test_a_window_of_floats_is_refused(blob_model):
    with pytest.raises(ImageError, match="got float64"):
        reprompt(blob_model, np.zeros((128, 128)), fragment(32, 32, 60, 64))
