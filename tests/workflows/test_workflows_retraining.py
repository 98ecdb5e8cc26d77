"""Retraining on what was verified: what teaches, what judges, what is background; a tiny network, two steps."""

from __future__ import annotations

import json
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest

from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.review import Place
from napari_sam.annotate.session import AnnotationSession
from napari_sam.errors import ConfigError, OutputError, RunInterrupted, TrainingError
from napari_sam.geometry import Box, Mask
from napari_sam.model import load_model
from napari_sam.model.own_models import own_models
from napari_sam.training.data import find_pairs, read_pair
from napari_sam.workflows.annotating.retraining import Judgement, RetrainConfig, Retrained, new_model_path, retrain
from napari_sam.workflows.annotating.session_pairs import verified_of, write_session_pairs
from napari_sam.workflows.annotating.verified import Window, divide, is_exhaustive, read_window, teach_all, write_pairs
from napari_sam.workflows.training import train
from workflows.workflows_scenes import squares, tiny_checkpoint

QUICK = {"steps": 2, "crops": 2, "crop_px": 32, "prompts_per_crop": 2, "log_every": 1, "bf16": False}
SIZE, STEP = 128, 32
FRAME = 64
"""Side of the tiny network's frame: the image is 2 x 2 of them, with 16 squares."""


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NAPARI_SAM_DATA", str(tmp_path / "data"))


@pytest.fixture
def session(tmp_path):
    """All squares prefilled; the labels go row by row."""
    image = squares((SIZE, SIZE))
    masks = []
    for y in range(8, SIZE, STEP):
        for x in range(8, SIZE, STEP):
            window = Box(x, y, x + 16, y + 16)
            masks.append(Mask.from_window(np.ones((16, 16), bool), window, (SIZE, SIZE), predicted_iou=0.8))
    opened = AnnotationSession(AnnotatedImage.open(image), tmp_path / "squares.annotation.jsonl")
    opened.prefill(masks)
    yield opened
    opened.close()


def accept(session, labels=range(1, 17)):
    for label in labels:
        session.review(label, "accepted")


def whole():
    return (Place((), Box(0, 0, SIZE, SIZE)),)


def test_a_retraining_makes_a_model_that_is_judged_registered_and_usable(session, tmp_path):
    accept(session)
    start, output, told = tiny_checkpoint(tmp_path / "tiny.safetensors"), tmp_path / "new.safetensors", []
    made = retrain(
        session,
        output,
        model=start,
        config={"training": QUICK, "held_back": 0.25},
        device="cpu",
        progress=lambda stage, done, total: told.append(stage),
    )
    assert made.path == output
    assert made.before.objects == made.after.objects == 16 - made.taught >= 4
    assert all(0 <= value <= 1 for j in (made.before, made.after) for value in (j.one_click, j.box))
    assert list(dict.fromkeys(told)) == ["before", "training", "after"]
    assert [own.path for own in own_models()] == [str(output)]
    assert load_model(output, "cpu").config == load_model(start, "cpu").config
    report = json.loads(output.with_suffix(".json").read_text())
    assert report["taught"] == made.taught
    assert report["config"]["training"]["steps"] == 2
    assert not output.with_name("new.safetensors.run").exists()
    low, high = made.one_click_gain
    assert low <= made.after.one_click - made.before.one_click <= high


def test_a_stopped_retraining_keeps_what_is_learned_and_goes_on_there(session, tmp_path):
    accept(session)
    start, output = tiny_checkpoint(tmp_path / "tiny.safetensors"), tmp_path / "new.safetensors"
    job = {"model": start, "config": {"training": QUICK | {"steps": 4}}, "device": "cpu", "register": False}
    seen = []

    def stop_after_two_rows():
        return sum(stage == "training" for stage in seen) >= 2

    def note(stage, done, total):
        seen.append(stage)

    with pytest.raises(RunInterrupted, match="what is learned is kept"):
        retrain(session, output, **job, progress=note, should_stop=stop_after_two_rows)
    assert not output.exists()
    folder = output.with_name("new.safetensors.run")
    assert (folder / "model.safetensors.run" / "state.pt").is_file()
    seen.clear()
    journal = session.journal
    session.close()
    made = retrain(verified_of(journal, session.image), output, **job, progress=note)
    assert sum(stage == "training" for stage in seen) == 2  # of four steps two were left
    assert made.path.is_file()
    assert own_models() == ()


