"""`napari-sam segment` as a user meets it: exit codes, what stands on which stream, and how to go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from napari_sam.cli import main
from napari_sam.errors import OutputError
from napari_sam.workflows import planning, segmentation
from workflows.workflows_scenes import digest, scene, stand_in

TINY = ["--model", "tiny.safetensors", "--core-px", "64", "--halo-px", "16"]
JOB = ["segment", "image.tif", "-o", "out.ome.zarr", *TINY]


def test_a_complete_run_ends_with_0_and_says_what_it_made(place, capfd, monkeypatch):
    stand_in(monkeypatch)
    assert main([*JOB, "--table", "t.csv", "--report", "r.json", "--workers", "2"]) == 0
    told = capfd.readouterr()
    report = json.loads((place / "r.json").read_text())
    assert told.out.startswith(f"{report['objects']} objects in out.ome.zarr (")
    assert report["config"]["segment"]["workers"] == 2
    assert len((place / "t.csv").read_text().splitlines()) == report["objects"] + 1


def test_progress_with_the_time_left_and_the_estimate_are_on_the_error_stream(place, capfd, monkeypatch):
    stand_in(monkeypatch)
    main(JOB)
    told = capfd.readouterr().err
    assert "expected: about " in told
    assert "tiles: 100%" in told
    assert "17/17 [00:" in told  # time passed < time left, rate
    assert "<" in told
    assert "merge: 100%" in told
    assert "labels: 100%" in told


def test_flags_reach_the_settings_they_name(place, monkeypatch):
    stand_in(monkeypatch)
    flags = [
        "--points-per-side",
        "7",
        "--prompts",
        "grid",
        "--merge-iou-thresh",
        "0.7",
        "--channels",
        "0",
        "--channels",
        "2",
    ]
    assert main([*JOB, "--report", "r.json", "--preset", "nuclei", *flags]) == 0
    config = json.loads((place / "r.json").read_text())["config"]
    assert config["automatic"]["points_per_side"] == 7
    assert config["automatic"]["max_mask_fraction"] == 0.25  # of the preset
    assert config["automatic"]["pred_iou_thresh"] == 0  # of the checkpoint
    assert config["tiling"]["merge_iou_thresh"] == 0.7
    assert config["segment"]["channels"] == [0, 2]


def test_a_dry_run_prints_the_plan_and_writes_nothing(place, capsys, monkeypatch):
    calls = stand_in(monkeypatch)
    before = digest(place)
    assert main([*JOB, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "230 x 200 pixels (width x height), uint8" in told
    assert "tiles     16 of 4 x 4 (rows x columns), cores of 64 px with a halo of 16 px and 1 at reduced resol" in told
    assert "0 skipped as empty" in told
    assert "MB of memory" in told
    assert calls.segmented == 2
    assert digest(place) == before


def test_failed_tiles_are_listed_and_the_code_is_3(place, capsys, monkeypatch):
    stand_in(monkeypatch, fail={5})
    assert main(JOB) == 3
    told = capsys.readouterr().err
    assert "napari-sam: 1 of 17 tiles failed and are empty:" in told
    assert ": RuntimeError: this tile cannot be had" in told
    assert "Give the same command again to try them once more." in told
    assert main(JOB) == 0


def test_cut_objects_that_failed_are_listed_and_the_code_is_3(place, capsys, monkeypatch):
    stand_in(monkeypatch)

    def fail(model, image, fragment, **settings):
        raise ValueError("no window")

    monkeypatch.setattr(segmentation, "reprompt", fail)
    assert main(JOB) == 3
    assert "cut objects could not be made whole:" in capsys.readouterr().err


def test_a_run_that_breaks_ends_with_1_and_one_line(place, capsys, monkeypatch):
    stand_in(monkeypatch)

    def full(*_args, **_kwargs):
        raise OutputError("cannot write out.ome.zarr: No space left on device. Free some space.")

    monkeypatch.setattr(segmentation, "write_labels", full)
    assert main(JOB) == 1
    told = capsys.readouterr().err
    assert told.splitlines()[-1] == "napari-sam: cannot write out.ome.zarr: No space left on device. Free some space."
    assert "Traceback" not in told


REFUSED = {
    "no image": (["none.tif", "-o", "o.tif"], "there is no file or folder none.tif"),
    "another ending": (["image.tif", "-o", "o.png"], "must be NAME.ome.zarr or NAME.tif, got o.png"),
    "an output that is there": (["image.tif", "-o", "image.tif"], "image.tif already exists"),
    "the image itself": (["image.tif", "-o", "image.tif", "--restart"], "is read by this job and would be overwritten"),
    "no model": (["image.tif", "-o", "o.tif", "--model", "vit_bb"], "no model called 'vit_bb'. Did you mean vit_b"),
    "no device": (["image.tif", "-o", "o.tif", "--device", "tpu"], "device 'tpu' is not on this machine"),
    "no preset": (["image.tif", "-o", "o.tif", "--preset", "cels"], "Did you mean 'cells'"),
    "no workers": (["image.tif", "-o", "o.tif", "--workers", "0"], "workers must be at least 1, got 0"),
    "a halo too large": (["image.tif", "-o", "o.tif", "--core-px", "9", "--halo-px", "9"], "halo_px must lie in"),
    "a bad threshold": (["image.tif", "-o", "o.tif", "--box-nms-thresh", "2"], r"box_nms_thresh must lie in [0, 1]"),
    "no number": (["image.tif", "-o", "o.tif", "--workers", "two"], 'unable to convert "two" into int'),
    "a flag that is none": (["image.tif", "-o", "o.tif", "--tabel", "t.csv"], "--tabel"),
    "no output": (["image.tif"], "--output"),
    "another choice": (["image.tif", "-o", "o.tif", "--prompts", "text"], "--prompts"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_wrong_usage_ends_with_2_one_line_and_nothing_written(place, capsys, arguments, message):
    before = digest(place)
    assert main(["segment", *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("napari-sam: ")
    assert len(told.err.splitlines()) == 1
    assert message in told.err
    assert digest(place) == before


def test_an_unexpected_error_is_one_line_unless_the_traceback_is_asked_for(place, capsys, monkeypatch):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(planning, "open_image", broken)
    monkeypatch.delenv("NAPARI_SAM_DEBUG", raising=False)
    assert main(JOB) == 1
    assert "ZeroDivisionError: a bug. This is not expected; set NAPARI_SAM_DEBUG=1" in capsys.readouterr().err
    monkeypatch.setenv("NAPARI_SAM_DEBUG", "1")
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(JOB)


def test_ctrl_c_before_the_first_tile_ends_with_130(place, capsys, monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(planning, "open_image", interrupt)
    assert main(JOB) == 130
    assert "interrupted; give the same command again" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="this system has no SIGINT to send")
def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(place):
    tifffile.imwrite("large.tif", np.tile(scene((256, 256)), (2, 2, 1)), photometric="rgb")
    job = [
        "segment",
        "large.tif",
        "-o",
        "out.tif",
        *TINY,
        "--table",
        "t.csv",
        "--report",
        "r.json",
        "--max-mask-fraction",
        "0.01",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_sam.cli", *job],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A shell starts what it runs in the background with SIGINT ignored; here it is to be heard.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while len(list(place.glob("out.tif.run/tiles-*/tile-*.npz"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert out == ""
    assert "of 69 tiles; what is finished is kept in out.tif.run" in told
    assert "the same command (or call) goes on from there" in told
    assert "Traceback" not in told
    assert not (place / "out.tif").exists()
    assert main(job) == 0
    assert json.loads((place / "r.json").read_text())["tiles_reused"] >= 4
    assert (place / "t.csv").is_file()
