"""Text to objects: of coloured squares in a tiled image, those of the colour that is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_sam.errors import OutputError, PromptError
from napari_sam.export import read_table, write_label_tiff
from napari_sam.geometry import Box, Mask
from napari_sam.images import open_image
from napari_sam.predict.text import TextConfig
from napari_sam.tiling.objects import MergedObjects
from napari_sam.workflows.experiments import text_masks
from napari_sam.workflows.experiments.text_masks import SCORE_COLUMN, all_objects_path, segment_by_text
from predict.predict_clip import ColourClip
from workflows.workflows_scenes import KEEP_ALL, tiny_checkpoint

SIZE = (60, 90)
COLOURS = {1: (250, 0, 0), 2: (0, 250, 0), 3: (250, 0, 0), 4: (0, 0, 250)}
CORNERS = {1: (5, 5), 2: (40, 5), 3: (70, 40), 4: (10, 40)}
CONFIG = TextConfig(against=("green", "blue"), templates=("{}",), crop_margin=1.0)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder: `image.tif` with four squares, `objects.tif` with their labels, and a larger one around 1."""
    monkeypatch.chdir(tmp_path)
    pixels = np.zeros((*SIZE, 3), np.uint8)
    masks = []
    for label, (x, y) in CORNERS.items():
        box = Box(x, y, x + 10, y + 10)
        pixels[box.slices] = COLOURS[label]
        masks.append(Mask.from_window(np.ones((10, 10), bool), box, SIZE))
    tifffile.imwrite("image.tif", pixels, photometric="rgb")
    write_label_tiff(MergedObjects.from_masks(masks, SIZE), "objects.tif")
    return tmp_path


def found(**told):
    """Labels that are kept of a question with these settings."""
    settings = {"text": "red", "clip": ColourClip(), "objects": "objects.tif", "config": CONFIG, **told}
    segment_by_text("image.tif", settings.pop("text"), "out.tif", **settings)
    return sorted(np.unique(tifffile.imread("out.tif")).tolist())[1:]


@pytest.mark.usefixtures("place")
def test_objects_of_the_colour_that_is_asked_for_are_kept_with_their_labels():
    assert found() == [1, 3]
    np.testing.assert_array_equal(tifffile.imread("out.tif") == 3, tifffile.imread("objects.tif") == 3)


@pytest.mark.usefixtures("place")
def test_the_table_says_how_well_each_fits():
    found(table="out.csv")
    columns = read_table("out.csv")
    np.testing.assert_array_equal(columns["label"], [1, 3])
    assert (columns[SCORE_COLUMN] > 0.9).all()


@pytest.mark.usefixtures("place")
def test_a_point_keeps_its_object_whatever_its_score_and_another_drops_one():
    assert found(points_xy=[[45, 9], [70, 40]], point_labels=[1, 0]) == [1, 2]


@pytest.mark.usefixtures("place")
def test_of_nested_objects_a_point_keeps_the_one_that_fits_best():
    inner = Mask.from_window(np.ones((10, 10), bool), Box(5, 5, 15, 15), SIZE)
    outer = Mask.from_window(np.ones((30, 40), bool), Box(2, 2, 42, 32), SIZE)
    objects = MergedObjects.from_masks([outer, inner], SIZE)
    plane = open_image("image.tif").plane()
    scorer = text_masks.TextScorer(ColourClip(), "red", CONFIG)
    scores = text_masks.score_objects(objects, plane, scorer)
    kept = text_masks.choose_objects(objects, scores, 0.0, np.array([[8.0, 8.0]]), np.array([1]))
    assert kept.tolist() == [1]


@pytest.mark.usefixtures("place")
def test_a_text_that_nothing_fits_gives_an_empty_label_image():
    assert found(text="green blue", table="out.csv") == []
    assert len(read_table("out.csv")["label"]) == 0


@pytest.mark.usefixtures("place")
def test_a_large_object_is_shown_reduced(monkeypatch):
    seen = []
    clip = ColourClip()
    plain = clip.embed_images
    clip.embed_images = lambda images: seen.extend(image.shape for image in images) or plain(images)
    monkeypatch.setattr(text_masks, "_LARGEST_CROP_PX", 4)
    assert found(clip=clip) == [1, 3]
    assert set(seen) == {(3, 3, 3)}


def test_objects_are_found_first_and_again_for_another_text(place):
    tiny_checkpoint(place / "tiny.safetensors")
    told = {"clip": ColourClip(), "model": "tiny.safetensors", "automatic": KEEP_ALL, "device": "cpu", "config": CONFIG}
    first = segment_by_text("image.tif", "red", "a.ome.zarr", **told)
    assert all_objects_path(first.labels).name == "a.all.ome.zarr"
    assert (place / "a.all.ome.zarr").is_dir()
    assert first.considered >= len(first.scores)
    every = TextConfig(text_thresh=-1, against=())
    again = segment_by_text("image.tif", "blue", "b.tif", **{**told, "objects": "a.all.ome.zarr", "config": every})
    assert again.considered == len(again.scores) == len(np.unique(tifffile.imread("b.tif"))) - 1


@pytest.mark.parametrize(
    ("told", "error", "message"),
    [
        ({"points_xy": [[0, 0]]}, PromptError, r"there is no object at the point \(0, 0\)"),
        ({"points_xy": [1, 2]}, PromptError, r"points must have shape \(N, 2\).*got \(2,\)"),
        ({"points_xy": [[1, 2]], "point_labels": [2]}, PromptError, r"point_labels must be 1 values"),
        ({"text": ""}, PromptError, "the text is empty"),
        ({"table": "out.txt"}, OutputError, "a table ends in"),
        ({"objects": "small.tif"}, PromptError, r"the objects lie in an image of \(5, 5\)"),
    ],
    ids=["point beside", "points' shape", "point's label", "no text", "table's name", "other image"],
)
def test_what_cannot_be_asked_is_refused_and_nothing_is_written(told, error, message, place):
    tifffile.imwrite("small.tif", np.zeros((5, 5), np.uint8))
    before = sorted(place.iterdir())
    with pytest.raises(error, match=message):
        found(**told)
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize(
    ("output", "message"), [("objects.tif", "already exists"), ("a.png", r"must be NAME\.ome\.zarr or NAME\.tif")]
)
@pytest.mark.usefixtures("place")
def test_an_output_that_is_taken_or_ends_otherwise_is_refused(output, message):
    with pytest.raises(OutputError, match=message):
        segment_by_text("image.tif", "red", output, clip=ColourClip(), objects="objects.tif")
