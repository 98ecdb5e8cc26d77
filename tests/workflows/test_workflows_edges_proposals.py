"""Edge maps and object proposals as whole jobs: files, tiles, stops, bad names."""

from __future__ import annotations

import csv
import json

import imagecodecs
import numpy as np
import pytest
import tifffile

from napari_sam.errors import ConfigError, OutputError, RunInterrupted
from napari_sam.geometry import Rle
from napari_sam.images.detections import read_boxes
from napari_sam.predict import EdgeConfig, ObjectProposalConfig, detect_edges, proposal_score
from napari_sam.tiling import TilingConfig
from napari_sam.workflows.experiments import edges as edges_job
from napari_sam.workflows.experiments import image_choice
from napari_sam.workflows.experiments.edges import edges_of_array, write_edges
from napari_sam.workflows.experiments.proposals import write_proposals
from workflows.workflows_scenes import tiny_model

EDGES = EdgeConfig(points_per_side=2)
FEW = ObjectProposalConfig(points_per_side=2, proposals=9)
TILES = TilingConfig(core_px=64, halo_px=16)


@pytest.fixture
def image():
    rng = np.random.default_rng(1)
    return (rng.random((90, 130, 3)) * 255).astype(np.uint8)


@pytest.fixture
def model():
    return tiny_model()


def test_a_small_image_is_seen_whole_and_written_as_it_is(image, model, tmp_path):
    small = image[:64, :128]
    made = write_edges(small, tmp_path / "new" / "e.tif", model, edges=EDGES)
    written = tifffile.imread(made.output)
    assert (made.tiles, written.dtype, written.shape) == (1, np.float32, (64, 128))
    assert (written == edges_of_array(small, model, edges=EDGES)).all()
    plane = image_choice.open_plane(small, image_choice.SegmentConfig())
    shown = plane.normalisation.apply(plane.read_raw(image_choice.plan_views((64, 128), 64, TILES, True)[0].read))
    assert written == pytest.approx(detect_edges(model, shown, EDGES), abs=1e-6)
    assert list((tmp_path / "new").iterdir()) == [made.output]


def test_a_png_holds_the_same_edges_in_8_bits(image, model, tmp_path):
    write_edges(image, tmp_path / "e.png", model, edges=EDGES, whole=True)
    levels = imagecodecs.png_decode((tmp_path / "e.png").read_bytes())
    assert levels == pytest.approx(255 * edges_of_array(image, model, edges=EDGES, whole=True), abs=0.51)


def test_a_large_image_is_seen_tile_by_tile_with_edges_of_one_scale(image, model, tmp_path):
    large = np.tile(image, (2, 2, 1))
    made = write_edges(large, tmp_path / "e.tif", model, edges=EDGES, tiling=TILES)
    written = tifffile.imread(made.output)
    views = image_choice.plan_views(large.shape[:2], 64, TILES, None)
    assert made.tiles == len(views) > 4
    plane = image_choice.open_plane(large, image_choice.SegmentConfig())
    strength = np.zeros(large.shape[:2], dtype=np.float32)
    for tile in views:
        seen = edges_job.edge_strength(model, plane.read(tile.read), EDGES)
        inside = tile.core.shifted(-tile.read.x0, -tile.read.y0)
        strength[tile.core.slices] = seen[inside.slices]
    assert written == pytest.approx(strength / strength.max(), abs=1e-6)


def test_blank_tiles_are_not_asked_about(model, tmp_path, monkeypatch):
    asked = []

    def recorded(model, pixels, config):
        asked.append(pixels)
        return pixels[..., 0].astype(np.float32)

    monkeypatch.setattr(edges_job, "edge_strength", recorded)
    image = np.zeros((64, 400), dtype=np.uint8)
    image[10:30, 10:30] = np.arange(20)
    write_edges(image, tmp_path / "e.tif", model, tiling=TILES)
    assert len(asked) == 1


