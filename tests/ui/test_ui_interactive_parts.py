"""The parts of the interactive widget that need no window: places, marks, strokes, keys, texts, preferences."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image, Labels
from scipy import ndimage
from scipy.spatial.distance import cdist

from napari_sam.annotate.prompts import BoxPrompt, Click, MaskPrompt, Scribble
from napari_sam.errors import AnnotationError, ConfigError, ImageError, OutputError, PromptError
from napari_sam.geometry import Box, Mask
from napari_sam.ui.interactive import marks
from napari_sam.ui.interactive.placing import PlacedImage, guess_axes
from napari_sam.ui.interactive.session_control import TOOLS, SessionControl
from napari_sam.ui.interactive.shortcuts import SHORTCUTS, KeyBindings, as_key, forget_keys, read_keys, store_key
from napari_sam.ui.interactive.text import channels_of, mask_names
from napari_sam.workflows.annotating.drawn import (
    boxes_of_labels,
    boxes_of_shapes,
    cut_parts,
    prompt_of_stroke,
    stroke_mask,
)
from napari_sam.workflows.annotating.interactive import AnnotationSession, default_journal
from napari_sam.workflows.annotating.preferences import read_preference, write_preference

FRAME = (40, 60)
PLACES = {
    "as it is": {},
    "scaled and moved": {"scale": (2, 0.5, 0.25), "translate": (10, 3, 4)},
    "turned and sheared": {"rotate": np.array([[1, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]]), "scale": (2, 1, 3)},
    "with an affine": {"affine": [[1, 0, 0, 5], [0, 0, 2, 7], [0, -1, 0, 1], [0, 0, 0, 1]]},
}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_DATA", str(tmp_path / "data"))


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_new_layer_lies_on_the_pixels_it_was_placed_on(place):
    placed = PlacedImage(Image(np.zeros((4, 40, 60)), **place), "ZYX")
    layer = Labels(np.zeros((1, 5, 6), np.uint8), **placed.placement((2, 7, 9)))
    for corner in ((0, 0, 0), (0, 4, 5)):
        expected = placed.layer.data_to_world(np.add(corner, (2, 7, 9)))
        np.testing.assert_allclose(layer.data_to_world(corner), expected)
    coarse = Labels(np.zeros((1, 5, 6), np.uint8), **placed.placement((2, 8, 8), step=4))
    # The first coarse pixel covers 4 x 4 pixels, so its middle is 1.5 further.
    np.testing.assert_allclose(coarse.data_to_world((0, 0, 0)), placed.layer.data_to_world((2, 9.5, 9.5)))


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_world_position_is_found_in_its_plane_and_back(place):
    placed = PlacedImage(Image(np.zeros((4, 40, 60)), **place), "ZYX")
    plane, xy = placed.locate((99.0, *placed.layer.data_to_world((3, 11, 22))))
    assert plane == (3,)
    np.testing.assert_allclose(xy, (22, 11))
    np.testing.assert_allclose(placed.world_of(plane, xy), placed.layer.data_to_world((3, 11, 22)))


@pytest.mark.parametrize(("zoom", "scale", "step"), [(1, 1, 1), (0.25, 1, 4), (0.3, 1, 2), (8, 1, 1), (1, 0.25, 4)])
def test_the_view_step_is_the_power_of_two_that_the_screen_shows(zoom, scale, step):
    assert PlacedImage(Image(np.zeros(FRAME), scale=(scale, scale)), "YX").view_step(zoom) == step


def test_channels_come_before_all_and_labels_do_not_have_them():
    layer = Image(np.zeros((2, 4, 40, 60)), scale=(1, 2, 3, 4), axis_labels=("c", "z", "y", "x"))
    assert guess_axes(layer) == "CZYX"
    placed = PlacedImage(layer, "CZYX")
    assert placed.placement()["scale"].tolist() == [2, 3, 4]
    with pytest.raises(ImageError, match=r"are ZCYX, and napari needs CZYX"):
        PlacedImage(layer, "ZCYX")
    with pytest.raises(ImageError, match=r"must be 4 different letters of TCZYX with Y and X among them, got 'YX'"):
        PlacedImage(layer, "YX")


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((5, 6), "YX"),
        ((4, 5, 6), "ZYX"),
        ((3, 4, 5, 6), "TZYX"),
        ((40, 50, 2), "YXC"),
        ((9, 40, 50, 6), "ZYXC"),
        ((40, 50, 30), "ZYX"),
    ],
)
def test_axes_without_names_are_of_a_stack_or_film_or_end_with_a_few_channels(shape, axes):
    assert guess_axes(Image(np.zeros(shape), rgb=False)) == axes


@pytest.mark.parametrize(
    ("labels", "axes"),
    [(("z", "y", "x", "c"), "ZYXC"), (("time", "channel", "y", "x"), "TCYX"), (("a", "b", "y", "x"), "TZYX")],
    ids=["letters", "words", "unknown"],
)
def test_axes_that_a_layer_names_are_taken_in_any_order(labels, axes):
    assert guess_axes(Image(np.zeros((3, 40, 50, 60)), axis_labels=labels)) == axes


def test_strokes_become_the_prompt_of_the_tool():
    path = [(10.0, 5.0), (20.0, 5.0), (20.0, 15.0)]
    assert prompt_of_stroke("box", path, FRAME) == BoxPrompt((10.5, 5.5, 20.5, 15.5))
    assert prompt_of_stroke("scribble", path, FRAME, positive=False) == Scribble(tuple(path), False)
    lasso = prompt_of_stroke("lasso", path, FRAME)
    brush = prompt_of_stroke("brush", path, FRAME, brush_radius_px=2)
    assert isinstance(lasso, MaskPrompt)
    assert isinstance(brush, MaskPrompt)
    assert 50 <= lasso.mask.area <= 70
    assert brush.mask.to_array()[5, 15]
    assert prompt_of_stroke("box", path[:1], FRAME) == Click((10.0, 5.0))
    with pytest.raises(PromptError, match="outside the image; draw on the image"):
        stroke_mask([(-50, -50), (-40, -50)], 3, FRAME)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(-5, 65), st.floats(-5, 45)), min_size=1, max_size=5), st.floats(0.5, 6))
def test_a_stroke_covers_the_pixels_near_its_line_and_no_others(path, radius):
    points = np.array(path)
    dense = np.concatenate([np.linspace(a, b, 200) for a, b in pairwise(points)] or [points])
    y, x = np.mgrid[: FRAME[0], : FRAME[1]]
    distance = cdist(np.stack([x.ravel(), y.ravel()], axis=1), dense).min(axis=1).reshape(FRAME)
    try:
        found = stroke_mask(path, radius, FRAME).to_array()
    except PromptError:
        found = np.zeros(FRAME, bool)
    assert found[distance <= radius - 0.01].all()
    assert not found[distance > radius + 0.2].any()


@settings(deadline=None, max_examples=40)
@given(st.integers(8, 30), st.floats(0, 63), st.floats(0, 63))
def test_a_cut_gives_every_pixel_to_exactly_one_part(radius, xa, xb):
    y, x = np.mgrid[:64, :64]
    disc = Mask.from_array((y - 32) ** 2 + (x - 32) ** 2 <= radius**2)
    line = [(xa, -1), (xb, 65)]
    if ndimage.label(disc.to_array() & ~stroke_mask(line, 0.8, (64, 64)).to_array())[1] < 2:
        with pytest.raises(AnnotationError, match="draw it right across"):
            cut_parts(disc, line)
        return
    parts = cut_parts(disc, line)
    total = sum(part.to_array().astype(int) for part in parts)
    np.testing.assert_array_equal(total, disc.to_array())
    assert len(parts) >= 2
    assert parts[0].area == max(part.area for part in parts)


def test_boxes_of_shapes_and_labels_hold_their_pixels():
    corners = np.array([[2, 4, 9], [2, 4, 12], [2, 7, 12], [2, 7, 9]])
    assert list(boxes_of_shapes([corners])) == [((2,), (9.5, 4.5, 12.5, 7.5))]
    labels = np.zeros((10, 10), int)
    labels[2:4, 3:7], labels[8, 8] = 5, 900
    assert boxes_of_labels(labels) == [(3.0, 2.0, 7.0, 4.0), (8.0, 8.0, 9.0, 9.0)]
    assert boxes_of_labels(np.full((2, 3), 7)) == [(0.0, 0.0, 3.0, 2.0)]


def test_prompts_are_marked_green_and_red_in_the_axes_of_the_labels():
    box = BoxPrompt((3, 4, 8, 9))
    found = marks.marks_of((2,), [Click((5, 6)), Click((7, 8), False), box, Scribble(((1, 1), (2, 3)))])
    assert found.points == ((2, 6, 5), (2, 8, 7))
    assert found.colours == (marks.POSITIVE_COLOUR, marks.NEGATIVE_COLOUR)
    assert found.outline_types == ("rectangle", "path")
    assert found.outlines[0][0] == (2, 3.5, 2.5)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40), st.integers(1, 9)), min_size=1, max_size=4))
def test_a_stamp_shows_all_masks_where_they_are(places):
    previews = []
    expected = np.zeros((5, *FRAME), np.uint8)
    for i, (y, x, side) in enumerate(places):
        box = Box(x, y, x + side, y + side)
        mask = Mask.from_window(np.ones(box.size, bool), box, FRAME)
        previews.append(marks.Preview((i,), mask, 1 + i % 3))
        expected[i][box.slices] = 1 + i % 3
    stamp = marks.stamp(previews, FRAME, 3)
    z, y, x = (int(value) for value in stamp.origin)
    found = np.zeros_like(expected)
    d, h, w = stamp.pixels.shape
    found[z : z + d, y : y + h, x : x + w] = stamp.pixels
    np.testing.assert_array_equal(found, expected)


def test_a_stamp_of_a_huge_object_is_coarse_and_leaves_far_objects_out():
    frame = (20_000, 20_000)
    huge = Mask.from_window(np.ones((8000, 8000), bool), Box(0, 0, 8000, 8000), frame)
    small = Mask.from_window(np.ones((10, 10), bool), Box(19_000, 19_000, 19_010, 19_010), frame)
    stamp = marks.stamp([marks.Preview((), huge)], frame, 2)
    assert stamp.step == 4
    assert stamp.pixels.size <= 1 << 22
    near = marks.stamp([marks.Preview((), huge, marks.ASIDE), marks.Preview((), small)], frame, 2)
    assert (near.step, near.origin) == (1, (19_000, 19_000))


def test_the_keys_are_different_and_napari_understands_them():
    keys = [as_key(shortcut.key) for shortcut in SHORTCUTS]
    assert len(set(keys)) == len(keys)
    assert read_keys()["commit"] == "Enter"


def test_a_changed_key_lasts_and_a_taken_or_unknown_one_is_refused():
    assert store_key("commit", "F5")["commit"] == "F5"
    assert read_keys()["commit"] == "F5"
    with pytest.raises(ConfigError, match="N already means 'Put this object aside"):
        store_key("commit", "N")
    for wrong in ("", "Ctrl+", "Nose"):
        with pytest.raises(ConfigError, match="is no key; write it as"):
            store_key("commit", wrong)
    assert forget_keys()["commit"] == "Enter"


def test_bound_keys_give_back_what_was_there():
    class Holder:
        def __init__(self):
            self.keymap = {as_key("N"): "theirs"}

    acts: list[str] = []
    holder, keys = Holder(), KeyBindings(acts.append)
    keys.bind([holder, holder])
    holder.keymap[as_key("N")](holder)
    holder.keymap[as_key("Ctrl+Z")](holder)
    keys.rebind({"undo": "F2"})
    holder.keymap[as_key("F2")](holder)
    assert acts == ["next_object", "undo", "undo"]
    keys.release_all()
    assert holder.keymap == {as_key("N"): "theirs"}


def test_in_a_layer_that_is_painted_naparis_keys_win_but_for_undo(monkeypatch):
    acts: list[str] = []
    # napari binds its own keys when it opens a window.
    monkeypatch.setitem(Labels.class_keymap, as_key("Enter"), lambda layer: acts.append("napari's"))
    layer, keys = Labels(np.zeros((4, 4), int)), KeyBindings(acts.append)
    keys.bind([layer])
    layer.mode = "polygon"
    layer.keymap[as_key("Enter")](layer)
    layer.keymap[as_key("Ctrl+Z")](layer)
    assert acts == ["napari's", "undo"]
    layer.mode = "pan_zoom"
    layer.keymap[as_key("Enter")](layer)
    assert acts == ["napari's", "undo", "commit"]


def test_the_table_of_the_documentation_is_the_one_of_the_widget():
    text = (Path(__file__).resolve().parents[2] / "docs" / "interactive.md").read_text(encoding="utf-8")
    rows = dict(line.strip("| ").split(" | ", 1) for line in text.splitlines() if line.startswith("| "))
    assert {s.key: s.about.lower() for s in SHORTCUTS}.items() <= {k: v.lower() for k, v in rows.items()}.items()


def test_masks_are_named_by_size_and_channels_are_read():
    assert mask_names([10, 300, 50]) == ["subpart", "whole", "part"]
    assert mask_names([10]) == ["1"]
    assert channels_of("0, DAPI", "CYX") == (0, "DAPI")
    assert channels_of(" ", "YX") is None
    with pytest.raises(ImageError, match="the axes YX have no C"):
        channels_of("1", "YX")
    with pytest.raises(ImageError, match=r"at most three channels.*got 4"):
        channels_of("0,1,2,3", "CYX")


def test_the_journal_lies_beside_the_image_or_in_the_users_data(tmp_path):
    image = tmp_path / "slide.tif"
    image.touch()
    assert default_journal("slide", (5, 6), image) == tmp_path / "slide.tif.annotation.jsonl"
    assert default_journal("slide red", (5, 6), image) == tmp_path / "slide.tif.slide_red.annotation.jsonl"
    elsewhere = default_journal("a/b", (5, 6), None)
    assert elsewhere == tmp_path / "data" / "annotations" / "a_b-5x6.annotation.jsonl"


def test_preferences_outlive_a_damaged_file_and_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    assert read_preference("answer", 1) == 1
    write_preference("answer", 42)
    assert read_preference("answer") == 42
    (tmp_path / "data" / "preferences.json").write_text("{broken")
    assert read_preference("answer", 1) == 1
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAPARI_SAM_DATA", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"preferences cannot be written.*NAPARI_SAM_DATA"):
        write_preference("answer", 1)


@pytest.mark.parametrize("shortcut", SHORTCUTS, ids=lambda shortcut: shortcut.act)
def test_each_key_stands_for_something_that_can_be_done(shortcut):
    tool = shortcut.act.removeprefix("tool_")
    assert tool in TOOLS or callable(getattr(SessionControl, tool, None) or getattr(AnnotationSession, tool, None))
