"""Edges of masks: against the plain way with all masks in memory, and on maps whose thin lines are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.special import expit

from napari_sam.errors import ConfigError, ImageError
from napari_sam.geometry import Box, nms, point_grid
from napari_sam.predict import EdgeConfig, detect_edges, embed_image, predict_masks
from napari_sam.predict.edges import edge_strength, thin_edges

FEW = EdgeConfig(points_per_side=4, thin=False)


def plain_edges(model, image, config):
    """Sobel of every mask's probabilities at the image's size, zeroed off its outer boundary; the largest of all."""
    height, width = image.shape[:2]
    points = point_grid(config.points_per_side) * (width, height)
    embedding = embed_image(model, image, precision="fp32")
    found = []
    for point in points:
        answer = predict_masks(model, embedding, points_xy=[point], precision="fp32")
        for rating, logits in zip(answer.predicted_iou[0], answer.low_res_logits[0], strict=True):
            full = answer.upsampler.window(logits, Box.of_size((height, width)))
            if (full > 0).any():
                found.append((rating, full))
    rows = [(np.flatnonzero((f > 0).any(axis=1)), np.flatnonzero((f > 0).any(axis=0))) for _, f in found]
    boxes = [(x[0], y[0], x[-1] + 1, y[-1] + 1) for y, x in rows]
    strength = np.zeros((height, width))
    for i in nms(boxes, [rating for rating, _ in found], config.box_nms_thresh):
        mask, chance = found[i][1] > 0, expit(found[i][1])
        outside = ndimage.binary_dilation(mask) & ~mask
        sobel = np.hypot(*(ndimage.sobel(chance, axis=a, mode="nearest") / 4 for a in (0, 1)))
        strength = np.maximum(strength, np.where(outside, sobel, 0))
    return strength


@pytest.mark.parametrize("size", [(96, 128), (50, 37)], ids=str)
def test_edges_are_those_of_all_masks_made_the_plain_way(blob_model, clouds, size):
    image = clouds(*size)
    assert edge_strength(blob_model, image, FEW, precision="fp32") == pytest.approx(
        plain_edges(blob_model, image, FEW), abs=2e-5
    )
    assert edge_strength(blob_model, image, FEW).max() > 0.05


def test_the_map_is_brought_to_0_and_1(blob_model, clouds):
    edges = detect_edges(blob_model, clouds(64, 64), EdgeConfig(points_per_side=3))
    assert (edges.dtype, edges.shape) == (np.float32, (64, 64))
    assert (edges.min(), edges.max()) == (0, 1)


def test_masks_that_are_not_sure_enough_give_no_edge(blob_model, clouds):
    image = clouds(64, 64)
    some = edge_strength(blob_model, image, EdgeConfig(points_per_side=4, pred_iou_thresh=0.9, thin=False))
    every = edge_strength(blob_model, image, EdgeConfig(points_per_side=4, box_nms_thresh=1.0, thin=False))
    assert 0 < np.count_nonzero(some) < np.count_nonzero(every)
    assert (some <= every).all()


def test_an_image_without_masks_has_no_edges(blob_model, clouds):
    class Nothing(torch.nn.Module):
        def forward(self, image, image_pe, sparse, dense, multimask_output):
            return torch.full((len(sparse), 3, 32, 32), -5.0), torch.ones(len(sparse), 3)

    blob_model.sam.mask_decoder = Nothing()
    assert not detect_edges(blob_model, clouds(40, 40), FEW).any()


@pytest.mark.parametrize("angle", [0, 20, 45, 70, 90, 135], ids=str)
def test_a_blurred_line_of_any_direction_becomes_one_pixel_thin(angle):
    rows, columns = np.indices((61, 61)) - 30
    distance = rows * np.cos(np.radians(angle)) - columns * np.sin(np.radians(angle))
    thin = thin_edges(np.exp(-(distance**2) / 8).astype(np.float32))
    inner = (slice(10, -10),) * 2
    kept = thin[inner] > 0.1
    assert np.abs(distance[inner][kept]).max() <= 1
    # As many pixels as the line has rows or columns, whichever are more; a few more where it steps aside.
    length = 41
    assert length - 1 <= kept.sum() <= 1.5 * length


def test_two_outlines_side_by_side_become_one_edge():
    drawn = np.zeros((40, 40), dtype=np.float32)
    drawn[19], drawn[21] = 0.8, 0.8
    kept = thin_edges(drawn)[:, 10:30] > 0.1
    assert (kept.sum(axis=0) == 1).all()
    assert set(np.nonzero(kept)[0].tolist()) <= {19, 20, 21}


def test_errors_say_what_came(blob_model):
    with pytest.raises(ImageError, match=r"uint8 \(0 to 255\), got float64"):
        detect_edges(blob_model, np.zeros((8, 8)))
    with pytest.raises(ImageError, match=r"shape \(H, W\), got \(2, 2, 2\)"):
        thin_edges(np.zeros((2, 2, 2), dtype=np.float32))


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"points_per_side": 0}, "points_per_side must be at least 1, got 0"),
        ({"points_per_batch": 0}, "points_per_batch must be at least 1, got 0"),
        ({"pred_iou_thresh": -0.1}, "pred_iou_thresh must be at least 0, got -0.1"),
        ({"box_nms_thresh": 1.5}, r"box_nms_thresh must lie in \[0, 1\], got 1.5"),
    ],
)
def test_settings_are_checked(setting, told):
    with pytest.raises(ConfigError, match=told):
        EdgeConfig(**setting)
