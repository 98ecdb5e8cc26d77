"""The training loop on tiny networks: it learns, it saves, it goes on to the same weights."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from napari_sam.errors import TrainingError
from napari_sam.training import averaging
from training.training_scenes import CONFIG, NETWORKS, changed, make_trainer, weights

LONG = replace(CONFIG, steps=4, rounds=4, round_chance="all", log_every=1)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _averaged_in_every_step(monkeypatch):
    monkeypatch.setattr(averaging, "EMA_EVERY", 1)  # these trainings are shorter than the usual distance


def stop_at(step, how):
    """A progress function that interrupts after so many calls."""
    calls = []

    def progress(*_):
        calls.append(0)
        if len(calls) == step:
            how()

    return progress


def raise_interrupt():
    raise KeyboardInterrupt


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def test_training_lowers_the_losses_and_leaves_a_log(tmp_path):
    made = make_trainer(tmp_path, replace(CONFIG, steps=40, learning_rate=1e-2))
    before = weights(made.sam)
    seen = []
    made.progress = lambda minutes, total, values: seen.append(values["foreground"])
    made.run()
    assert made.step == 40
    assert len(changed(before, weights(made.sam))) > 0.9 * len(before)
    assert (tmp_path / "log.csv").read_text().startswith("step,minutes,offset")
    assert seen[-1] < 0.9


@pytest.mark.parametrize("stop", [raise_interrupt, press_ctrl_c], ids=["an error", "ctrl-c"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_an_interrupted_training_ends_with_the_very_weights_of_an_uninterrupted_one(tmp_path, kind, stop):
    straight = make_trainer(tmp_path / "straight", LONG, kind)
    expected = straight.run()
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "cut", LONG, kind, progress=stop_at(2, stop)).run()
    second = make_trainer(tmp_path / "cut", LONG, kind)
    assert second.resume()
    assert second.step == 2
    result = second.run()
    assert not changed(weights(expected), weights(result))
    assert not changed(weights(straight.sam), weights(second.sam))
    names = [{k: v for k, v in row.items() if k != "minutes"} for row in second.log.rows()]
    assert names == [{k: v for k, v in row.items() if k != "minutes"} for row in straight.log.rows()]


def test_a_training_goes_on_from_an_older_state_and_forgets_the_log_beyond_it(tmp_path):
    first = make_trainer(tmp_path, LONG)
    first.save()  # of step 0, as if the machine had gone down at step 4
    old = (tmp_path / "state.pt").read_bytes()
    expected = first.run()
    (tmp_path / "state.pt").write_bytes(old)
    second = make_trainer(tmp_path, LONG)
    second.resume()
    assert second.log.rows() == []
    assert not changed(weights(expected), weights(second.run()))
    assert [int(row["step"]) for row in second.log.rows()] == list(range(1, 5))


def test_crops_made_in_another_process_lead_to_the_same_weights(tmp_path):
    one = make_trainer(tmp_path / "one").run()
    other = make_trainer(tmp_path / "other", replace(CONFIG, workers=1)).run()
    assert not changed(weights(one), weights(other))


def die(rng):
    os._exit(1)


def test_a_death_of_the_process_that_makes_crops_is_told_with_what_to_do(tmp_path):
    made = make_trainer(tmp_path, replace(CONFIG, workers=1))
    made.draw = die
    with pytest.raises(TrainingError, match=r"has died\. If you call train in a script, put the call under `if __name"):
        made.run()


def test_without_a_saved_state_there_is_nothing_to_resume(tmp_path):
    assert not make_trainer(tmp_path).resume()


def test_a_state_of_other_trained_parts_is_refused(tmp_path):
    make_trainer(tmp_path).run()
    with pytest.raises(TrainingError, match=r"state.pt cannot be gone on with, .* of another network or other trained"):
        make_trainer(tmp_path, replace(CONFIG, freeze=("decoder",))).resume()


def batch_norms(encoder: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("kind", ["conv", "tiny_vit"])
def test_the_result_has_statistics_of_its_own_and_the_state_is_not_touched(tmp_path, kind):
    made = make_trainer(tmp_path, kind=kind)
    result = made.run()
    norms = batch_norms(result.image_encoder)
    for norm, trained in zip(norms, batch_norms(made.sam.image_encoder), strict=True):
        assert not torch.allclose(norm.running_mean, trained.running_mean, atol=1e-6)
        assert int(norm.num_batches_tracked) == CONFIG.frames // 4  # batches of four whole frames
        assert not norm.training
        assert norm.momentum == 0.1
    assert {int(norm.num_batches_tracked) for norm in batch_norms(made.averaged.image_encoder)} == {0}


def test_a_finished_training_is_not_trained_again(tmp_path):
    first = make_trainer(tmp_path)
    expected = first.run()
    second = make_trainer(tmp_path)
    second.resume()
    assert second.share == 1
    assert not changed(weights(expected), weights(second.run()))
    assert second.step == first.step


def test_a_whole_frame_network_is_taught_by_prompts_alone(tmp_path):
    made = make_trainer(tmp_path, kind="vit")
    before = weights(made.sam)
    made.run()
    assert "image_encoder.patch_embed.proj.weight" in changed(before, weights(made.sam))
    assert {row["offset"] for row in made.log.rows()} <= {""}


def test_bfloat16_is_used_when_asked_for(tmp_path):
    config = replace(CONFIG, rounds=3, round_chance="all")
    exact = make_trainer(tmp_path / "a", config).run()
    rounded = make_trainer(tmp_path / "b", replace(config, bf16=True)).run()
    assert changed(weights(exact), weights(rounded))
    assert all(torch.isfinite(value).all() for value in rounded.state_dict().values())


# -- validation ------------------------------------------------------------


class Judge:
    """Gives the scores it is told to, and keeps the weights it saw."""

    def __init__(self, *scores):
        self.scores = list(scores)
        self.seen = []

    def __call__(self, sam):
        self.seen.append(weights(sam))
        return {"one_click": 0.0, "box": 0.0, "score": self.scores[len(self.seen) - 1]}


def test_the_best_validated_weights_are_the_result(tmp_path):
    judge = Judge(0.2, 0.9, 0.5)
    made = make_trainer(tmp_path, replace(CONFIG, steps=6, validate_every=2), validate=judge)
    result = made.run()
    assert len(judge.seen) == 3
    assert not changed(judge.seen[1], weights(result))
    assert changed(judge.seen[2], weights(result))
    assert made.best == {"step": 4.0, "one_click": 0.0, "box": 0.0, "score": 0.9}
    assert [row["score"] for row in made.validations.rows()] == ["0.2", "0.9", "0.5"]


def test_weights_are_never_worse_than_those_judged_at_the_start(tmp_path):
    judge = Judge(0.7, 0.1)
    made = make_trainer(tmp_path, validate=judge)
    before = weights(made.sam)
    made.judge_start()
    assert not changed(before, weights(made.run()))
    assert made.best["step"] == 0


def test_a_resumed_training_remembers_the_best_weights(tmp_path):
    config = replace(CONFIG, steps=6, validate_every=2, log_every=1)
    first = make_trainer(tmp_path, config, validate=Judge(0.9), progress=stop_at(3, raise_interrupt))
    with pytest.raises(KeyboardInterrupt):
        first.run()
    second = make_trainer(tmp_path, config, validate=Judge(0.3, 0.4))
    second.resume()
    assert not changed(first.validate.seen[0], weights(second.run()))


def test_validation_does_not_change_the_training(tmp_path):
    config = replace(CONFIG, steps=6, validate_every=2)
    plain = make_trainer(tmp_path / "a", config)
    plain.run()
    judged = make_trainer(tmp_path / "b", config, validate=Judge(0.1, 0.2, 0.3))
    judged.run()
    assert not changed(weights(plain.sam), weights(judged.sam))


def test_validation_by_time_comes_when_its_minutes_have_passed(tmp_path):
    judge = Judge(*[0.1] * 9)
    make_trainer(tmp_path, replace(CONFIG, steps=5, validate_minutes=1e-9), validate=judge).run()
    assert len(judge.seen) == 5
