"""Faults of a whole run, each caused for real in a process: what is said, the exit code, and that the same command then
ends with the bytes of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tifffile
import torch
import zarr

from napari_sam.errors import CheckpointError
from napari_sam.predict import embed_image, generate_masks
from napari_sam.workflows import segment
from workflows.workflows_scenes import KEEP_ALL, TILES, digest, scene, squares, tiny_checkpoint, tiny_model

SCRIPT = Path(__file__).with_name("workflows_faulty.py")


def command(fault: str, output: Path) -> list[str]:
    place = output.parents[1]
    job = ["segment", place / "image.tif", "-o", output, "--model", place / "tiny.safetensors"]
    return [sys.executable, SCRIPT, fault, *map(str, job), "--core-px", "64", "--halo-px", "16"]


def start(fault: str, output: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        command(fault, output), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(fault: str, output: Path) -> tuple[int, str]:
    """Exit code and what was said on the error stream."""
    process = start(fault, output)
    told = process.communicate(timeout=200)[1]
    return process.returncode, told


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    tifffile.imwrite(folder / "image.tif", scene((150, 170)), photometric="rgb")
    tiny_checkpoint(folder / "tiny.safetensors")
    return folder


@pytest.fixture(scope="module")
def calm(place) -> str:
    assert run("none", place / "calm" / "out.ome.zarr")[0] == 0
    return digest(place / "calm" / "out.ome.zarr")


def goes_on(output: Path) -> str:
    code, told = run("none", output)
    assert code == 0, told
    return digest(output)


@pytest.mark.parametrize("fault", ["full at a tile", "full at the labels"])
def test_a_full_disk_is_named_and_the_same_command_goes_on(place, calm, fault):
    output = place / fault.replace(" ", "-") / "out.ome.zarr"
    code, told = run(fault, output)
    assert code == 1
    assert "No space left on device. The disk is full: free some space" in told
    assert "Traceback" not in told
    assert not output.exists()
    assert goes_on(output) == calm


def test_a_clock_that_jumps_changes_nothing(place, calm):
    output = place / "clock" / "out.ome.zarr"
    assert run("clock", output)[0] == 0
    assert digest(output) == calm


def wait_for_tiles(process: subprocess.Popen[str], output: Path, count: int) -> None:
    while len(list(output.parent.glob("*.run/tiles-*/tile-*.npz"))) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_ctrl_c_once_or_twice_ends_the_run_and_the_same_command_goes_on(place, calm):
    output = place / "interrupted" / "out.ome.zarr"
    once = start("stuck", output)
    wait_for_tiles(once, output, 1)
    beside_it = run("none", output)
    once.send_signal(signal.SIGINT)
    told = once.communicate(timeout=60)[1]
    assert once.returncode == 130
    assert "what is finished is kept" in told
    twice = start("stuck", output)
    wait_for_tiles(twice, output, 2)
    for _ in range(2):
        twice.send_signal(signal.SIGINT)
        time.sleep(0.01)
    told_twice = twice.communicate(timeout=60)[1]
    # Once Python is shutting down the signal itself ends the process; a shell says 130 of that, too.
    assert twice.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in told + told_twice
    # Two at once on one output: the second one was refused, and wrote nothing.
    assert beside_it[0] == 2
    assert f"process {once.pid} is running on" in beside_it[1]
    assert goes_on(output) == calm


def nan_in(part: str):
    model = tiny_model()
    with torch.no_grad():
        for name, weights in model.sam.named_parameters():
            if name.startswith(part):
                weights.fill_(float("nan"))
    return model


@pytest.mark.parametrize(
    ("part", "what"),
    [
        ("image_encoder", "the image embedding"),
        ("mask_decoder.iou_prediction_head", "the predicted IoU"),
        ("proposal_head", "the proposals"),
    ],
)
def test_a_network_that_gives_nan_fails_its_tiles_instead_of_leaving_them_empty(tmp_path, part, what):
    result = segment(squares(), tmp_path / "out.tif", nan_in(part), tiling=TILES, automatic=KEEP_ALL)
    assert not result.is_complete
    assert len(result.report.tiles_failed) == result.report.tiles
    why = next(iter(result.report.tiles_failed.values()))
    assert f"{what} by model 'tiny' on cpu holds NaN or infinity; its weights are damaged" in why


def test_a_prompted_network_that_gives_nan_says_so():
    with pytest.raises(CheckpointError, match=r"the image embedding by model 'tiny' .* NaN"):
        embed_image(nan_in("image_encoder"), squares())
    with pytest.raises(CheckpointError, match=r"the predicted IoU by model 'tiny' .* NaN"):
        generate_masks(nan_in("mask_decoder.iou_prediction_head"), squares((64, 64)))


def test_chunks_that_come_slowly_cost_nothing_but_time(tmp_path):
    image = zarr.create_array(tmp_path / "image.zarr", data=scene((150, 170)), chunks=(64, 64, 3))

    class Slow:
        shape, dtype = image.shape, image.dtype

        def __getitem__(self, key):
            time.sleep(0.02)
            return image[key]

    options = {"tiling": TILES, "model": tiny_model()}
    assert segment(tmp_path / "image.zarr", tmp_path / "whole.tif", **options).is_complete
    assert segment(Slow(), tmp_path / "slow.tif", **options).is_complete
    assert (tmp_path / "slow.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
