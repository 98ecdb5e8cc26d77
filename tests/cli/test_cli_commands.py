"""The other commands, and the help of all of them."""

from __future__ import annotations

import importlib
import json
from dataclasses import fields
from types import ModuleType

import pytest
import tifffile

from napari_sam import __version__
from napari_sam.cli import main
from napari_sam.errors import DownloadError, NapariSamError
from napari_sam.predict import AutoMaskConfig
from napari_sam.tiling import TilingConfig
from napari_sam.training.config import DrawConfig, TrainConfig
from napari_sam.workflows import EvaluateConfig, SegmentConfig, doctor
from napari_sam.workflows.field_help import field_help
from workflows.workflows_scenes import squares, write_pairs

CONFIGS = {
    "segment": (AutoMaskConfig, TilingConfig, SegmentConfig),
    "evaluate": (AutoMaskConfig, EvaluateConfig),
    "train": (TrainConfig, DrawConfig),
}
NOT_A_FLAG = {"augment", "tasks"}


def squeezed(text):
    return "".join(text.split())


@pytest.mark.parametrize("command", CONFIGS)
def test_help_shows_every_setting_with_its_text(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    assert main([command, "--help"]) == 0
    told = capsys.readouterr().out
    for config in CONFIGS[command]:
        for field in fields(config):
            if field.name not in NOT_A_FLAG:
                assert f"--{field.name.replace('_', '-')} " in told
                assert squeezed(field_help(config)[field.name]) in squeezed(told)


def test_every_setting_of_a_config_has_a_text():
    for config in {config for configs in CONFIGS.values() for config in configs}:
        assert set(field_help(config)) == {field.name for field in fields(config)}


@pytest.mark.parametrize("name", ["evaluation", "predict", "tiling", "workflows"])
def test_lazy_packages_have_the_names_they_promise_and_no_others(name):
    package = importlib.import_module(f"napari_sam.{name}")
    for promised in package.__all__:
        assert not isinstance(getattr(package, promised), ModuleType), promised
    with pytest.raises(AttributeError, match=rf"module 'napari_sam.{name}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


@pytest.mark.parametrize("arguments", [[], ["--help"], ["models", "--help"], ["doctor", "--help"]])
def test_help_ends_with_0(arguments, capsys):
    assert main(arguments) == 0
    assert "Usage: napari-sam" in capsys.readouterr().out


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_an_unknown_command_ends_with_2_and_the_nearest_one(capsys):
    assert main(["segmnt"]) == 2
    assert 'Did you mean "segment"' in capsys.readouterr().err


def test_models_lists_what_there_is(capsys):
    assert main(["models", "list"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ("nano", "vit_b", "vit_l", "vit_h"))


def test_models_verify_tells_good_files_from_bad_names(capsys, monkeypatch, tmp_path):
    assert main(["models", "verify", "nano"]) == 0
    assert "ok     nano" in capsys.readouterr().out
    assert main(["models", "verify", "vit_bb"]) == 2
    assert "Did you mean vit_b" in capsys.readouterr().err


def test_a_download_that_does_not_come_ends_with_1(capsys, monkeypatch):
    def fail(name):
        raise DownloadError(f"{name} could not be fetched; try again later.")

    monkeypatch.setattr("napari_sam.workflows.models.download_checkpoint", fail)
    assert main(["models", "download", "vit_b"]) == 1
    assert "napari-sam: vit_b could not be fetched" in capsys.readouterr().err


def test_doctor_says_what_is_right_and_what_is_wrong(capsys, monkeypatch):
    code = main(["doctor"])
    told = capsys.readouterr().out
    assert "ok     built-in model: nano loads" in told
    assert code == ("WRONG" in told)

    def damaged(*_args, **_kwargs):
        raise NapariSamError("nano is damaged; install the package again.")

    monkeypatch.setattr(doctor, "load_model", damaged)
    assert main(["doctor"]) == 1
    assert "WRONG  built-in model: nano is damaged; install" in capsys.readouterr().out


def test_the_built_in_model_segments_without_any_option(place, capsys):
    tifffile.imwrite("squares.tif", squares((200, 200), step=50, side=24))
    assert main(["segment", "squares.tif", "-o", "out.tif"]) == 0
    assert tifffile.imread("out.tif").shape == (200, 200)
    assert "objects in out.tif" in capsys.readouterr().out


def test_evaluate_prints_figures_and_writes_them(place, capsys):
    (place / "pairs").mkdir()
    write_pairs(place / "pairs", 2)
    job = ["evaluate", "pairs", "--model", "tiny.safetensors", "--json", "f.json", "--max-objects", "1"]
    assert main([*job, "--tasks", "points,boxes,automatic,clicks", "--group-by", "tissue"]) == 0
    told = capsys.readouterr()
    assert "IoU after 1 click:" in told.out
    assert "all figures in f.json" in told.out
    assert "2/2" in told.err
    figures = json.loads((place / "f.json").read_text())
    assert {"model", "n_images", "points", "boxes", "automatic", "clicks", "groups"} <= set(figures)
    assert set(figures["groups"]) == {"lung", "skin"}
    assert main([*job, "--tasks", "texts"]) == 2
    assert "tasks must be of points, boxes, automatic, clicks, got texts" in capsys.readouterr().err
    assert main(["evaluate", "none"]) == 2
