"""What is judged: layouts, data sets in subfolders, groups, and pairs that cannot be used."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr

import napari_sam
from napari_sam.errors import ConfigError, TrainingError
from napari_sam.workflows import EvaluateConfig
from napari_sam.workflows.evaluating.data import NOT_LISTED, judged_pairs
from workflows.workflows_scenes import squares, stand_in, tiny_model, write_pairs


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path)


def write_folders(folder, names=("x", "y")):
    """`images/` and `labels/` with equal names."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for name in names:
        tifffile.imwrite(folder / "images" / f"{name}.tif", squares((64, 64)))
        tifffile.imwrite(folder / "labels" / f"{name}.tif", (squares((64, 64)) > 100).astype(np.uint16))
    return folder


def test_data_sets_in_subfolders_are_judged_whatever_their_layout(tmp_path):
    write_folders(tmp_path / "b")
    (tmp_path / "a").mkdir()
    write_pairs(tmp_path / "a", 2)
    (tmp_path / "c").mkdir()
    write_pairs(tmp_path / "c", 1)
    (tmp_path / "c" / "manifest.csv").unlink()
    judged, skipped = judged_pairs(tmp_path, group_by="dataset")
    assert [item.name for item in judged] == ["a/0", "a/1", "b/images/x", "b/images/y", "c/0"]
    assert [item.group for item in judged] == ["a", "a", "b", "b", "c"]
    assert skipped == {}


def test_groups_come_from_the_nearest_manifest_above(pairs):
    (pairs / "sub").mkdir()
    for name in ("0.image.png", "0.labels.png", "1.image.png", "1.labels.png"):
        (pairs / name).rename(pairs / "sub" / name)
    (pairs / "manifest.csv").write_text("file,stain\nsub/0.image.png,HE\n")
    judged, _ = judged_pairs(pairs / "sub", group_by="stain")
    assert [item.group for item in judged] == ["HE", NOT_LISTED]
    with pytest.raises(ConfigError, match=r"manifest.csv has no column 'tissue'; it has file, stain"):
        judged_pairs(pairs / "sub", group_by="tissue")


def break_pairs(folder):
    (folder / "0.labels.png").write_bytes(imagecodecs.png_encode(np.ones((9, 9), np.uint16)))
    (folder / "1.labels.png").unlink()


def test_bad_pairs_are_all_named_before_the_work_begins(pairs, monkeypatch):
    model = stand_in(monkeypatch)
    break_pairs(pairs)
    with pytest.raises(TrainingError, match=r"(?s)2 of 3 pairs cannot be judged.*0.labels.png.*\(9, 9\).*1.image.png"):
        napari_sam.evaluate(pairs, model=tiny_model())
    assert model.segmented == 0


def test_bad_pairs_are_left_out_and_named_when_asked(pairs, monkeypatch):
    stand_in(monkeypatch)
    break_pairs(pairs)
    config = EvaluateConfig(tasks=("automatic",), skip_bad=True)
    figures = napari_sam.evaluate(pairs, model=tiny_model(), config=config).figures
    assert figures["n_images"] == 1
    assert set(figures["skipped"]) == {"0", "1"}
    assert "(9, 9)" in figures["skipped"]["0"]
    (pairs / "2.labels.png").unlink()
    with pytest.raises(TrainingError, match="none of the 3 pairs can be judged"):
        napari_sam.evaluate(pairs, model=tiny_model(), config=config)


def test_an_image_without_objects_is_judged_by_what_is_invented_in_it(pairs, monkeypatch):
    stand_in(monkeypatch)
    for name in "012":
        (pairs / f"{name}.labels.png").write_bytes(imagecodecs.png_encode(np.zeros((64, 64), np.uint8)))
    figures = napari_sam.evaluate(pairs, model=tiny_model()).figures
    assert figures["automatic"]["precision"] == 0
    assert figures["automatic"]["count_error"] > 1
    assert figures["points"] == figures["boxes"] == {}
    assert figures["n_objects"] == 0


def test_zarr_labels_are_judged(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    tifffile.imwrite(tmp_path / "a.image.tif", squares((64, 64)))
    labels = np.where(squares((64, 64)) > 100, 1, 0).astype(np.uint32)
    zarr.save_array(str(tmp_path / "a.labels.zarr"), labels)
    report = napari_sam.evaluate(tmp_path, model=tiny_model(), config=EvaluateConfig(tasks=("automatic",)))
    assert [image.name for image in report.images] == ["a"]


def test_damage_that_only_reading_shows_is_named_as_well(pairs, monkeypatch):
    stand_in(monkeypatch)
    negative = np.full((64, 64), -1, np.int16)
    (pairs / "0.labels.png").unlink()
    tifffile.imwrite(pairs / "0.labels.tif", negative)
    config = EvaluateConfig(tasks=("automatic",))
    with pytest.raises(TrainingError, match=r"0.labels.tif holds negative labels"):
        napari_sam.evaluate(pairs, model=tiny_model(), config=config)
    config = EvaluateConfig(tasks=("automatic",), skip_bad=True)
    figures = napari_sam.evaluate(pairs, model=tiny_model(), config=config).figures
    assert (figures["n_images"], list(figures["skipped"])) == (2, ["0"])
    for name in "12":
        (pairs / f"{name}.labels.png").unlink()
        tifffile.imwrite(pairs / f"{name}.labels.tif", negative)
    with pytest.raises(TrainingError, match=r"none of the pairs can be judged, the first: .*negative"):
        napari_sam.evaluate(pairs, model=tiny_model(), config=config)
