"""What the reference cannot tell: our own settings, defaults, memory and odd images."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn

from napari_sam.errors import ConfigError
from napari_sam.geometry import mask_iou_matrix, piece_at
from napari_sam.model.loading import SamModel
from napari_sam.predict import AutoMaskConfig, OutOfMemoryWarning, generate_masks

LOOSE = {"points_per_side": 6, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}


def test_masks_lie_in_the_image_with_what_asked_for_them(blob_model, clouds):
    masks = generate_masks(blob_model, clouds(96, 160), AutoMaskConfig(**LOOSE))
    assert len(masks) > 10
    for mask in masks:
        assert mask.frame_size == (96, 160)
        assert mask.prompt == "grid"
        assert mask.crop_box_xyxy.tolist() == [0, 0, 160, 96]
        assert 0 <= mask.stability_score <= 1
        assert mask.area > 0
        assert mask.point_xy is not None


def test_masks_come_best_first(blob_model, clouds):
    ratings = [m.predicted_iou for m in generate_masks(blob_model, clouds(96, 160), AutoMaskConfig(**LOOSE))]
    assert ratings == sorted(ratings, reverse=True)


def test_the_batch_size_changes_nothing(blob_model, clouds):
    image = clouds(96, 160)
    one, many = (generate_masks(blob_model, image, AutoMaskConfig(**LOOSE, points_per_batch=n)) for n in (5, 64))
    assert [m.rle for m in one] == [m.rle for m in many]
    assert [m.point_xy for m in one] == [m.point_xy for m in many]


def test_the_filters_keep_what_they_say(blob_model, clouds):
    image = clouds(96, 160)
    config = AutoMaskConfig(points_per_side=6, pred_iou_thresh=0.5, stability_score_thresh=0.6)
    masks = generate_masks(blob_model, image, config)
    assert masks
    assert min(m.predicted_iou for m in masks) > 0.5
    assert min(m.stability_score for m in masks) >= 0.6
    assert len(masks) < len(generate_masks(blob_model, image, AutoMaskConfig(**LOOSE)))


def test_best_is_one_mask_a_point(blob_model, clouds):
    image = clouds(96, 160)
    chosen = generate_masks(blob_model, image, AutoMaskConfig(**LOOSE, mask_choice="best", box_nms_thresh=1))
    offered = generate_masks(blob_model, image, AutoMaskConfig(**LOOSE, box_nms_thresh=1))
    assert len({m.point_xy for m in chosen}) == len(chosen) > 10
    for mask in chosen:
        assert mask.predicted_iou == max(m.predicted_iou for m in offered if m.point_xy == mask.point_xy)


def test_one_piece_is_the_piece_of_the_mask_that_its_point_lies_on(blob_model, clouds):
    image = clouds(96, 160)
    whole = generate_masks(blob_model, image, AutoMaskConfig(**LOOSE, box_nms_thresh=1))
    pieces = generate_masks(blob_model, image, AutoMaskConfig(**LOOSE, box_nms_thresh=1, one_piece=True))
    assert len(pieces) == len(whole)
    assert sum(piece.area < mask.area for piece, mask in zip(pieces, whole, strict=True)) > 10
    for piece, mask in zip(pieces, whole, strict=True):
        x, y = (int(c + 0.5) for c in mask.point_xy)
        np.testing.assert_array_equal(piece.to_array(), piece_at(mask.to_array(), y, x))
        assert (piece.predicted_iou, piece.stability_score) == (mask.predicted_iou, mask.stability_score)


def test_masks_over_a_part_of_the_crop_are_dropped(blob_model, clouds):
    image = clouds(96, 160)
    usual, limited = (
        generate_masks(blob_model, image, AutoMaskConfig(**LOOSE, max_mask_fraction=f)) for f in (1, 0.04)
    )
    assert max(m.area for m in usual) > 0.04 * 96 * 160 >= max(m.area for m in limited)


def test_mask_nms_leaves_no_two_alike(blob_model, clouds):
    config = AutoMaskConfig(**LOOSE, box_nms_thresh=1, crop_nms_thresh=1, crop_n_layers=1, mask_nms_thresh=0.3)
    masks = generate_masks(blob_model, clouds(192, 256), config)
    iou = mask_iou_matrix(masks, masks)
    np.fill_diagonal(iou, 0)
    assert len({m.crop_box for m in masks}) > 1
    assert iou.max() <= 0.3


def test_masks_of_smaller_crops_come_first(blob_model, clouds):
    masks = generate_masks(blob_model, clouds(192, 256), AutoMaskConfig(**LOOSE, crop_n_layers=1))
    areas = [m.crop_box.area for m in masks]
    assert areas == sorted(areas)
    assert len(set(areas)) > 1


def test_a_models_own_settings_are_the_default(blob_model, clouds):
    recommending = SamModel(
        blob_model.sam, "x", "0", blob_model.device, blob_model.config, {"points_per_side": 1, "pred_iou_thresh": 0.0}
    )
    config = AutoMaskConfig(points_per_side=1, pred_iou_thresh=0.0)
    image = clouds(64, 64)
    assert generate_masks(recommending, image) == generate_masks(recommending, image, config)


def test_a_models_unknown_setting_is_named(blob_model, clouds):
    recommending = SamModel(blob_model.sam, "x", "0", blob_model.device, blob_model.config, {"points": 1})
    with pytest.raises(ConfigError, match="no setting named 'points'"):
        generate_masks(recommending, clouds(64, 64))


def test_auto_takes_proposals_where_there_are_some(blob_model, proposing_model, clouds):
    image = clouds(128, 128)
    assert {m.prompt for m in generate_masks(proposing_model, image, AutoMaskConfig(**LOOSE))} == {"proposal"}
    grid = AutoMaskConfig(**LOOSE, prompts="grid")
    assert {m.prompt for m in generate_masks(proposing_model, image, grid)} == {"grid"}


def test_proposals_of_a_model_without_them_are_refused(blob_model, clouds):
    with pytest.raises(ConfigError, match=r"'small' has no proposal head.*use prompts='grid', or 'auto'"):
        generate_masks(blob_model, clouds(64, 64), AutoMaskConfig(prompts="proposals"))


def test_a_layer_without_points_is_refused(blob_model, clouds):
    config = AutoMaskConfig(points_per_side=2, crop_n_layers=2, crop_n_points_downscale_factor=2)
    with pytest.raises(ConfigError, match="2 points a side leave none on crop layer 2"):
        generate_masks(blob_model, clouds(64, 64), config)


def test_no_proposals_are_no_masks(proposing_model, clouds):
    assert generate_masks(proposing_model, clouds(64, 64), AutoMaskConfig(proposal_thresh=1.0)) == []


class Decoder(nn.Module):
    """The same logits for every mask of every prompt."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, image, pe, sparse, dense, *, multimask_output):
        return torch.full((len(sparse), 3, 32, 32), self.value), torch.ones(len(sparse), 3)


