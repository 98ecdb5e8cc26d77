"""`napari-sam evaluate`: its report, groups and choices, as typed."""

from __future__ import annotations

import json

import pytest

from napari_sam.cli import main
from workflows.workflows_scenes import write_pairs


@pytest.fixture
def job(place):
    (place / "pairs").mkdir()
    write_pairs(place / "pairs", 2)
    return ["evaluate", "pairs", "--model", "tiny.safetensors"]


def test_a_report_is_written_and_named(job, place, capsys):
    options = ["--tasks", "points,boxes,automatic", "--max-objects", "1", "--random-draws", "0", "--group-by", "tissue"]
    assert main([*job, *options, "--report", "new/report"]) == 0
    assert "report in new/report/report.md" in capsys.readouterr().out
    assert "## By tissue" in (place / "new" / "report" / "report.md").read_text()


def test_prompts_and_tiles_are_chosen_by_flags(job, place, capsys):
    options = ["--tasks", "automatic", "--json", "f.json"]
    assert main([*job, *options, "--prompts", "proposals", "--core-px", "32", "--halo-px", "8"]) == 0
    settings = json.loads((place / "f.json").read_text())["settings"]
    assert settings["automatic"]["prompts"] == "proposals"
    assert (settings["tiling"]["core_px"], settings["tiling"]["halo_px"]) == (32, 8)
    assert main([*job, *options, "--prompts", "grid", "--untiled"]) == 0
    settings = json.loads((place / "f.json").read_text())["settings"]
    assert (settings["automatic"]["prompts"], settings["tiling"]) == ("grid", None)
    assert main([*job, *options, "--untiled", "--core-px", "32"]) == 2
    assert "untiled shows each image whole" in capsys.readouterr().err


def test_pairs_that_are_left_out_are_told(job, place, capsys):
    (place / "pairs" / "1.labels.png").unlink()
    assert main([*job, "--tasks", "boxes"]) == 2
    assert "1 of 2 pairs cannot be judged" in capsys.readouterr().err
    assert main([*job, "--tasks", "boxes", "--skip-bad"]) == 0
    assert "left out 1: pairs/1.image.png has no labels" in capsys.readouterr().err
