"""Following a run: the preview shows what tiles found, failed tiles are named, and nothing disturbs the run."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.errors import ImageError
from napari_sam.geometry import Box, Tile
from napari_sam.images import open_image, read_roi
from napari_sam.tiling.watch import in_order
from napari_sam.workflows import preview, segment
from napari_sam.workflows.file_layers import read_viewable
from napari_sam.workflows.recommended import recommended_settings
from napari_sam.workflows.region import write_region
from napari_sam.workflows.watching import RunFollower
from tiling import tiling_synthetic as synthetic
from workflows.workflows_scenes import TILES, StandIn, digest, scene, stand_in, tiny_model


class Notes:
    """What a follower told."""

    def __init__(self) -> None:
        self.levels: list = []
        self.painted = 0
        self.failed: dict = {}
        self.follower = RunFollower(self.opened, self.paint, self.failed.__setitem__)

    def opened(self, levels) -> None:
        self.levels = levels

    def paint(self) -> None:
        self.painted += 1


def follow(output, notes, image=None):
    watch = notes.follower.as_watch()
    return segment(scene() if image is None else image, output, tiny_model(), tiling=TILES, watch=watch)


@pytest.fixture
def model(monkeypatch) -> StandIn:
    return stand_in(monkeypatch)


@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "on the disk"])
def test_the_preview_shows_every_tile_at_every_level(model, tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(preview, "IN_MEMORY_PX", 10**9 if in_memory else 0)
    monkeypatch.setattr(preview, "_SMALLEST_LEVEL_PX", 60)
    image = np.repeat(synthetic.blobs((200, 230), 4, n=40, radius=(2, 6))[..., None], 3, axis=2)
    notes = Notes()
    with notes.follower:
        result = follow(tmp_path / "a.ome.zarr", notes, image)
        finest = np.asarray(notes.levels[0][:])
        np.testing.assert_array_equal(finest > 0, image[..., 0] > 0)
        assert len(notes.levels) == (1 if in_memory else 3)
        for number, level in enumerate(notes.levels):
            np.testing.assert_array_equal(level[:], finest[:: 2**number, :: 2**number])
    assert notes.painted == result.report.tiles > 4
    assert not notes.follower._folder.exists()


def test_a_run_that_is_followed_ends_with_the_same_bytes(model, tmp_path):
    segment(scene(), tmp_path / "a" / "x.ome.zarr", tiny_model(), tiling=TILES)
    notes = Notes()
    notes.follower.look_at(np.array([[150.0, 150], [180, 150], [180, 180]]))
    follow(tmp_path / "b" / "x.ome.zarr", notes)
    assert digest(tmp_path / "a" / "x.ome.zarr") == digest(tmp_path / "b" / "x.ome.zarr")


def test_tiles_of_an_earlier_run_are_shown_at_once_and_failed_ones_named(model, tmp_path):
    model.fail = {2}
    first, second = Notes(), Notes()
    follow(tmp_path / "a.ome.zarr", first)
    assert list(first.failed) == [1]
    assert "cannot be had" in first.failed[1].reason
    assert first.failed[1].core.x0 > 0
    before = model.segmented
    follow(tmp_path / "a.ome.zarr", second)
    assert model.segmented == before + 1
    assert second.painted == first.painted + 1
    assert not second.failed


def test_a_preview_that_cannot_be_painted_does_not_end_the_run(model, tmp_path, monkeypatch, caplog):
    def full(self, tile):
        raise OSError("no space left")

    monkeypatch.setattr(preview.PreviewPainter, "paint", full)
    notes = Notes()
    assert follow(tmp_path / "a.ome.zarr", notes).is_complete
    assert notes.painted == 0
    assert "the preview of this run ends, the run goes on: no space left" in caplog.text


def tiles_in_a_row(n: int) -> list[Tile]:
    boxes = [Box(10 * i, 0, 10 * i + 10, 10) for i in range(n)]
    return [Tile(i, box, box) for i, box in enumerate(boxes)]


def test_tiles_that_meet_the_box_come_first_also_when_it_moves():
    boxes = iter([Box(30, 0, 45, 5), Box(30, 0, 45, 5), Box(20, 0, 30, 5), None, None, None])
    order = [tile.index for tile in in_order(tiles_in_a_row(6), lambda: next(boxes))]
    assert order == [3, 4, 2, 0, 1, 5]


def test_without_a_box_tiles_come_as_they_are():
    assert list(in_order(tiles_in_a_row(4), lambda: None)) == tiles_in_a_row(4)


def test_a_region_holds_the_pixels_whose_centres_lie_in_its_polygon(tmp_path):
    # From the middle of pixel 1 to the middle of pixel 4, as napari's coordinates say it.
    corners = np.array([[0.6, 1.6], [4.4, 1.6], [4.4, 3.4], [0.6, 3.4]])
    roi = read_roi(write_region([corners], tmp_path / "r.geojson"), (6, 8))
    inside = roi.mask(Box.of_size((6, 8)))
    expected = np.zeros((6, 8), bool)
    expected[2:4, 1:5] = True
    np.testing.assert_array_equal(inside, expected)


@pytest.mark.parametrize("polygons", [[], [np.zeros((2, 2))]], ids=["none", "a line"])
def test_a_region_without_an_inside_is_refused(polygons, tmp_path):
    with pytest.raises(ImageError, match=r"polygons of three or more corners, got \[.*\]; draw one"):
        write_region(polygons, tmp_path / "r.geojson")


def test_a_small_result_is_an_array_and_a_large_one_stays_lazy(model, tmp_path, monkeypatch):
    output = tmp_path / "a.ome.zarr"
    follow(output, Notes())
    (array,) = read_viewable(output)
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.uint16
    monkeypatch.setattr("napari_sam.workflows.file_layers._MOST_OBJECTS_OF_16_BITS", int(array.max()) - 1)
    (wide,) = read_viewable(output)
    assert wide.dtype == np.uint32
    np.testing.assert_array_equal(wide, array)
    monkeypatch.setattr("napari_sam.workflows.file_layers.IN_MEMORY_PX", 100)
    levels = read_viewable(output)
    assert not isinstance(levels[0], np.ndarray)
    np.testing.assert_array_equal(levels[0].compute(), array)
    assert len(levels) == len(open_image(output).levels)


def test_the_form_shows_what_a_run_with_the_built_in_model_would_use():
    from napari_sam.model import load_model
    from napari_sam.predict import preset_config

    recommended = load_model("nano", device="cpu").automatic_defaults
    assert recommended
    assert recommended_settings("nano") == preset_config(None, defaults=recommended)
    assert recommended_settings("nano", "cells") == preset_config("cells", defaults=recommended)


def test_a_model_that_is_not_here_is_shown_with_the_published_values(monkeypatch, tmp_path):
    from napari_sam.predict import preset_config

    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path))
    assert recommended_settings("vit_l") == preset_config(None)
