"""AP and AR of masks against pycocotools."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from napari_sam.errors import ConfigError
from napari_sam.evaluation.coco_scores import (
    ScoredImage,
    average_precision,
    average_recall,
    mean_over_categories,
)
from napari_sam.evaluation.protocols import size_ranges
from napari_sam.geometry import Box, Mask

SIDE = 160
MOST = (1, 10, 100)


def rectangle(rng, largest):
    height, width = rng.integers(4, largest, 2)
    y, x = (int(rng.integers(0, SIDE - n)) for n in (height, width))
    return Mask.from_window(
        np.ones((height, width), dtype=bool), Box(x, y, x + int(width), y + int(height)), (SIDE, SIDE)
    )


def moved(mask, rng):
    """The same, a little off."""
    box = mask.box
    x0, y0 = (max(0, int(n + rng.integers(-4, 5))) for n in (box.x0, box.y0))
    x1, y1 = (min(SIDE, max(low + 2, int(n + rng.integers(-4, 5)))) for low, n in ((x0, box.x1), (y0, box.y1)))
    return Mask.from_window(np.ones((y1 - y0, x1 - x0), dtype=bool), Box(x0, y0, x1, y1), (SIDE, SIDE))


def scene(seed):
    """Per image: true masks, crowd flags, found masks, scores."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(4):
        truth = [rectangle(rng, 130) for _ in range(rng.integers(0, 9))]
        crowd = rng.random(len(truth)) < 0.15
        found = [moved(mask, rng) for mask in truth for _ in range(rng.integers(0, 3))]
        found += [rectangle(rng, 130) for _ in range(rng.integers(0, 6))]
        scores = np.round(rng.random(len(found)), 1)  # many are equal
        images.append((truth, crowd, found, scores))
    return images


def reference(images):
    truth, found = [], []
    for number, (true_masks, crowd, masks, scores) in enumerate(images, start=1):
        for mask, is_crowd in zip(true_masks, crowd, strict=True):
            box = [mask.box.x0, mask.box.y0, mask.box.width, mask.box.height]
            truth.append(
                {
                    "id": len(truth) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": mask.to_coco_rle(),
                    "area": mask.area,
                    "bbox": box,
                    "iscrowd": int(is_crowd),
                }
            )
        found += [
            {"image_id": number, "category_id": 1, "segmentation": mask.to_coco_rle(), "score": float(score)}
            for mask, score in zip(masks, scores, strict=True)
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": i + 1, "width": SIDE, "height": SIDE} for i in range(len(images))],
            "annotations": truth,
            "categories": [{"id": 1, "name": "object"}],
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(found), "segm")
        judge.params.maxDets = list(MOST)
        judge.evaluate()
        judge.accumulate()
    return judge.eval


@pytest.mark.parametrize("seed", range(6))
def test_every_figure_is_that_of_pycocotools(seed):
    images = scene(seed)
    theirs = reference(images)
    ours = [ScoredImage.of_masks(found, scores, truth, is_crowd=crowd) for truth, crowd, found, scores in images]
    for a, limits in enumerate(size_ranges().values()):
        for m, most in enumerate(MOST):
            precision, recall = theirs["precision"][:, :, 0, a, m], theirs["recall"][:, 0, a, m]
            for value, wanted in (
                (average_precision(ours, size_px2=limits, most=most), precision.mean()),
                (average_recall(ours, size_px2=limits, most=most), recall.mean()),
            ):
                assert np.isnan(value) if wanted == -1 else value == pytest.approx(wanted, abs=1e-12)


def test_one_threshold_alone_is_that_of_pycocotools():
    images = scene(3)
    ours = [ScoredImage.of_masks(found, scores, truth, is_crowd=crowd) for truth, crowd, found, scores in images]
    for t, threshold in ((0, 0.5), (5, 0.75)):
        wanted = reference(images)["precision"][t, :, 0, 0, 2].mean()
        assert average_precision(ours, thresholds=np.array([threshold])) == pytest.approx(wanted, abs=1e-12)


def test_perfect_masks_score_1_and_none_at_all_0():
    truth = scene(1)[0][0]
    perfect = ScoredImage.of_masks(truth, [1.0] * len(truth), truth)
    nothing = ScoredImage.of_masks([], [], truth)
    assert (average_precision([perfect]), average_recall([perfect])) == (pytest.approx(1), 1)
    assert (average_precision([nothing]), average_recall([nothing])) == (0, 0)


def test_without_true_objects_there_is_no_figure():
    assert np.isnan(average_precision([]))
    assert np.isnan(average_recall([ScoredImage.of_masks(scene(1)[0][0], [0.5] * len(scene(1)[0][0]), [])]))
    assert mean_over_categories({"a": float("nan"), "b": 0.5}) == 0.5
    assert np.isnan(mean_over_categories({}))


@pytest.mark.parametrize("limits", [(5, 3), (0, 10), (1, 2, 3)])
def test_size_limits_must_be_two_ascending_areas(limits):
    with pytest.raises(ConfigError, match=r"two ascending areas.*\(1024, 9216\)"):
        size_ranges(limits)
