"""Measuring a model on a folder: the figures' names, groups, and folders that cannot be used."""

from __future__ import annotations

import json
import math

import pytest

import napari_sam
from napari_sam.errors import ConfigError, OutputError, TrainingError
from napari_sam.workflows import EvaluateConfig
from workflows.workflows_scenes import stand_in, tiny_model, write_pairs


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path)


def test_figures_have_the_published_names_and_ranges(pairs):
    config = EvaluateConfig(tasks=("points", "boxes", "automatic", "clicks"), max_objects=2)
    report = napari_sam.evaluate(pairs, model=tiny_model(), config=config)
    path = report.write_json(pairs / "new" / "figures.json")
    figures = json.loads(path.read_text())
    assert set(figures) == {
        *("model", "n_images", "n_objects", "points", "boxes", "automatic", "clicks", "groups"),
        *("skipped", "settings", "version"),
    }
    assert (figures["model"], figures["n_images"], figures["groups"]) == ("tiny", 3, {})
    assert list(figures["points"]) == ["1", "2", "3", "5", "9"]
    assert {"miou", "miou_oracle", "ci95", "miou_random", "ci95_random"} <= set(figures["points"]["1"])
    assert 0 <= figures["points"]["1"]["miou"] <= figures["points"]["1"]["miou_oracle"] <= 1
    assert 0 <= figures["boxes"]["miou"] <= 1
    assert 0 <= figures["boxes"]["miou_noised"] <= 1
    assert {"ap", "msa", "f1", "pq", "precision", "recall", "count_error", "seconds_per_megapixel"} <= set(
        figures["automatic"]
    )
    assert {"0.50", "0.75", "0.95"} <= set(figures["automatic"]["ap"])
    assert math.isfinite(figures["automatic"]["seconds_per_megapixel"])
    assert {"noc85", "noc90"} <= set(figures["clicks"])
    assert 1 <= figures["clicks"]["noc85"] <= figures["clicks"]["noc90"] <= 20


def test_a_perfect_segmentation_has_perfect_figures(pairs, monkeypatch):
    stand_in(monkeypatch)
    report = napari_sam.evaluate(pairs, model=tiny_model(), config=EvaluateConfig(tasks=("automatic",)))
    automatic = report.figures["automatic"]
    assert automatic["ap"]["0.95"] == automatic["msa"] == automatic["f1"] == automatic["pq"] == 1
    assert report.figures["points"] == report.figures["boxes"] == report.figures["clicks"] == {}
    assert "AP at IoU 0.50: 1.000 (1.000 to 1.000)" in report.as_text()


def test_figures_are_given_for_each_group_of_the_manifest(pairs, monkeypatch):
    stand_in(monkeypatch)
    config = EvaluateConfig(tasks=("automatic",), group_by="tissue")
    figures = napari_sam.evaluate(pairs, model=tiny_model(), config=config).figures
    assert set(figures["groups"]) == {"lung", "skin"}
    assert figures["groups"]["lung"]["automatic"]["f1"] == 1
    assert [figures["groups"][name]["n_images"] for name in ("lung", "skin")] == [1, 2]


def test_a_part_of_the_images_can_be_judged(pairs, monkeypatch):
    stand_in(monkeypatch)
    told = []
    config = EvaluateConfig(tasks=("automatic",), max_images=2)
    report = napari_sam.evaluate(pairs, model=tiny_model(), config=config, progress=lambda *at: told.append(at))
    assert [image.name for image in report.images] == ["0", "2"]
    assert told == [("images", 0, 2), ("images", 1, 2), ("images", 2, 2)]


REFUSED = {
    "an unknown task": ({"tasks": ("points", "texts")}, "tasks must be of points, boxes.*got texts"),
    "no task": ({"tasks": ()}, "tasks must be of points.*got none"),
    "no image": ({"max_images": 0}, "max_images must be at least 1, got 0"),
    "a negative seed": ({"seed": -1}, "seed must be at least 0, got -1"),
    "less than no draws": ({"random_draws": -2}, "random_draws must be at least 0, got -2"),
    "no object": ({"max_objects": -1}, "max_objects must be at least 1, got -1"),
}


@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED)
def test_settings_that_measure_nothing_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        EvaluateConfig(**settings)


def test_a_column_that_is_not_there_is_refused_with_those_that_are(pairs):
    config = EvaluateConfig(group_by="organ")
    with pytest.raises(ConfigError, match=r"manifest.csv has no column 'organ'; it has file, tissue"):
        napari_sam.evaluate(pairs, model=tiny_model(), config=config)
    (pairs / "manifest.csv").unlink()
    with pytest.raises(ConfigError, match=r"group_by = 'organ' needs a manifest.csv in .*'dataset' groups by folder"):
        napari_sam.evaluate(pairs, model=tiny_model(), config=config)


def test_folders_that_cannot_be_used_are_named(pairs, tmp_path_factory):
    with pytest.raises(TrainingError, match="none is not a folder"):
        napari_sam.evaluate(pairs / "none", model=tiny_model())
    with pytest.raises(TrainingError, match="holds no image-label pairs"):
        napari_sam.evaluate(tmp_path_factory.mktemp("empty"), model=tiny_model())


def test_figures_that_cannot_be_written_are_an_error_about_the_place(pairs, monkeypatch):
    stand_in(monkeypatch)
    report = napari_sam.evaluate(pairs, model=tiny_model(), config=EvaluateConfig(tasks=("automatic",)))
    with pytest.raises(OutputError, match=r"cannot write .*manifest.csv/f.json.*is a file, not a folder"):
        report.write_json(pairs / "manifest.csv" / "f.json")