def test_a_journal_teaches_the_same_as_its_session(session):
    accept(session, range(1, 9))
    from_journal = verified_of(session.journal, session.image)
    assert from_journal.digest == verified_of(session).digest
    assert from_journal.good == frozenset(range(1, 9))
    session.review(9, "accepted")
    assert verified_of(session).digest != from_journal.digest


@pytest.fixture
def journal(tmp_path):
    """A session on an image that is a file: objects 1 to 8 were accepted, and it is closed."""
    path = tmp_path / "squares.png"
    path.write_bytes(imagecodecs.png_encode(squares((SIZE, SIZE))))
    opened = AnnotationSession(AnnotatedImage.open(path), tmp_path / "file.annotation.jsonl")
    window = [Box(x, y, x + 16, y + 16) for y in range(8, SIZE, STEP) for x in range(8, SIZE, STEP)]
    opened.prefill([Mask.from_window(np.ones((16, 16), bool), box, (SIZE, SIZE), predicted_iou=0.8) for box in window])
    accept(opened, range(1, 9))
    opened.close()
    return tmp_path / "file.annotation.jsonl"


def test_a_journal_becomes_pairs_with_all_that_is_verified_and_nothing_else(journal, tmp_path):
    assert write_session_pairs(journal, tmp_path / "pairs", FRAME) == ("sparse",)
    assert sum(int(pair.labels.max()) for pair in map(read_pair, find_pairs(tmp_path / "pairs"))) >= 8
    seen = [(pair.image[..., 0] > 100, pair.labels > 0) for pair in map(read_pair, find_pairs(tmp_path / "pairs"))]
    assert all((labelled <= bright).all() for bright, labelled in seen)
    assert any((bright & ~labelled).any() for bright, labelled in seen), "squares that nobody accepted teach nothing"


def test_a_network_is_trained_from_a_journal(journal, tmp_path):
    start = tiny_checkpoint(tmp_path / "tiny.safetensors")
    made = train(journal, tmp_path / "new.safetensors", start_from=start, config=QUICK | {"workers": 0}, device="cpu")
    assert load_model(made, "cpu").fingerprint != load_model(start, "cpu").fingerprint
    assert list((tmp_path / "new.safetensors.run" / "pairs" / "sparse").glob("*.labels.png"))


def test_a_journal_in_which_nothing_is_verified_is_refused(session, tmp_path):
    with pytest.raises(TrainingError, match="no object of this session is verified; commit some, or accept some"):
        teach_all(verified_of(session), FRAME)


def test_accepted_and_fixed_objects_teach_and_so_do_those_made_by_hand(session):
    session.review(1, "accepted")
    session.review(2, "fixed")
    session.review(3, "rejected")
    session.labels[60:64, 60:64] = 40
    session.record_painting()
    assert verified_of(session).good == {1, 2, 40}


def test_objects_held_back_are_never_shown_as_truth_and_everyone_is_on_one_side(session, tmp_path):
    accept(session)
    verified = verified_of(session, complete=whole())
    division = divide(verified, FRAME, held_back=0.25, seed=0)
    judge = {label for window in division.judge for label in window.labels}
    teach = {label for window in division.teach for label in window.labels}
    assert judge | teach == set(range(1, 17))
    assert not judge & teach
    assert division.n_teach == len(teach)
    counts = write_pairs(verified, division, tmp_path / "pairs")
    assert sum(counts.values()) == len(division.teach)
    held = np.isin(np.asarray(session.labels), sorted(judge))
    for window in division.teach:
        assert window.box.size == (FRAME, FRAME)
        _, labels = read_window(verified, (), window.box, verified.good - division.held_back)
        assert not labels[held[window.box.slices]].any()
    images = sorted((tmp_path / "pairs").rglob("*.image.png"))
    assert imagecodecs.png_decode(images[0].read_bytes()).shape == (FRAME, FRAME, 3)


