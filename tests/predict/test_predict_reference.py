"""Embedding, decoding and automatic masks against the public reference with the same weights."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_sam.geometry import Mask, Rle
from napari_sam.predict import AutoMaskConfig, embed_image, generate_masks, predict_masks
from oracles.reference import import_segment_anything

SIZES = {
    "square": (128, 128),
    "padded": (96, 128),
    "shrunk": (192, 256),
    "shrunk, odd, upright": (301, 217),
    "enlarged": (50, 75),
}
LOOSE: dict[str, Any] = {
    "points_per_side": 8,
    "pred_iou_thresh": 0.3,
    "stability_score_thresh": 0.4,
    "box_nms_thresh": 0.8,
}


def reference_predictor(pair: SimpleNamespace, image: np.ndarray) -> Any:
    predictor = import_segment_anything().SamPredictor(pair.reference)
    predictor.set_image(image)
    return predictor


def reference_masks(pair: SimpleNamespace, image: np.ndarray, **settings: Any) -> list[dict[str, Any]]:
    generator = import_segment_anything().SamAutomaticMaskGenerator(
        pair.reference, output_mode="uncompressed_rle", **settings
    )
    return generator.generate(image)


def pixels_of(record: dict[str, Any]) -> np.ndarray:
    return Rle.from_coco(record["segmentation"]).decode()


def assert_same_masks(ours: list[Mask], theirs: list[dict[str, Any]]) -> None:
    """Same masks in the same order; rounding may move a pixel that lies on the threshold, in few masks."""
    assert len(ours) == len(theirs)
    moved = 0
    for mask, record in zip(ours, theirs, strict=True):
        x, y, w, h = record["bbox"]
        cx, cy, cw, ch = record["crop_box"]
        pixels = np.count_nonzero(mask.to_array() ^ pixels_of(record))
        moved += pixels > 0
        assert pixels <= 2
        assert abs(mask.area - record["area"]) <= 2
        # Their boxes end with the last pixel, ours behind it.
        np.testing.assert_allclose(mask.box_xyxy, [x, y, x + w + 1, y + h + 1], atol=1 if pixels else 0)
        np.testing.assert_array_equal(mask.crop_box_xyxy, [cx, cy, cx + cw, cy + ch])
        np.testing.assert_allclose(mask.point_xy, record["point_coords"][0], atol=1e-9)
        assert mask.predicted_iou == pytest.approx(record["predicted_iou"], abs=1e-4)
        assert mask.stability_score == pytest.approx(record["stability_score"], abs=1e-4 if not pixels else 1e-2)
        if not pixels:
            assert Rle.from_coco(mask.to_coco_rle()) == Rle.from_coco(record["segmentation"])
    assert moved <= 0.1 * len(ours)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_the_embedding_equals_the_references(pair, clouds, size):
    image = clouds(*size)
    expected = reference_predictor(pair, image)
    embedding = embed_image(pair.model, image)
    assert embedding.frame.input_size == tuple(expected.input_size)
    np.testing.assert_allclose(embedding.embedding.numpy(), expected.features.numpy(), atol=1e-4)


@pytest.mark.parametrize("size", [SIZES["padded"], SIZES["shrunk, odd, upright"]], ids=["padded", "resized"])
@pytest.mark.parametrize("multimask", [True, False], ids=["three masks", "one mask"])
@pytest.mark.parametrize("kind", ["point", "points", "box", "box and point", "mask and point"])
def test_masks_of_each_prompt_equal_the_references(pair, clouds, size, multimask, kind):
    image = clouds(*size)
    height, width = size
    points = np.array([[0.3 * width, 0.4 * height], [0.8 * width, 0.7 * height]])
    box = np.array([0.1 * width, 0.2 * height, 0.7 * width, 0.9 * height])
    earlier = np.random.default_rng(1).normal(size=(1, 32, 32)).astype(np.float32)
    prompts = {
        "point": {"points_xy": points[:1], "point_labels": [1]},
        "points": {"points_xy": points, "point_labels": [1, 0]},
        "box": {"boxes_xyxy": box},
        "box and point": {"points_xy": points, "point_labels": [0, 1], "boxes_xyxy": box},
        "mask and point": {"points_xy": points[:1], "point_labels": [1], "mask_logits": earlier},
    }[kind]
    ours = predict_masks(pair.model, embed_image(pair.model, image), **prompts, multimask=multimask)
    masks, iou, logits = reference_predictor(pair, image).predict(
        point_coords=prompts.get("points_xy"),
        point_labels=np.array(prompts["point_labels"]) if "point_labels" in prompts else None,
        box=prompts.get("boxes_xyxy"),
        mask_input=prompts.get("mask_logits"),
        multimask_output=multimask,
    )
    np.testing.assert_allclose(ours.low_res_logits[0], logits, atol=1e-4)
    np.testing.assert_allclose(ours.predicted_iou[0], iou, atol=1e-4)
    assert ours.masks.shape == (1, *masks.shape)
    assert np.mean(ours.masks[0] != masks) < 1e-4


@pytest.mark.parametrize(
    ("size", "layers"),
    [*((size, 0) for size in SIZES.values()), ((192, 256), 1), ((260, 300), 2)],
    ids=[*SIZES, "one crop layer", "two crop layers"],
)
def test_automatic_masks_equal_the_references(blob_pair, clouds, size, layers):
    image = clouds(*size)
    settings = LOOSE | {"crop_n_layers": layers, "crop_n_points_downscale_factor": 2, "crop_nms_thresh": 0.6}
    ours = generate_masks(blob_pair.model, image, AutoMaskConfig(max_mask_fraction=1, **settings))
    assert len(ours) > 10
    assert_same_masks(ours, reference_masks(blob_pair, image, **settings))


def test_automatic_masks_of_a_network_equal_the_references(pair, clouds):
    image = clouds(120, 160)
    # A random network answers every point alike: with a threshold of 1 no mask removes another.
    settings = LOOSE | {
        "points_per_side": 4,
        "stability_score_offset": 0.03,
        "box_nms_thresh": 1.0,
        "pred_iou_thresh": 0.1,
    }
    ours = generate_masks(pair.model, image, AutoMaskConfig(max_mask_fraction=1, **settings))
    theirs = reference_masks(pair, image, **settings)
    assert len(ours) == len(theirs) > 10
    for mask, record in zip(ours, theirs, strict=True):
        assert mask.predicted_iou == pytest.approx(record["predicted_iou"], abs=1e-4)
        assert mask.stability_score == pytest.approx(record["stability_score"], abs=1e-3)
        assert np.mean(mask.to_array() != pixels_of(record)) < 1e-3


@pytest.mark.parametrize("layers", [0, 1], ids=["no crops", "one crop layer"])
def test_masks_without_small_regions_equal_the_references(blob_pair, clouds, monkeypatch, layers):
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(connectedComponentsWithStats=connected_components))
    image = clouds(192, 256)
    settings = LOOSE | {"crop_n_layers": layers, "stability_score_thresh": 0.2, "box_nms_thresh": 0.95}
    area = 150
    ours = generate_masks(
        blob_pair.model, image, AutoMaskConfig(max_mask_fraction=1, **settings, min_mask_region_area=area)
    )
    as_found = generate_masks(blob_pair.model, image, AutoMaskConfig(max_mask_fraction=1, **settings))
    assert {m.rle for m in ours} - {m.rle for m in as_found}, "no mask had a small region"
    assert_same_masks(ours, reference_masks(blob_pair, image, **settings, min_mask_region_area=area))


def connected_components(mask: np.ndarray, connectivity: int) -> tuple[int, np.ndarray, np.ndarray, None]:
    """What the reference uses of OpenCV's function of this name: regions, and their areas in the last column."""
    from skimage.measure import label

    regions = label(mask, connectivity=connectivity // 4)
    areas = np.bincount(regions.ravel())
    return len(areas), regions, np.stack([areas], axis=1), None
