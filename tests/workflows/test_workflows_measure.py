"""Edges, proposals and boxes judged on folders of known boundaries and objects."""

from __future__ import annotations

import contextlib
import io
import json

import imagecodecs
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.io import savemat

from napari_sam.errors import ConfigError, TrainingError
from napari_sam.evaluation.boundaries import label_boundaries
from napari_sam.geometry import Box, Mask
from napari_sam.predict import EdgeConfig, ObjectProposalConfig
from napari_sam.workflows.evaluating.truth import coco_mask, masks_of_labels, pair_readers
from napari_sam.workflows.experiments import coco_evaluation, edge_evaluation
from napari_sam.workflows.experiments.coco_evaluation import CocoEvaluationConfig, evaluate_boxes, evaluate_proposals
from napari_sam.workflows.experiments.edge_evaluation import EdgeEvaluationConfig, evaluate_edges, read_boundaries
from workflows.workflows_scenes import squares, tiny_model, write_pairs

EDGES = EdgeConfig(points_per_side=2)
FEW = ObjectProposalConfig(points_per_side=3)
THREE = EdgeEvaluationConfig(thresholds=3)


@pytest.fixture
def model():
    return tiny_model()


def write_bsds(folder, names=("a", "b")):
    """As BSDS500 lies on the disk: pictures in one folder, two annotators' boundaries in another."""
    labels = (squares((64, 64)) > 100).astype(int)
    boundaries = label_boundaries(labels)
    for split, name in zip(("test", "train"), names, strict=True):
        for kind in ("images", "groundTruth"):
            (folder / kind / split).mkdir(parents=True)
        (folder / "images" / split / f"{name}.png").write_bytes(imagecodecs.png_encode(squares((64, 64))))
        truth = np.empty((1, 2), dtype=object)
        for i, drawn in enumerate((boundaries, np.zeros_like(boundaries))):
            truth[0, i] = {"Segmentation": labels.astype(np.uint16), "Boundaries": drawn.astype(np.uint8)}
        savemat(folder / "groundTruth" / split / f"{name}.mat", {"groundTruth": truth})
    return boundaries


def test_boundaries_of_bsds_and_of_labels_are_read(tmp_path):
    boundaries = write_bsds(tmp_path)
    first, second = read_boundaries(tmp_path / "groundTruth" / "test" / "a.mat")
    assert (first == boundaries).all()
    assert not second.any()
    write_pairs(tmp_path, 1)
    (of_labels,) = read_boundaries(tmp_path / "0.labels.png")
    assert 0 < of_labels.sum() < 64 * 16


def test_edges_that_equal_the_boundaries_score_1(tmp_path, model, monkeypatch):
    write_pairs(tmp_path, 2)
    (truth,) = read_boundaries(tmp_path / "0.labels.png")
    monkeypatch.setattr(edge_evaluation, "edges_of_array", lambda image, model, **options: truth.astype(np.float32))
    report = evaluate_edges(tmp_path, model, config=EdgeEvaluationConfig(thresholds=3, max_images=1))
    assert (report.figures.ods, report.figures.ois, report.figures.r50) == (1, 1, 1)
    assert report.images == {"0": 1.0}


def test_edges_of_a_folder_are_judged_and_the_figures_written(tmp_path, model):
    write_bsds(tmp_path)
    told = []
    report = evaluate_edges(tmp_path, model, config=THREE, edges=EDGES, progress=lambda *step: told.append(step))
    assert told == [("images", 0, 2), ("images", 1, 2), ("images", 2, 2)]
    assert set(report.images) == {"a", "b"}
    written = json.loads(report.write_json(tmp_path / "new" / "f.json").read_text())
    assert written["figures"]["ods"] == report.figures.ods
    assert written["settings"]["edges"]["points_per_side"] == 2
    assert f"OIS {report.figures.ois:.4f}" in report.as_text()


def test_one_split_alone_can_be_judged(tmp_path):
    write_bsds(tmp_path)
    (pair,) = edge_evaluation.find_boundary_pairs(tmp_path, split="train")
    assert (pair.name, pair.image.parent.name) == ("b", "train")
    with pytest.raises(TrainingError, match="no image in a folder named 'val' that has boundaries"):
        edge_evaluation.find_boundary_pairs(tmp_path, split="val")


