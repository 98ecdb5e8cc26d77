"""`napari-sam batch`: what it prints and its exit codes."""

from __future__ import annotations

import csv

import pytest
import tifffile

from napari_sam.cli import main
from workflows.workflows_scenes import squares, tiny_checkpoint


@pytest.fixture
def plate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / name, squares((64, 64)))
    return tmp_path


JOB = ["batch", "*.tif", "-o", "out", "--model", "tiny.safetensors", "--core-px", "64", "--halo-px", "8"]


def test_a_batch_is_done_skipped_and_told(plate, capsys):
    assert main(JOB) == 0
    told = capsys.readouterr()
    assert "2 of 2 images done (0 by an earlier call)" in told.out
    assert "[2/2]" in told.err
    assert main(JOB) == 0
    assert "2 of 2 images done (2 by an earlier call)" in capsys.readouterr().out
    with (plate / "out" / "summary.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["done", "done"]


def test_a_bad_image_is_named_and_the_exit_code_says_so(plate, capsys):
    (plate / "b.tif").write_bytes(b"rubbish")
    assert main([*JOB, "--format", "tif", "--also", "geojson"]) == 3
    told = capsys.readouterr()
    assert "1 of 2 images done" in told.out
    assert "b.tif is failed: ImageError: " in told.err
    assert "is of no supported format" in told.err
    assert sorted(path.name for path in (plate / "out").glob("a.*")) == [
        "a.done.json",
        "a.geojson",
        "a.tif",
        "a.tif.run",
    ]


def test_no_image_is_refused(plate, capsys):
    assert main(["batch", "*.png", "-o", "out"]) == 2
    assert "*.png names no image" in capsys.readouterr().err
    assert not (plate / "out").exists()