def test_a_wish_to_stop_leaves_nothing_behind(image, model, tmp_path):
    with pytest.raises(RunInterrupted, match="stopped in the stage edges after 0 of 1 steps; nothing was written"):
        write_edges(image, tmp_path / "e.tif", model, edges=EDGES, whole=True, should_stop=lambda: True)
    assert list(tmp_path.iterdir()) == []


def test_names_and_sizes_that_cannot_be_are_refused_first(image, model, tmp_path, monkeypatch):
    with pytest.raises(OutputError, match=r"NAME\.tif or NAME\.png, got .*e\.jpg"):
        write_edges(image, tmp_path / "e.jpg", model)
    monkeypatch.setattr(edges_job, "MAX_PNG_PIXELS", 100)
    with pytest.raises(OutputError, match=r"a PNG of 130 x 90 pixels is too large \(100 at most\)"):
        write_edges(image, tmp_path / "e.png", model)
    monkeypatch.setattr(image_choice, "MAX_WHOLE_PX", 100)
    with pytest.raises(ConfigError, match="130 x 90 pixels is too large to be shown whole"):
        write_edges(image, tmp_path / "e.tif", model, whole=True)
    with pytest.raises(OutputError, match=r"NAME\.json or NAME\.csv, got .*p\.txt"):
        write_proposals(image, tmp_path / "p.txt", model)
    (tmp_path / "crops").mkdir()
    (tmp_path / "crops" / "mine").touch()
    with pytest.raises(OutputError, match="crops is no empty folder"):
        write_proposals(image, tmp_path / "p.csv", model, crops=tmp_path / "crops")


def test_proposals_are_written_best_first_as_boxes_and_crops(image, model, tmp_path):
    found = write_proposals(image, tmp_path / "p.csv", model, proposals=FEW, whole=True, crops=tmp_path / "crops").masks
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True) == pytest.approx([proposal_score(mask) for mask in found])
    assert 1 <= len(found) <= 9
    assert (read_boxes(tmp_path / "p.csv").boxes_xyxy == [mask.box_xyxy for mask in found]).all()
    pictures = sorted((tmp_path / "crops").iterdir())
    assert [p.name for p in pictures] == [f"{i:06d}.png" for i in range(1, len(found) + 1)]
    assert imagecodecs.png_decode(pictures[0].read_bytes()).shape == (*found[0].box.size, 3)


def test_coco_proposals_can_be_read_back_with_their_masks(image, model, tmp_path):
    found = write_proposals(image, tmp_path / "p.json", model, proposals=FEW, whole=True).masks
    content = json.loads((tmp_path / "p.json").read_text())
    assert len(content["images"]) == 1
    assert len(content["annotations"]) == len(found)
    for annotation, mask in zip(content["annotations"], found, strict=True):
        assert (Rle.from_coco(annotation["segmentation"]).decode() == mask.to_array()).all()
        assert annotation["score"] == pytest.approx(proposal_score(mask))
    again = read_boxes(tmp_path / "p.json")
    assert (again.boxes_xyxy == [mask.box_xyxy for mask in found]).all()


def test_proposals_of_a_large_image_come_from_its_tiles(image, model, tmp_path):
    large = np.tile(image, (1, 2, 1))
    found = write_proposals(large, tmp_path / "p.csv", model, proposals=FEW, tiling=TILES).masks
    assert {mask.frame_size for mask in found} == {large.shape[:2]}
    assert max(mask.box.x1 for mask in found) > 130 > min(mask.box.x0 for mask in found)


def test_an_image_of_one_value_has_no_proposals(model, tmp_path):
    flat = np.full((50, 50), 7, dtype=np.uint8)
    assert write_proposals(flat, tmp_path / "p.csv", model, proposals=FEW).masks == ()
    assert (tmp_path / "p.csv").read_text() == "x0,y0,x1,y1,score,predicted_iou,stability_score,area_px\n"