def test_ground_truth_that_is_none_is_named(tmp_path):
    savemat(tmp_path / "x.mat", {"other": 1})
    with pytest.raises(TrainingError, match=r"x\.mat is no ground truth of BSDS"):
        read_boundaries(tmp_path / "x.mat")
    with pytest.raises(TrainingError, match="is not a folder; give one with images and their boundaries"):
        edge_evaluation.find_boundary_pairs(tmp_path / "none")


def test_labels_become_masks_in_the_order_of_their_values():
    labels = np.array([[5, 5, 0], [0, 0, 9], [0, 2, 9]])
    masks = masks_of_labels(labels)
    assert [(labels == value).tolist() for value in (2, 5, 9)] == [mask.to_array().tolist() for mask in masks]
    assert len(masks_of_labels(np.full((3, 3), 4))) == 1


def test_proposals_equal_to_the_objects_are_all_found(tmp_path, model, monkeypatch):
    write_pairs(tmp_path, 2)
    truths = iter([read().masks for read in pair_readers(tmp_path)])
    monkeypatch.setattr(coco_evaluation, "find_proposals", lambda *given, **options: list(next(truths)))
    report = evaluate_proposals(tmp_path, model)
    assert report.figures == {
        "ar@10": 1, "ar@100": 1, "ar@1000": 1, "ar_small": 1, "ar_medium": None, "ar_large": None
    }  # fmt: skip
    assert (report.images, report.objects) == (2, sum(len(read().masks) for read in pair_readers(tmp_path)))
    assert "ar_large     -" in report.as_text()


def test_sizes_are_told_apart_as_wished(tmp_path, model, monkeypatch):
    write_pairs(tmp_path, 1)
    image = pair_readers(tmp_path)[0]()
    monkeypatch.setattr(coco_evaluation, "find_proposals", lambda *given, **options: list(image.masks))
    figures = evaluate_proposals(tmp_path, model, config=CocoEvaluationConfig(small_px2=4, large_px2=5)).figures
    assert (figures["ar_small"], figures["ar_large"]) == (None, 1)
    with pytest.raises(ConfigError, match="two ascending areas"):
        CocoEvaluationConfig(small_px2=9, large_px2=5)
    with pytest.raises(ConfigError, match="max_images must be at least 1, got 0"):
        CocoEvaluationConfig(max_images=0)


def test_a_real_model_is_judged_on_its_proposals(tmp_path, model):
    write_pairs(tmp_path, 1)
    report = evaluate_proposals(tmp_path, model, proposals=FEW, config=CocoEvaluationConfig(whole=True))
    assert 0 <= report.figures["ar@10"] <= report.figures["ar@1000"] <= 1


def write_coco(folder, seed=0, count=3):
    """Images of noise with boxy objects of two categories and a crowd, as COCO has them, and a detector's results."""
    rng = np.random.default_rng(seed)
    content = {
        "info": {},
        "images": [],
        "annotations": [],
        "categories": [{"id": 3, "name": "cell"}, {"id": 8, "name": "dust"}],
    }
    results = []
    for number in range(1, count + 1):
        pixels = (rng.random((64, 64, 3)) * 255).astype(np.uint8)
        (folder / f"{number}.png").write_bytes(imagecodecs.png_encode(pixels))
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
        for k in range(5):
            x, y = (int(v) for v in rng.integers(0, 40, 2))
            width, height = (int(v) for v in rng.integers(6, 24, 2))
            mask = Mask.from_window(np.ones((height, width)), Box(x, y, x + width, y + height), (64, 64))
            category, identity = (3, 8)[k % 2], len(content["annotations"]) + 1
            common = {"image_id": number, "category_id": category, "bbox": [x, y, width, height]}
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            outline = mask.to_coco_rle() if k else [corners]
            content["annotations"].append(
                {"id": identity, **common, "segmentation": outline, "area": mask.area, "iscrowd": int(k == 4)}
            )
            results.append({**common, "score": float(rng.random())})
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "found.json").write_text(json.dumps(results))
    return content, results