def test_empty_masks_are_left_out(blob_model, clouds):
    blob_model.sam.mask_decoder = Decoder(-5.0)
    assert generate_masks(blob_model, clouds(64, 64), AutoMaskConfig(**LOOSE)) == []


def test_a_mask_of_the_whole_image_is_one_mask(blob_model, clouds):
    blob_model.sam.mask_decoder = Decoder(5.0)
    [mask] = generate_masks(blob_model, clouds(64, 90), AutoMaskConfig(max_mask_fraction=1))
    assert mask.area == 64 * 90
    assert mask.stability_score == 1


SMALL_OR_THIN = {"one pixel": (1, 1), "one row": (1, 40), "one column": (40, 1), "strip": (2, 20_000), "3 x 3": (3, 3)}


@pytest.mark.parametrize("layers", [0, 2], ids=["no crops", "two crop layers"])
@pytest.mark.parametrize("size", SMALL_OR_THIN.values(), ids=SMALL_OR_THIN)
def test_small_and_thin_images_are_answered(blob_model, size, layers):
    blob_model.sam.mask_decoder = Decoder(5.0)
    masks = generate_masks(
        blob_model,
        np.zeros(size, np.uint8),
        AutoMaskConfig(points_per_side=4, crop_n_layers=layers, max_mask_fraction=1),
    )
    assert len(masks) == 1 or layers
    assert {m.frame_size for m in masks} == {size}
    assert max(m.area for m in masks) == size[0] * size[1]


def test_a_gray_image_is_answered_like_its_rgb(blob_model, clouds):
    gray = clouds(64, 90)[..., 0]
    config = AutoMaskConfig(**LOOSE)
    assert generate_masks(blob_model, gray, config) == generate_masks(blob_model, np.stack([gray] * 3, axis=2), config)


def test_a_full_memory_gives_the_same_masks_and_says_so(blob_model, clouds):
    image, config = clouds(64, 90), AutoMaskConfig(**LOOSE)
    expected = generate_masks(blob_model, image, config)
    decode = blob_model.sam.mask_decoder.forward

    def small(*args, **kwargs):
        if len(args[2]) > 20:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return decode(*args, **kwargs)

    blob_model.sam.mask_decoder.forward = small
    with pytest.warns(OutOfMemoryWarning, match="points_per_batch=18"):
        assert [m.rle for m in generate_masks(blob_model, image, config)] == [m.rle for m in expected]


def test_masks_are_not_upsampled_at_the_size_of_the_image_unless_they_fill_it(blob_model, clouds, monkeypatch):
    from napari_sam.predict import upsampling

    windows = []
    window = upsampling.LogitUpsampler.window

    def spy(self, logits, box):
        windows.append(box.area)
        return window(self, logits, box)

    monkeypatch.setattr(upsampling.LogitUpsampler, "window", spy)
    generate_masks(blob_model, clouds(400, 400), AutoMaskConfig(points_per_side=6, pred_iou_thresh=0.9))
    assert 0 < len(windows) < 6 * 6 * 3  # those with a lower predicted IoU never
    assert np.median(windows) < 0.25 * 400 * 400


def test_after_the_decoder_a_hundred_masks_take_no_time(clouds):
    """Of a 512 px tile, on one core: measured 15 ms; the bound leaves room for a busy machine."""
    from napari_sam.geometry import Mask, ModelFrame
    from napari_sam.predict import LogitUpsampler
    from napari_sam.predict.filtering import mask_and_stability, without_duplicates

    upsampler = LogitUpsampler((128, 128), ModelFrame((512, 512), 512))
    y, x = np.mgrid[:128, :128]
    centres = np.random.default_rng(0).uniform(0, 128, size=(100, 2))
    logits = [(6 - np.hypot(y - cy, x - cx)).astype(np.float32) for cy, cx in centres]
    started = time.process_time()
    found = [mask_and_stability(one, upsampler, threshold=0, offset=1) for one in logits]
    masks = [Mask.from_window(pixels, window, (512, 512), stability_score=s) for window, pixels, s in found]
    without_duplicates(masks, np.ones(100), box_iou_thresh=0.7, mask_iou_thresh=0.5)
    assert time.process_time() - started < 0.2
