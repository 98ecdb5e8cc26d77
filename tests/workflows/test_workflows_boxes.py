"""Boxes to instances as a whole job: labels, table, going on after a stop, huge images, bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from napari_sam.errors import LedgerError, OutputError, PromptError, RunInterrupted
from napari_sam.geometry import Box
from napari_sam.images.detections import Detections
from napari_sam.predict import masks_from_boxes
from napari_sam.workflows import SegmentConfig, SegmentPaths, segment_boxes
from napari_sam.workflows.experiments import boxes
from workflows.workflows_scenes import tiny_model

SHAPE = (150, 210)
BOXES = np.array([[10, 12, 30, 33], [150, 100, 172, 121], [40, 20, 120, 100], [12, 14, 25, 30], [-5, 130, 9, 160]])


@pytest.fixture
def image():
    rng = np.random.default_rng(1)
    return (rng.random((*SHAPE, 3)) * 255).astype(np.uint8)


@pytest.fixture
def model():
    return tiny_model()


def test_a_pixels_value_is_the_number_of_its_box(image, model, tmp_path):
    result = segment_boxes(image, BOXES, tmp_path / "o.tif", model)
    assert set(result.table.label.tolist()) | set(result.empty) == {1, 2, 3, 4, 5}
    labels = np.asarray(result.labels)
    assert (tifffile.imread(tmp_path / "o.tif") == labels).all()
    painted = np.zeros(SHAPE, dtype=int)
    for row in np.argsort(result.table.predicted_iou, kind="stable"):
        painted[result.objects.mask(row).to_array()] = result.table.label[row]
    assert (painted == labels).all()
    assert result.table.area_px.tolist() == [result.objects.mask(row).area for row in range(len(result.table))]
    assert set(result.table.prompt) == {"box"}


def test_an_image_of_one_window_gives_the_masks_of_the_call_in_memory(image, model, tmp_path):
    small = image[:60, :64]
    inside = BOXES[[0, 3]]
    result = segment_boxes(small, inside, tmp_path / "o.tif", model)
    seen = result.objects
    plane = boxes.open_plane(small, SegmentConfig())
    wanted = masks_from_boxes(model, plane.read(Box.of_size((60, 64))), inside)
    kept = [mask for mask in wanted if mask.area]
    assert [seen.mask(row).box for row in range(len(seen))] == [mask.box for mask in kept]
    assert [seen.mask(row).area for row in range(len(seen))] == [mask.area for mask in kept]


def test_large_boxes_are_answered_from_coarser_windows_in_the_images_own_pixels(image, model, tmp_path, monkeypatch):
    steps = []
    read = boxes.Plane.read

    def counted(plane, box, step=1):
        steps.append(step)
        return read(plane, box, step)

    monkeypatch.setattr(boxes.Plane, "read", counted)
    result = segment_boxes(image, BOXES[[0, 2]], tmp_path / "o.tif", model)
    assert sorted(steps) == [1, 4]  # 80 px of a window of 64 px: one of 256 px
    assert result.windows == 2


def test_what_a_detector_said_is_in_the_table(image, model, tmp_path):
    detections = Detections.of(BOXES[:2], [0.75, 0.5], ["cell", "dust"])
    paths = SegmentPaths(table=tmp_path / "t.csv", geojson=tmp_path / "t.geojson")
    result = segment_boxes(image, detections, tmp_path / "o.ome.zarr", model, paths=paths)
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0].endswith(",detection_score,category")
    assert len(lines) == 1 + len(result.table)
    said = {1: "0.75,cell", 2: "0.5,dust"}
    for line, label in zip(lines[1:], result.table.label.tolist(), strict=True):
        assert line.endswith(said[label])
    assert len(json.loads((tmp_path / "t.geojson").read_text())["features"]) == len(result.table)


def test_a_file_of_boxes_is_read_for_the_image_of_that_name(image, model, tmp_path):
    tifffile.imwrite(tmp_path / "b.tif", image, photometric="rgb")
    content = {
        "images": [{"id": 1, "file_name": "a.tif"}, {"id": 2, "file_name": "b.tif"}],
        "annotations": [
            {"image_id": 2, "bbox": [10, 12, 20, 21]},
            {"image_id": 1, "bbox": [0, 0, 5, 5]},
            {"image_id": 2, "bbox": [150, 100, 22, 21]},
        ],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    result = segment_boxes(tmp_path / "b.tif", tmp_path / "boxes.json", tmp_path / "o.tif", model)
    assert len(result.table) + len(result.empty) == 2


def test_a_stopped_run_goes_on_where_it_was(image, model, tmp_path, monkeypatch):
    whole = segment_boxes(image, BOXES, tmp_path / "whole.tif", model)
    answered = []
    answer = boxes.window_masks

    def counted(*arguments):
        answered.append(arguments[2])
        return answer(*arguments)

    monkeypatch.setattr(boxes, "window_masks", counted)
    with pytest.raises(RunInterrupted, match="stopped in the stage boxes after 1 of"):
        segment_boxes(image, BOXES, tmp_path / "o.tif", model, should_stop=lambda: len(answered) > 0)
    assert not (tmp_path / "o.tif").exists()
    again = segment_boxes(image, BOXES, tmp_path / "o.tif", model)
    assert len(answered) == whole.windows > 1
    assert (tmp_path / "o.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert again.table.label.tolist() == whole.table.label.tolist()


def test_a_window_that_fails_costs_its_boxes_alone_and_is_tried_again(image, model, tmp_path, monkeypatch):
    answer = boxes.window_masks

    def failing(model, plane, window, given):
        if 1 in window.rows:
            raise OSError("no such chunk")
        return answer(model, plane, window, given)

    monkeypatch.setattr(boxes, "window_masks", failing)
    result = segment_boxes(image, BOXES, tmp_path / "o.tif", model)
    assert (list(result.failed.values()), result.missing) == (["OSError: no such chunk"], (2,))
    assert 2 not in result.table.label
    monkeypatch.setattr(boxes, "window_masks", answer)
    mended = segment_boxes(image, BOXES, tmp_path / "o.tif", model)
    assert (mended.failed, mended.missing) == ({}, ())
    assert {2} & ({*mended.table.label.tolist()} | {*mended.empty})


def test_no_boxes_give_an_empty_label_image(image, model, tmp_path):
    result = segment_boxes(
        image, np.zeros((0, 4)), tmp_path / "o.tif", model, paths=SegmentPaths(table=tmp_path / "t.csv")
    )
    assert (len(result.table), result.windows, int(np.asarray(result.labels).max())) == (0, 0, 0)


@pytest.mark.parametrize(
    "box", [[5, 5, 5, 9], [300, 5, 310, 9], [0, 0, np.nan, 9]], ids=["empty", "outside", "not a number"]
)
def test_a_box_without_pixels_is_named_and_nothing_is_written(image, model, tmp_path, box):
    with pytest.raises(PromptError, match=r"box 2 of 2, .*has no pixel in the image of 210 x 150 pixels"):
        segment_boxes(image, [[0, 0, 9, 9], box], tmp_path / "o.tif", model)
    assert list(tmp_path.iterdir()) == []


def test_outputs_and_ledgers_of_others_are_left_alone(image, model, tmp_path):
    with pytest.raises(OutputError, match=r"must be NAME\.ome\.zarr or NAME\.tif"):
        segment_boxes(image, BOXES, tmp_path / "o.png", model)
    segment_boxes(image, BOXES, tmp_path / "o.tif", model)
    with pytest.raises(LedgerError, match="is the ledger of another run"):
        segment_boxes(image[:100], BOXES[:1], tmp_path / "o.tif", model)
    replaced = segment_boxes(image[:100], BOXES[:1], tmp_path / "o.tif", model, restart=True)
    assert replaced.labels.shape == (100, 210)