@pytest.mark.parametrize("given", ["detections", "true boxes"])
def test_mask_ap_is_that_of_pycocotools(tmp_path, model, monkeypatch, given):
    content, results = write_coco(tmp_path)
    kept = []
    answer = coco_evaluation._masks_of

    def remembered(image, model, boxes):
        # The boxes themselves, a little off: with random weights no mask would fit anything.
        assert len(answer(image, model, boxes)) == len(boxes)
        masks = []
        for i, (x0, y0, x1, y1) in enumerate(np.asarray(boxes, dtype=int).tolist()):
            window = Box(x0, y0, x1, max(y0 + 2, y1 - i))
            rating = 0.9 - 0.1 * i
            masks.append(Mask.from_window(np.ones(window.size), window, (64, 64), predicted_iou=rating))
        kept.append((image.image_id, masks))
        return masks

    monkeypatch.setattr(coco_evaluation, "_masks_of", remembered)
    detections = tmp_path / "found.json" if given == "detections" else None
    report = evaluate_boxes(tmp_path, model, annotations=tmp_path / "truth.json", detections=detections)
    truth = [a for a in content["annotations"] if detections is not None or not a["iscrowd"]]
    found = []
    for image_id, masks in kept:
        stated = [r for r in (results if detections is not None else truth) if r["image_id"] == image_id]
        for said, mask in zip(stated, masks, strict=True):
            score = said.get("score", mask.predicted_iou)
            found.append({**{k: said[k] for k in ("image_id", "category_id")}, "score": score})
            found[-1]["segmentation"] = mask.to_coco_rle()
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(tmp_path / "truth.json")
        judge = COCOeval(coco, coco.loadRes(found), "segm")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    wanted = [None if value == -1 else pytest.approx(value, abs=1e-9) for value in judge.stats[:6]]
    assert [report.figures[name] for name in names] == wanted
    assert 0 < report.figures["ap"] < 1
    assert report.objects == 12


def test_true_boxes_of_pairs_can_be_asked_as_well(tmp_path, model):
    write_pairs(tmp_path, 1)
    report = evaluate_boxes(tmp_path, model)
    assert set(report.figures) == {"ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"}
    assert 0 <= report.figures["ap"] <= 1
    assert json.loads(report.write_json(tmp_path / "f.json").read_text())["objects"] == report.objects


def test_polygons_are_the_pixels_whose_centre_they_hold():
    mask = coco_mask([[1, 1, 4, 1, 4, 3, 1, 3], [6, 0, 7, 0, 7, 1, 6, 1]], (5, 8))
    wanted = np.zeros((5, 8), dtype=bool)
    wanted[1:3, 1:4] = wanted[0, 6] = True
    assert (mask.to_array() == wanted).all()


def test_annotations_that_cannot_be_used_are_named(tmp_path, model):
    content, _ = write_coco(tmp_path, count=1)
    truth = tmp_path / "truth.json"

    def judged(**options):
        return evaluate_boxes(tmp_path, model, annotations=truth, **options)

    with pytest.raises(TrainingError, match="give its annotations as well"):
        evaluate_boxes(tmp_path, model, detections=tmp_path / "found.json")
    with pytest.raises(TrainingError, match=r"each needs bbox, category_id, image_id, score"):
        judged(detections=truth)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(TrainingError, match=r"bad\.json cannot be read as JSON"):
        judged(detections=tmp_path / "bad.json")
    truth.write_text(json.dumps({**content, "annotations": [{"image_id": 1, "category_id": 3}]}))
    with pytest.raises(TrainingError, match=r"an annotation of .*1\.png cannot be used"):
        judged()
    content["images"][0]["width"] = 63
    truth.write_text(json.dumps(content))
    with pytest.raises(TrainingError, match=r"has \(64, 64\) pixels \(H, W\), but the COCO file says \(64, 63\)"):
        judged()
    content["images"][0]["file_name"] = "none.png"
    truth.write_text(json.dumps(content))
    with pytest.raises(TrainingError, match=r"none\.png is not there, but the COCO file names it"):
        judged()
    truth.write_text("[]")
    with pytest.raises(TrainingError, match="needs annotations, categories, images, got list"):
        judged()
    truth.write_text("?")
    with pytest.raises(TrainingError, match="cannot be read as JSON"):
        judged()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"thresholds": 0}, "at least 1 threshold, got 0"),
        ({"max_distance": 0}, r"max_distance must lie in \(0, 1\), got 0"),
        ({"max_images": 0}, "max_images must be at least 1, got 0"),
    ],
)
def test_settings_of_the_edge_protocol_are_checked(setting, told):
    with pytest.raises(ConfigError, match=told):
        EdgeEvaluationConfig(**setting)