def test_the_same_objects_are_held_back_every_time_and_another_seed_takes_others(session):
    accept(session)
    verified = verified_of(session)
    splits = [divide(verified, FRAME, held_back=0.3, seed=seed).held_back for seed in (0, 0, 1, 2, 3)]
    assert splits[0] == splits[1]
    assert len(set(splits)) > 1


def test_a_window_is_exhaustive_only_where_all_was_looked_at(session):
    accept(session)
    quarter = Window((), Box(0, 0, FRAME, FRAME), (1, 2, 5, 6))
    assert is_exhaustive(verified_of(session, complete=whole()), quarter, ())
    assert not is_exhaustive(verified_of(session), quarter, ())
    halves = (Place((), Box(0, 0, 30, SIZE)), Place((), Box(30, 0, SIZE, SIZE)))
    assert is_exhaustive(verified_of(session, complete=halves), quarter, ())
    assert not is_exhaustive(verified_of(session, complete=halves[:1]), quarter, ())
    assert not is_exhaustive(verified_of(session, complete=whole()), quarter, (5,))
    assert is_exhaustive(verified_of(session, complete=whole()), quarter, (16,))
    session.review(2, "rejected")
    assert not is_exhaustive(verified_of(session, complete=whole()), quarter, ())
    session.delete([2])
    assert is_exhaustive(verified_of(session, complete=whole()), quarter, ())
    session.review(6, None)
    assert not is_exhaustive(verified_of(session, complete=whole()), quarter, ())


def test_too_little_is_said_with_how_much_is_usual(session, tmp_path):
    start = tiny_checkpoint(tmp_path / "tiny.safetensors")
    accept(session, [1, 2, 3])
    with pytest.raises(TrainingError, match=r"3 objects are verified, and training needs 5 at least.*Twenty or more"):
        retrain(session, tmp_path / "new.safetensors", model=start, device="cpu")
    with AnnotationSession(AnnotatedImage.open(np.zeros((64, 64), np.uint8))) as narrow:
        narrow.prefill([Mask.from_window(np.ones((1, 1), bool), Box(i, 0, i + 1, 1), (64, 64)) for i in range(6)])
        accept(narrow, range(1, 7))
        with pytest.raises(TrainingError, match="all 6 verified objects lie in one place"):
            divide(verified_of(narrow), 64, held_back=0.2, seed=0)


def test_names_and_settings_that_cannot_be_are_refused(session, tmp_path):
    with pytest.raises(OutputError, match=r"written as NAME\.safetensors, got .*new\.pth"):
        retrain(session, tmp_path / "new.pth")
    (tmp_path / "new.safetensors").touch()
    with pytest.raises(OutputError, match="already exists; choose another name"):
        retrain(session, tmp_path / "new.safetensors")
    with pytest.raises(ConfigError, match=r"held_back must lie in \(0, 1\), got 1"):
        RetrainConfig(held_back=1)
    with pytest.raises(ConfigError, match="minutes and judged must be above 0, got 0 and 60"):
        RetrainConfig(minutes=0)


def test_a_new_model_gets_a_free_name_that_says_what_it_is(tmp_path):
    first = new_model_path("/models/nano.safetensors", "my image.ome.tif")
    assert first == tmp_path / "data" / "models" / "nano-my_image.safetensors"
    first.parent.mkdir(parents=True)
    first.touch()
    assert new_model_path("nano", "my image.ome.tif").name == "nano-my_image-2.safetensors"


def test_better_means_better_on_both_figures_together(tmp_path):
    before = Judgement(0.7, 0.8, 9)
    made = Retrained(tmp_path, before, replace(before, one_click=0.75, box=0.78), None, 5, {})
    assert made.is_better
    assert not replace(made, after=before).is_better
