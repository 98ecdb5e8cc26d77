"""`napari-sam edges`, `propose`, `boxes` and `measure`, as typed."""

from __future__ import annotations

import json
from dataclasses import fields

import imagecodecs
import numpy as np
import pytest
import tifffile

from napari_sam.cli import main
from napari_sam.predict import EdgeConfig, ObjectProposalConfig
from napari_sam.workflows.experiments import boxes
from napari_sam.workflows.experiments.config import CocoEvaluationConfig, EdgeEvaluationConfig
from napari_sam.workflows.field_help import field_help
from workflows.workflows_scenes import write_pairs

TINY = ["--model", "tiny.safetensors"]
COMMANDS = {
    "edges": (EdgeConfig,),
    "propose": (ObjectProposalConfig,),
    "boxes": (),
    "measure edges": (EdgeEvaluationConfig, EdgeConfig),
    "measure proposals": (CocoEvaluationConfig, ObjectProposalConfig),
    "measure boxes": (),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_setting_with_its_text(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    assert main([*command.split(), "--help"]) == 0
    told = "".join(capsys.readouterr().out.split())
    for config in COMMANDS[command]:
        for field in fields(config):
            assert f"--{field.name.replace('_', '-')}" in told
            assert "".join(field_help(config)[field.name].split()) in told


def test_only_flags_that_do_something_are_offered(capsys):
    for command in ("edges", "propose", "boxes"):
        assert main([command, "--help"]) == 0
        told = capsys.readouterr().out
        assert "--channels" in told
        for flag in ("--workers", "--executor", "--merge-iou-thresh", "--scheduler"):
            assert flag not in told


def test_edges_are_written_and_told(place, capsys):
    assert main(["edges", "image.tif", "-o", "e.png", *TINY, "--points-per-side", "2", "--whole"]) == 0
    assert "edges of 230 x 200 pixels in e.png" in capsys.readouterr().out
    assert imagecodecs.png_decode((place / "e.png").read_bytes()).shape == (200, 230)
    assert main(["edges", "image.tif", "-o", "e.jpg", *TINY]) == 2
    assert "NAME.tif or NAME.png" in capsys.readouterr().err


def test_edges_of_tiles_are_told_apart(place, capsys):
    options = ["--points-per-side", "1", "--tiled", "--core-px", "128", "--halo-px", "16"]
    assert main(["edges", "image.tif", "-o", "e.tif", *TINY, *options]) == 0
    assert "seen in 4 tiles" in capsys.readouterr().out


def test_proposals_become_instances(place, capsys):
    options = ["--points-per-side", "2", "--proposals", "5", "--whole", "--crops", "crops"]
    assert main(["propose", "image.tif", "-o", "p.json", *TINY, *options]) == 0
    number = len(json.loads((place / "p.json").read_text())["annotations"])
    assert f"{number} proposals in p.json" in capsys.readouterr().out
    assert len(list((place / "crops").iterdir())) == number
    assert main(["boxes", "image.tif", "p.json", "-o", "l.tif", *TINY, "--table", "t.csv"]) == 0
    assert "objects in l.tif" in capsys.readouterr().out
    assert tifffile.imread("l.tif").max() <= number
    assert "detection_score" in (place / "t.csv").read_text()


def test_what_boxes_miss_is_told_and_shows_in_the_exit_code(place, capsys, monkeypatch):
    (place / "b.csv").write_text("x0,y0,x1,y1\n5,5,20,20\n180,150,199,170\n")

    def failing(model, plane, window, given):
        if 1 in window.rows:
            raise OSError("no such chunk")
        return [boxes.Mask.from_array(np.zeros(plane.shape, dtype=bool)) for _ in window.rows]

    monkeypatch.setattr(boxes, "window_masks", failing)
    assert main(["boxes", "image.tif", "b.csv", "-o", "l.tif", *TINY]) == 3
    told = capsys.readouterr().err
    assert "nothing was seen in 1 boxes: 1" in told
    assert "1 windows failed, boxes 2 are missing" in told
    assert "OSError: no such chunk" in told


def test_figures_of_every_experiment_are_printed_and_written(place, capsys):
    (place / "pairs").mkdir()
    write_pairs(place / "pairs", 1)
    for command, options, figure in (
        ("edges", ["--points-per-side", "2", "--thresholds", "3"], "ods"),
        ("proposals", ["--points-per-side", "2"], "ar@100"),
        ("boxes", [], "ap50"),
    ):
        assert main(["measure", command, "pairs", *TINY, *options, "--json", f"{command}.json"]) == 0
        assert f"all figures in {command}.json" in capsys.readouterr().out
        assert 0 <= json.loads((place / f"{command}.json").read_text())["figures"][figure] <= 1
    assert main(["measure", "boxes", "nowhere"]) == 2
