"""Training as one call: what is refused before it begins, what Ctrl-C keeps. Learning is tested with the loop."""

from __future__ import annotations

import pytest
import torch

from napari_sam.errors import ConfigError, OutputError, RunInterrupted, TrainingError
from napari_sam.training.config import TrainConfig
from napari_sam.training.loop import Trainer
from napari_sam.workflows import train
from workflows.workflows_scenes import tiny_checkpoint, write_pairs


@pytest.fixture
def job(tmp_path):
    """A folder of pairs, where the weights go, and a tiny network to begin with."""
    (tmp_path / "pairs").mkdir()
    write_pairs(tmp_path / "pairs", 2)
    start = tiny_checkpoint(tmp_path / "tiny.safetensors")
    return {"folder": tmp_path / "pairs", "output": tmp_path / "new.safetensors", "start_from": start}


def test_weights_have_one_format(job):
    with pytest.raises(OutputError, match=r"written as NAME.safetensors, got .*new.pth"):
        train(**job | {"output": job["output"].with_suffix(".pth")})


def test_a_folder_without_pairs_is_refused(job):
    with pytest.raises(TrainingError, match="is not a folder; expected one with"):
        train(**job | {"folder": job["folder"] / "none"})
    assert not job["output"].with_name("new.safetensors.run").exists()


def test_a_place_that_cannot_be_written_to_is_refused_before_the_training(job):
    with pytest.raises(OutputError, match="is a file, not a folder"):
        train(**job | {"output": job["start_from"] / "new.safetensors"})


def test_a_state_of_another_network_is_refused(job):
    folder = job["output"].with_name("new.safetensors.run")
    folder.mkdir()
    torch.save({"sam": {}}, folder / "state.pt")
    with pytest.raises(TrainingError, match=r"state.pt cannot be gone on with, being damaged, or of another network"):
        train(**job)
    (folder / "state.pt").write_bytes(b"rubbish")
    with pytest.raises(TrainingError, match=r"remove its folder to begin anew"):
        train(**job)


def test_ctrl_c_says_how_to_go_on(job, monkeypatch):
    def stopped(trainer):
        trainer.step = 7
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", stopped)
    with pytest.raises(RunInterrupted, match=r"stopped after 7 steps; what is learned is kept in .*safetensors.run"):
        train(**job)
    assert not job["output"].exists()


REFUSED = {
    "no time": ({"minutes": 0}, "minutes must be above 0, got 0"),
    "no steps": ({"steps": 0}, "steps must be at least 1, got 0; leave it out"),
    "no rate": ({"learning_rate": -1}, "learning_rate must be above 0"),
    "odd crops": ({"crop_px": 100}, "crop_px must be a multiple of 32, got 100"),
    "no crops": ({"crops": 0}, "crops must be at least 1, got 0"),
    "no rounds": ({"rounds": 0}, "rounds must be at least 1"),
}


@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED)
def test_settings_that_cannot_train_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**settings)
