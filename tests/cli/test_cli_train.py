"""`napari-sam train`: its flags reach the training, and its messages the user."""

from __future__ import annotations

import numpy as np

from napari_sam import load_model
from napari_sam.cli import main
from workflows.workflows_scenes import write_pairs

QUICK = ["--crops", "2", "--crop-px", "32", "--workers", "0", "--threads", "1", "--device", "cpu", "--no-bf16"]


def test_train_writes_weights_that_load_and_goes_on(place, capsys):
    (place / "pairs").mkdir()
    write_pairs(place / "pairs", 2)
    job = ["train", "pairs", "--out", "new.safetensors", "--from", "tiny.safetensors", *QUICK]
    job += [
        "--val",
        "pairs",
        "--val-images",
        "1",
        "--val-objects",
        "1",
        "--freeze",
        "prompt_encoder",
        "--log-every",
        "1",
    ]
    assert main([*job, "--steps", "2"]) == 0
    told = capsys.readouterr()
    assert "weights in new.safetensors, log in " in told.out
    assert "mask1" in told.err
    folder = place / "new.safetensors.run"
    assert {"state.pt", "best.pt", "log.csv", "log.svg", "validation.csv"} == {path.name for path in folder.iterdir()}
    model = load_model(place / "new.safetensors")
    assert model.automatic_defaults["points_per_side"] == 3  # those of the model it began with
    assert all(np.isfinite(value.numpy()).all() for value in model.sam.state_dict().values())


def test_train_names_bad_pairs_and_skips_them_if_asked(place, capsys):
    (place / "pairs").mkdir()
    write_pairs(place / "pairs", 2)
    (place / "pairs" / "0.labels.png").unlink()
    job = ["train", "pairs", "--out", "new.safetensors", "--from", "tiny.safetensors", *QUICK, "--steps", "1"]
    assert main(job) == 2
    assert "0.image.png has no labels" in capsys.readouterr().err
    assert main([*job, "--skip-bad"]) == 0
    assert "left out: " in capsys.readouterr().err


def test_train_refuses_what_cannot_be_trained(place, capsys):
    assert main(["train", "pairs", "--out", "new.pth"]) == 2
    assert "written as NAME.safetensors, got new.pth" in capsys.readouterr().err
    assert main(["train", "pairs", "--out", "new.safetensors", "--steps", "0"]) == 2
    assert "steps must be at least 1, got 0" in capsys.readouterr().err
    assert main(["train", "pairs", "--out", "new.safetensors", "--freeze", "head"]) == 2
