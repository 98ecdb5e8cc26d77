"""Many images in one call: finished ones are skipped, a bad one costs no other, one table says what became of all."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tifffile
import zarr

from napari_sam.errors import ConfigError, ImageError, OutputError, RunInterrupted
from napari_sam.workflows.batch import find_images, segment_batch
from workflows.workflows_scenes import TILES, digest, squares, stand_in, tiny_model


@pytest.fixture
def plate(tmp_path):
    folder = tmp_path / "plate"
    folder.mkdir()
    for number in range(3):
        tifffile.imwrite(folder / f"well{number}.tif", np.roll(squares((64, 96)), number, axis=1))
    return folder


def rows(result):
    with result.summary.open(newline="") as file:
        return list(csv.DictReader(file))


def run(images, folder, **settings):
    return segment_batch(images, folder, tiny_model(), tiling=TILES, **settings)


def test_every_image_gets_its_labels_and_a_row(plate, tmp_path, monkeypatch):
    stand_in(monkeypatch)
    result = run([plate], tmp_path / "out")
    assert [row["status"] for row in rows(result)] == ["done"] * 3
    assert [int(row["objects"]) for row in rows(result)] == [6, 6, 6]
    assert [row["labels"] for row in rows(result)] == [f"well{n}.ome.zarr" for n in range(3)]
    for n in range(3):
        labels = zarr.open_array(tmp_path / "out" / f"well{n}.ome.zarr" / "0", mode="r")
        assert int(np.asarray(labels).max()) == 6
        assert (tmp_path / "out" / f"well{n}.csv").exists()


def test_finished_images_are_skipped_until_something_changes(plate, tmp_path, monkeypatch):
    calls = stand_in(monkeypatch)
    run([plate], tmp_path / "out")
    before, asked = digest(tmp_path / "out"), calls.segmented
    again = run([plate], tmp_path / "out")
    assert (again.skipped, calls.segmented, digest(tmp_path / "out")) == (3, asked, before)
    tifffile.imwrite(plate / "well1.tif", squares((64, 64)))
    changed = run([plate], tmp_path / "out")
    assert changed.skipped == 2
    assert changed.outcomes[1].problem.startswith("LedgerError: ")
    assert run([plate], tmp_path / "out", automatic={"pred_iou_thresh": 0.5}).skipped == 0
    assert run([plate], tmp_path / "other").skipped == 0


def test_an_image_that_fails_costs_no_other_one_and_is_tried_again(plate, tmp_path, monkeypatch):
    stand_in(monkeypatch)
    whole = (plate / "well1.tif").read_bytes()
    (plate / "well1.tif").write_bytes(b"II*\0rubbish")
    result = run([plate], tmp_path / "out")
    assert not result.is_complete
    assert [row["status"] for row in rows(result)] == ["done", "failed", "done"]
    assert "well1.tif" in rows(result)[1]["problem"]
    (plate / "well1.tif").write_bytes(whole)
    mended = run([plate], tmp_path / "out")
    assert mended.is_complete
    assert mended.skipped == 2


def test_failed_tiles_make_an_image_incomplete(plate, tmp_path, monkeypatch):
    stand_in(monkeypatch, fail={1})
    result = run([plate], tmp_path / "out")
    assert [outcome.status for outcome in result.outcomes] == ["incomplete", "done", "done"]
    assert "this tile cannot be had" in result.outcomes[0].problem
    assert run([plate], tmp_path / "out").is_complete


def test_an_interrupted_batch_goes_on_where_it_stopped(plate, tmp_path, monkeypatch):
    stand_in(monkeypatch)
    run([plate], tmp_path / "calm")
    calls = stand_in(monkeypatch, stop={2: KeyboardInterrupt()})
    with pytest.raises(RunInterrupted, match="the same command"):
        run([plate], tmp_path / "out")
    on_disk = sorted(path.name for path in (tmp_path / "out").glob("*.done.json"))
    result = run([plate], tmp_path / "out")
    assert result.skipped == len(on_disk)
    assert result.is_complete
    assert (len(on_disk), calls.segmented) == (1, 4)
    for n in range(3):
        name = f"well{n}.ome.zarr"
        assert digest(tmp_path / "out" / name) == digest(tmp_path / "calm" / name)


def test_a_damaged_record_or_missing_labels_are_made_again(plate, tmp_path, monkeypatch):
    stand_in(monkeypatch)
    run([plate], tmp_path / "out", label_format="tif")
    (tmp_path / "out" / "well0.done.json").write_text('{"key": 3, "outcome": {"image": []}}')
    (tmp_path / "out" / "well1.tif").unlink()
    result = run([plate], tmp_path / "out", label_format="tif")
    assert (result.skipped, result.is_complete) == (1, True)
    assert json.loads((tmp_path / "out" / "well0.done.json").read_text())["outcome"]["objects"] == 6


def test_images_are_found_by_folder_pattern_and_table(plate, tmp_path):
    zarr.create_array(plate / "stack.zarr", data=squares(), chunks=(64, 64))
    (plate / "notes.txt").write_text("not an image")
    (plate / ".hidden.tif").write_text("not an image")
    (tmp_path / "list.csv").write_text("well,image\nA1,plate/well2.tif\nA2,plate/well0.tif\n")
    found = [path.name for path in find_images([plate])]
    assert found == ["stack.zarr", "well0.tif", "well1.tif", "well2.tif"]
    assert [path.name for path in find_images([plate / "well[01].tif"])] == ["well0.tif", "well1.tif"]
    assert [path.name for path in find_images([tmp_path / "list.csv"])] == ["well2.tif", "well0.tif"]
    assert [path.name for path in find_images([plate / "well1.tif", plate])][:2] == ["well1.tif", "stack.zarr"]


TABLES = {
    "no column": ("file\na.tif\n", "has the columns file; one must be called image"),
    "no such image": ("image\nnone.tif\nnor.tif\n", "names .*none.tif, which does not exist, and 1 more"),
    "no text": (b"\xff\xfe\x00", "cannot be read as a table"),
}


@pytest.mark.parametrize(("content", "message"), TABLES.values(), ids=TABLES)
def test_tables_that_name_no_images_are_refused(tmp_path, content, message):
    (tmp_path / "list.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ImageError, match=message):
        find_images([tmp_path / "list.csv"])


def test_nothing_to_do_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"\*.tif names no image; allowed are .tif"):
        run([tmp_path / "*.tif"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_images_of_one_name_get_their_folders_name_or_are_refused(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    for folder in ("a", "b", "c/a"):
        (tmp_path / folder).mkdir(parents=True)
        tifffile.imwrite(tmp_path / folder / "x.tif", squares((64, 64)))
    result = run([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert [outcome.labels for outcome in result.outcomes] == ["a_x.ome.zarr", "b_x.ome.zarr"]
    with pytest.raises(OutputError, match="several images would have the results 'a_x'"):
        run([tmp_path / "a", tmp_path / "c" / "a"], tmp_path / "out")


def test_formats_that_are_not_there_are_refused(plate, tmp_path):
    with pytest.raises(ConfigError, match=r"labels can be ome.zarr, tif and other results csv, .* got 'png'"):
        run([plate], tmp_path / "out", label_format="png")
