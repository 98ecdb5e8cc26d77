"""Fine-tuning as one call: any network, validation, held-out pairs, bad pairs, a plain checkpoint at the end."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_sam.errors import ConfigError, RunInterrupted, TrainingError
from napari_sam.model import VitConfig, build_sam, load_model, save_checkpoint
from napari_sam.training.config import TrainConfig
from napari_sam.training.draw import DrawConfig
from napari_sam.training.loop import Trainer
from napari_sam.workflows import train, training
from napari_sam.workflows.evaluating import validation
from workflows.workflows_scenes import TINY, tiny_checkpoint, tiny_model, write_pairs

QUICK = {"steps": 2, "crops": 2, "crop_px": 32, "prompts_per_crop": 2, "frames": 4}
QUICK |= {"workers": 0, "log_every": 1, "bf16": False}


@pytest.fixture
def job(tmp_path):
    """A folder of pairs, where the weights go, and a tiny network to begin with."""
    (tmp_path / "pairs").mkdir()
    write_pairs(tmp_path / "pairs", 3)
    start = tiny_checkpoint(tmp_path / "tiny.safetensors")
    place = {"folder": tmp_path / "pairs", "output": tmp_path / "new.safetensors", "start_from": start}
    return place | {"config": dict(QUICK), "device": "cpu"}


def seen_trainers(monkeypatch):
    """Trainers made by the call; none of them trains."""
    made = []

    def note(trainer):
        made.append(trainer)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", note)
    return made


def test_validation_on_held_out_pairs_is_recorded_and_drawn(job):
    train(**job, data={"val_share": 0.34, "val_objects": 2})
    folder = job["output"].with_name("new.safetensors.run")
    with (folder / "validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "2"]
    assert all(0 <= float(row[name]) <= 1 for row in rows for name in ("one_click", "box", "ap50", "msa", "score"))
    assert "validation" in (folder / "log.svg").read_text()
    model = load_model(job["output"], device="cpu")
    assert model.automatic_defaults["points_per_side"] == 3  # those of the model it began with
    assert all(np.isfinite(value.numpy()).all() for value in model.sam.state_dict().values())


def test_a_transformer_is_fine_tuned_with_low_rank_changes_to_a_plain_checkpoint(job, tmp_path):
    settings = replace(
        TINY,
        encoder=VitConfig(width=16, depth=2, heads=2, global_blocks=(1,), window_size=3),
        embedding_stride=16,
        has_proposals=False,
    )
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "vit.safetensors", build_sam(settings), settings)
    job |= {"start_from": tmp_path / "vit.safetensors", "config": QUICK | {"lora_rank": 2, "learning_rate": 0.01}}
    train(**job, val=job["folder"], data={"val_images": 1, "val_objects": 1})
    before, after = load_model(tmp_path / "vit.safetensors", "cpu"), load_model(job["output"], "cpu")
    assert after.config == settings
    assert before.sam.state_dict().keys() == after.sam.state_dict().keys()


def test_going_on_with_a_model_takes_small_steps_and_no_generated_images(job, monkeypatch):
    made = seen_trainers(monkeypatch)
    with pytest.raises(RunInterrupted):
        train(**job)
    assert made[0].config.learning_rate == 1e-4
    assert made[0].config.steps == 2
    assert made[0].config.freeze_norms
    assert made[0].draw._config.generated == 0


def test_a_new_network_takes_the_defaults_and_configs_are_used_as_they_are(job, monkeypatch):
    made = seen_trainers(monkeypatch)
    with pytest.raises(RunInterrupted):
        train(**job | {"start_from": None})
    with pytest.raises(RunInterrupted):
        train(**job | {"config": TrainConfig(learning_rate=0.5), "data": DrawConfig(generated=0.4)})
    assert made[0].config.learning_rate == TrainConfig().learning_rate
    assert made[0].draw._config.generated == DrawConfig().generated
    assert (made[1].config.learning_rate, made[1].draw._config.generated) == (0.5, 0.4)


def test_bad_pairs_stop_the_training_before_it_begins_unless_they_are_to_be_skipped(job, monkeypatch):
    (job["folder"] / "1.labels.png").unlink()
    with pytest.raises(TrainingError, match=r"1 of 3 pairs cannot be trained with:\n.*1\.image\.png has no labels"):
        train(**job)
    assert not job["output"].with_name("new.safetensors.run").exists()
    made, told = seen_trainers(monkeypatch), []
    with pytest.raises(RunInterrupted):
        train(**job, data={"skip_bad": True}, tell=told.append)
    assert len(made[0].draw._cache) == 2
    assert "1.image.png has no labels" in told[0]


def test_a_figure_that_is_not_measured_cannot_select():
    with pytest.raises(ConfigError, match="select_by = msa needs automatic masks"):
        validation.check_selection(TrainConfig(select_by="msa"), replace(TINY, has_proposals=False))


def test_a_device_that_is_not_there_is_refused(job):
    with pytest.raises(ConfigError, match="device 'cuda:77' is not on this machine"):
        train(**job | {"device": "cuda:77"})


def test_a_perfect_network_scores_one_on_every_figure(job, monkeypatch):
    truth = {}

    def objects(model, image, labels, **_):
        return [type("Score", (), {"clicks": (1.0,), "box": 1.0})() for label in np.unique(labels[labels > 0])]

    monkeypatch.setattr(validation, "iter_object_scores", objects)
    monkeypatch.setattr(validation, "segment_array", lambda image, model, automatic: truth["labels"])
    real = validation._sample_of
    monkeypatch.setattr(validation, "_sample_of", lambda pair: truth.setdefault("sample", real(pair)))
    pairs = training.find_pairs(job["folder"])[:1]
    truth["labels"] = real(pairs[0]).labels
    validate = validation.make_validator(pairs, TINY, {}, DrawConfig())
    assert validate(tiny_model().sam) == dict.fromkeys(("one_click", "box", "ap50", "msa", "score"), 1.0)


def test_only_the_middle_of_a_large_image_is_judged(job, monkeypatch):
    monkeypatch.setattr(validation, "WINDOW_PX", 32)
    pair = training.find_pairs(job["folder"])[0]
    whole = training.find_pairs(job["folder"])[0]
    assert validation._sample_of(pair).labels.shape == (32, 32)
    monkeypatch.undo()
    assert validation._sample_of(whole).labels.shape == (64, 64)
