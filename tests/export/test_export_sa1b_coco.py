"""SA-1B and COCO files: pycocotools is the oracle."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from export.scenes import Relabelled, blob_masks, blobs, grid_of_squares, squares
from napari_sam.errors import ImageError, OutputError
from napari_sam.export import read_sa1b, write_coco, write_sa1b
from napari_sam.export.runlengths import frame_texts
from napari_sam.geometry import Box, Mask
from napari_sam.tiling.objects import MergedObjects

# pycocotools, when it decodes, still implements numpy 1's array protocol.
OLD_PYCOCOTOOLS = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.mark.parametrize("size", [(90, 120), (1, 1), (1, 50), (50, 1), (7, 9)], ids=str)
def test_many_masks_are_encoded_as_each_alone(size: tuple[int, int]) -> None:
    masks = [*blob_masks(size, 60), Mask.from_array(np.ones(size)), Mask.from_array(np.zeros(size))]
    assert frame_texts(masks, size) == [mask.to_coco_rle()["counts"] for mask in masks]
    assert frame_texts([], size) == []


@OLD_PYCOCOTOOLS
def test_pycocotools_decodes_the_sa1b_file_to_our_masks(tmp_path: Path) -> None:
    objects = blobs()
    path = write_sa1b(objects, tmp_path / "sa_1.json", file_name="sa_1.jpg", image_id=7)
    content = json.loads(path.read_text())
    assert content["image"] == {"image_id": 7, "width": 420, "height": 300, "file_name": "sa_1.jpg"}
    assert len(content["annotations"]) == 40
    for annotation, (label, mask) in zip(content["annotations"], objects.iter_masks(), strict=True):
        np.testing.assert_array_equal(coco_mask.decode(annotation["segmentation"]).astype(bool), mask.to_array())
        assert annotation["id"] == label
        assert annotation["area"] == coco_mask.area(annotation["segmentation"])
        assert annotation["bbox"] == coco_mask.toBbox(annotation["segmentation"]).tolist()
        assert annotation["predicted_iou"] == mask.predicted_iou
        assert annotation["stability_score"] == mask.stability_score
        assert annotation["crop_box"] == [0, 0, 420, 300]
        assert annotation["point_coords"] == ([] if mask.point_xy is None else [list(mask.point_xy)])


def test_reading_sa1b_gives_the_same_masks_back(tmp_path: Path) -> None:
    objects = blobs()
    content = read_sa1b(write_sa1b(objects, tmp_path / "a.json", file_name="a.png", image_id=3))
    assert (content.image_id, content.file_name, content.image_size) == (3, "a.png", (300, 420))
    for (label, mask), (read_label, read) in zip(objects.iter_masks(), content.masks, strict=True):
        assert read_label == label
        assert replace(read, prompt=mask.prompt) == mask


def test_masks_of_a_huge_frame_survive_the_round_trip(tmp_path: Path) -> None:
    size = (100_000, 100_000)
    objects = squares(size, [(0, 0), (77_000, 99_996), (99_996, 5)])
    content = read_sa1b(write_sa1b(objects, tmp_path / "a.json", file_name="a"))
    assert [mask.box for _, mask in content.masks] == [mask.box for _, mask in objects.iter_masks()]
    assert all(mask.area == 16 for _, mask in content.masks)


def test_overlapping_masks_are_kept_whole(tmp_path: Path) -> None:
    objects = squares((20, 20), [(5, 5), (6, 6), (5, 5)])
    content = read_sa1b(write_sa1b(objects, tmp_path / "a.json", file_name="a"))
    assert [mask.area for _, mask in content.masks] == [16, 16, 16]


def test_scores_that_are_no_numbers_become_null(tmp_path: Path) -> None:
    mask = Mask.from_array(np.ones((3, 3)), predicted_iou=math.nan, stability_score=math.inf)
    path = write_sa1b(MergedObjects.from_masks([mask], (3, 3)), tmp_path / "a.json", file_name="a")
    assert json.loads(path.read_text())["annotations"][0]["predicted_iou"] is None
    ((_, read),) = read_sa1b(path).masks
    assert math.isnan(read.predicted_iou)
    assert math.isnan(read.stability_score)


def test_a_published_file_without_optional_fields_is_read(tmp_path: Path) -> None:
    rle = {"size": [3, 4], "counts": [4, 2, 6]}
    image = {"image_id": 1, "width": 4, "height": 3, "file_name": "a.jpg"}
    (tmp_path / "a.json").write_text(json.dumps({"image": image, "annotations": [{"id": 9, "segmentation": rle}]}))
    ((label, mask),) = read_sa1b(tmp_path / "a.json").masks
    assert (label, mask.box, mask.area) == (9, Box(1, 1, 2, 3), 2)


IMAGE = {"image_id": 1, "width": 4, "height": 3, "file_name": "a.jpg"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a complete SA-1B file"),
        ("[]", "is not a complete SA-1B file"),
        (json.dumps({"image": IMAGE}), "KeyError: 'annotations'.*it needs 'image' with image_id"),
        (
            json.dumps({"image": IMAGE, "annotations": [{"id": 1, "segmentation": {"size": [4, 3], "counts": [12]}}]}),
            r"must cover the image of 3 x 4, got the size \[4, 3\] and 12 pixels",
        ),
        (
            json.dumps({"image": IMAGE, "annotations": [{"id": 1, "segmentation": {"size": [3, 4], "counts": [11]}}]}),
            r"must cover the image of 3 x 4, got the size \[3, 4\] and 11 pixels; write the file again",
        ),
    ],
    ids=["cut off", "a list", "no annotations", "turned", "too short"],
)
def test_a_damaged_sa1b_file_is_explained(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ImageError, match=message):
        read_sa1b(tmp_path / "a.json")


def test_a_missing_sa1b_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cannot read .*a\.json: No such file"):
        read_sa1b(tmp_path / "a.json")


@OLD_PYCOCOTOOLS
def test_pycocotools_loads_the_coco_file(tmp_path: Path) -> None:
    objects = blobs()
    path = write_coco(objects, tmp_path / "coco.json", file_name="a.tif", image_id=5, category="nucleus")
    coco = COCO(str(path))
    assert coco.loadImgs([5])[0]["file_name"] == "a.tif"
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["nucleus"]
    assert len(coco.getAnnIds(imgIds=[5])) == 40
    for label, mask in objects.iter_masks():
        annotation = coco.loadAnns([label])[0]
        np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), mask.to_array())
        assert (annotation["iscrowd"], annotation["area"], annotation["score"]) == (0, mask.area, mask.predicted_iou)


@pytest.mark.parametrize("write", [write_sa1b, write_coco], ids=["SA-1B", "COCO"])
def test_no_objects_give_an_empty_list_and_large_labels_stay(write: Callable[..., Path], tmp_path: Path) -> None:
    empty = write(MergedObjects.from_masks([], (5, 6)), tmp_path / "a.json", file_name="a")
    assert json.loads(empty.read_text())["annotations"] == []
    large = write(Relabelled(squares((9, 9), [(1, 1)]), by=2**40), tmp_path / "b.json", file_name="b")
    assert json.loads(large.read_text())["annotations"][0]["id"] == 2**40 + 1


@pytest.mark.parametrize("write", [write_sa1b, write_coco], ids=["SA-1B", "COCO"])
def test_a_stopped_writing_keeps_the_old_file(write: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def progress(done: int, total: int) -> None:
        assert total == 40
        if done == 30:
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"cannot write .*a\.json: No space left on device\. The disk is full"):
        write(blobs(), path, file_name="a", progress=progress)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_hundred_thousand_objects_are_streamed_in_seconds(tmp_path: Path) -> None:
    objects = grid_of_squares(317)
    started = time.process_time()
    path = write_sa1b(objects, tmp_path / "a.json", file_name="a")
    assert time.process_time() - started < 10
    with path.open() as file:
        lines: list[Any] = [next(file) for _ in range(3)]
    first = json.loads(lines[1].rstrip(",\n"))
    assert (first["id"], first["bbox"], first["area"]) == (1, [0, 0, 3, 3], 9)
