"""`napari-sam text`, with a model that sees colours in the place of CLIP."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_sam.cli import EXIT_REFUSED, main
from napari_sam.export import read_table
from napari_sam.workflows.experiments import text_masks
from predict.predict_clip import ColourClip

TEXT = ["text", "colours.tif", "red", "-o", "out.tif", "--objects", "objects.tif"]
RIVALS = ["--against", "green", "--against", "blue", "--templates", "{}"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder: a red, a green and a blue stripe, labelled 1, 2 and 3; `clip` loads the colour model."""
    monkeypatch.chdir(tmp_path)
    pixels = np.repeat(np.repeat(200 * np.eye(3, dtype=np.uint8)[None], 12, axis=0), 8, axis=1)
    tifffile.imwrite("colours.tif", pixels, photometric="rgb")
    tifffile.imwrite("objects.tif", np.repeat([[1, 2, 3]], 12, axis=0).repeat(8, axis=1).astype(np.uint16))
    monkeypatch.setattr(text_masks, "load_clip", lambda folder, device: ColourClip())
    return tmp_path


@pytest.mark.usefixtures("place")
def test_the_objects_of_a_text_are_written_with_their_scores(capsys):
    assert main([*TEXT, "--clip", "clip", *RIVALS, "--crop-margin", "1", "--table", "out.csv"]) == 0
    told = capsys.readouterr()
    assert told.out == "1 of 3 objects in out.tif\n"
    assert "3/3" in told.err
    assert np.unique(tifffile.imread("out.tif")).tolist() == [0, 1]
    assert read_table("out.csv")["text_score"][0] > 0.5


@pytest.mark.usefixtures("place")
def test_points_put_an_object_in_and_take_one_out(capsys):
    points = ["--point", "20", "5", "--not-point", "3", "3"]
    assert main([*TEXT, "--clip", "clip", *RIVALS, *points]) == 0
    assert capsys.readouterr().out == "1 of 3 objects in out.tif\n"
    assert np.unique(tifffile.imread("out.tif")).tolist() == [0, 3]


def test_a_folder_without_a_clip_model_is_refused_and_nothing_written(place, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert main([*TEXT, "--clip", "nowhere"]) == EXIT_REFUSED
    assert "nowhere is no folder of a CLIP model" in capsys.readouterr().err
    assert not (place / "out.tif").exists()
