"""The main job end to end: what it writes, and that it does not depend on tiles, workers or the kind of image."""

from __future__ import annotations

import csv
import json
import math

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr

import napari_sam
from napari_sam.errors import ConfigError, OutputError
from napari_sam.geometry import Box
from napari_sam.tiling import TilingConfig
from napari_sam.tiling.labels import paint_labels
from napari_sam.workflows import SegmentConfig, SegmentPaths, segment
from tiling import tiling_synthetic as synthetic
from workflows.workflows_scenes import TILES, digest, found, scene, squares, stand_in, tiny_model

TABLE_COLUMNS = (
    "label,y0,x0,y1,x1,area_px,centroid_y,centroid_x,predicted_iou,stability_score,tile,touches_seam,prompt,verified"
)
REPORT_KEYS = {
    "objects",
    "tiles",
    "tiles_failed",
    "tiles_skipped",
    "cut_objects_reprompted",
    "seam_cuts",
    "seconds",
    "peak_rss_mb",
    "predicted",
    "model",
    "model_sha256",
    "config",
    "version",
}


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("core_px", "halo_px"), [(48, 8), (64, 16), (100, 40), (512, 64)])
def test_tiled_objects_are_those_of_the_whole_image(tmp_path, monkeypatch, core_px, halo_px):
    stand_in(monkeypatch)
    tiling = TilingConfig(core_px=core_px, halo_px=halo_px)
    result = segment(scene(), tmp_path / "out.ome.zarr", tiny_model(), tiling=tiling)
    assert found(result) == synthetic.canonical(synthetic.segment(scene()))
    assert result.report.fragments == 0
    assert result.is_complete


def test_a_cut_object_is_asked_for_with_the_settings_of_automatic_masks(tmp_path, monkeypatch):
    asked = stand_in(monkeypatch)
    automatic = {"pred_iou_thresh": 0.3, "one_piece": True}
    config = SegmentConfig(precision="fp32")
    segment(scene(), tmp_path / "out.ome.zarr", tiny_model(), automatic=automatic, tiling=TILES, config=config)
    assert asked.settings == automatic | {"precision": "fp32"}


def test_labels_table_and_report_agree_and_have_the_published_names(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    paths = SegmentPaths(table=tmp_path / "t.csv", report=tmp_path / "r.json")
    result = segment(scene(), tmp_path / "out.ome.zarr", tiny_model(), tiling=TILES, paths=paths)
    labels = np.asarray(result.labels)
    np.testing.assert_array_equal(labels, paint_labels(result.objects, Box.of_size(labels.shape)))
    stored = zarr.open_group(tmp_path / "out.ome.zarr", mode="r")
    np.testing.assert_array_equal(stored["0"][:], labels)
    assert stored.attrs["ome"]["version"] == "0.5"
    assert "image-label" in stored.attrs["ome"]
    assert (tmp_path / "out.ome.zarr.run" / "manifest.json").is_file()

    rows = read_rows(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines()[0] == TABLE_COLUMNS
    assert [int(row["label"]) for row in rows] == list(range(1, len(result.objects) + 1))

    report = json.loads((tmp_path / "r.json").read_text())
    assert set(report) >= REPORT_KEYS
    assert report["objects"] == len(rows)
    assert report["tiles"] == 17
    assert report["tiles_failed"] == {}
    assert set(report["seconds"]) == {"planning", "tiles", "merge", "labels", "exports"}
    assert set(report["predicted"]) >= {"memory_mb", "disk_mb", "seconds"}
    assert report["cut_objects_reprompted"] > 0
    assert report["version"] == napari_sam.__version__
    assert report["config"]["tiling"]["core_px"] == 64


def test_all_further_results_are_written_from_names_given_as_arguments(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    image = squares()
    names = {"table": "t.parquet", "sa1b": "s.json", "geojson": "g.geojson", "overlay": "o.png"}
    paths = {name: tmp_path / "new" / file for name, file in names.items()}
    result = segment(image, tmp_path / "out.tif", tiny_model(), tiling=TILES, **paths)
    assert len(result.objects) == 16
    assert result.report.seam_cuts == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif") > 0, image > 100)
    assert len(json.loads(paths["sa1b"].read_text())["annotations"]) == 16
    assert len(json.loads(paths["geojson"].read_text())["features"]) == 16
    assert paths["overlay"].read_bytes().startswith(b"\x89PNG")
    assert paths["table"].read_bytes().startswith(b"PAR1")


def test_a_pixel_size_reaches_labels_and_table(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    config = SegmentConfig(pixel_size_um=0.5)
    segment(squares(), tmp_path / "a.ome.zarr", tiny_model(), tiling=TILES, config=config, table=tmp_path / "t.csv")
    image = zarr.open_group(tmp_path / "a.ome.zarr", mode="r").attrs["ome"]["multiscales"][0]
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [0.5, 0.5]
    assert any("um" in column for column in read_rows(tmp_path / "t.csv")[0])


def test_numpy_dask_zarr_and_files_give_the_same_labels(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    image = squares()
    zarr.create_array(tmp_path / "image.zarr", data=image, chunks=(50, 60))
    tifffile.imwrite(tmp_path / "image.tif", image)
    inputs = [
        image,
        da.from_array(image, chunks=40),
        zarr.open_array(tmp_path / "image.zarr", mode="r"),
        tmp_path / "image.zarr",
        str(tmp_path / "image.tif"),
    ]
    digests = set()
    for number, given in enumerate(inputs):
        output = tmp_path / str(number) / "out.ome.zarr"
        assert len(segment(given, output, tiny_model(), tiling=TILES).objects) == 16
        digests.add(digest(output))
    assert len(digests) == 1


def test_one_plane_and_one_channel_of_a_stack_are_segmented(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    stack = np.zeros((2, 3, 4, 128, 128), np.uint16)
    stack[1, 2, 3] = np.where(squares() > 100, 8000, 0)
    config = SegmentConfig(t=1, z=2, channels=(3,), axes="TZCYX")
    assert len(segment(stack, tmp_path / "a.tif", tiny_model(), tiling=TILES, config=config).objects) == 16
    other = SegmentConfig(t=1, z=2, channels=(2,), axes="TZCYX")
    assert len(segment(stack, tmp_path / "b.tif", tiny_model(), tiling=TILES, config=other).objects) == 0


def test_only_objects_mostly_inside_the_region_are_kept_and_numbered_anew(tmp_path, monkeypatch):
    calls = stand_in(monkeypatch)
    image = squares((256, 256))
    region = np.zeros(image.shape, np.uint8)
    region[:128, :52] = 1  # squares begin at 8 and 40 and are 16 wide: 12 of 16 columns of the second are inside
    inside = segment(image, tmp_path / "mask.tif", tiny_model(), tiling=TILES, roi=region)
    assert inside.table.label.tolist() == list(range(1, 9))
    assert inside.table.x1.max() == 56
    assert inside.report.tiles_skipped > 0
    assert calls.segmented < 16
    labels = np.asarray(inside.labels)
    assert set(np.unique(labels)) == set(range(9))

    square = [[0, 0], [47, 0], [47, 128], [0, 128], [0, 0]]  # now 7 of 16
    (tmp_path / "roi.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [square]}))
    polygons = segment(image, tmp_path / "poly.tif", tiny_model(), tiling=TILES, roi=tmp_path / "roi.geojson")
    assert polygons.table.label.tolist() == [1, 2, 3, 4]
    assert polygons.table.x1.max() == 24


def test_an_estimate_comes_after_two_tiles_which_are_not_segmented_twice(tmp_path, monkeypatch):
    calls = stand_in(monkeypatch)
    told = []
    result = segment(
        scene(),
        tmp_path / "a.tif",
        tiny_model(),
        tiling=TILES,
        on_estimate=lambda estimate: told.append((estimate, calls.segmented)),
    )
    assert calls.segmented == result.report.tiles == 17
    assert result.report.tiles_reused == 0
    ((estimate, after),) = told
    assert after == 2
    assert result.report.predicted == estimate
    assert 100 < estimate.memory_mb < 20_000
    assert 0 < estimate.seconds < 100
    assert 0 < estimate.disk_mb < 10
    assert len(result.objects) / 4 < estimate.objects < 4 * len(result.objects)
    assert "MB of memory" in estimate.as_text()
    assert "(from 2 tiles)" in estimate.as_text()


def test_a_small_run_is_over_before_an_estimate_would_help(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    result = segment(squares(), tmp_path / "a.tif", tiny_model(), tiling=TILES, on_estimate=pytest.fail)
    assert result.report.predicted is None
    assert json.loads(result.report.to_json())["predicted"] is None


def test_progress_names_every_stage_and_ends_complete(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    last = {}
    segment(
        scene(),
        tmp_path / "a.ome.zarr",
        tiny_model(),
        tiling=TILES,
        progress=lambda stage, done, total: last.update({stage: done / max(total, 1)}),
    )
    assert last == {"tiles": 1, "merge": 1, "labels": 1}


def test_scores_of_a_real_network_are_in_the_table(tmp_path):
    result = segment(scene((90, 100)), tmp_path / "a.tif", tiny_model(), tiling=TILES)
    assert len(result.objects) > 0
    assert all(math.isfinite(value) for value in result.table.predicted_iou)
    assert set(result.table.prompt) <= {"grid", "reprompt"}


REFUSED = {
    "another ending": ({"output": "out.png"}, OutputError, "must be NAME.ome.zarr or NAME.tif, got .*out.png"),
    "another table": ({"table": "t.xlsx"}, OutputError, r"a table ends in .csv or .parquet, got .*t.xlsx"),
    "another overlay": ({"overlay": "o.jpg"}, OutputError, "an overlay is a PNG, got .*o.jpg"),
    "one path twice": ({"sa1b": "a.json", "report": "a.json"}, OutputError, "two results go to the same file"),
    "output twice": ({"output": "a.ome.zarr", "sa1b": "a.ome.zarr"}, OutputError, "two results go to the same file"),
    "inside the labels": ({"report": "out.tif/r.json"}, OutputError, "lies inside the label image"),
    "a folder": ({"report": "."}, OutputError, "is a folder; give the name of a file"),
    "below a file": ({"geojson": "a-file/g.json"}, OutputError, "a-file is a file, not a folder"),
    "the image": ({"output": "image.tif", "restart": True}, OutputError, "read by this job and would be overwritten"),
    "the region": ({"overlay": "roi.png", "roi": "roi.png"}, OutputError, "read by this job and would be overwritten"),
    "a typo": ({"tabel": "t.csv"}, TypeError, "no argument 'tabel'; files it can write: table, sa1b"),
    "no such preset": ({"preset": "cels"}, ConfigError, "no preset is named 'cels'.*Did you mean 'cells'"),
    "no such setting": ({"automatic": {"points": 3}}, ConfigError, "no setting named 'points'"),
    "crops without points": (
        {"automatic": {"crop_n_layers": 3, "crop_n_points_downscale_factor": 9}},
        ConfigError,
        "points",
    ),
    "processes of a loaded model": (
        {"config": SegmentConfig(workers=2)},
        ConfigError,
        "each worker process loads the model itself: give its name",
    ),
    "two configurations": (
        {"preset": "cells", "automatic": napari_sam.AutoMaskConfig()},
        ConfigError,
        "give either preset = 'cells' or a whole AutoMaskConfig",
    ),
}


@pytest.mark.parametrize(("given", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_done_is_refused_before_anything_is_written(tmp_path, monkeypatch, given, error, message):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("image.tif", squares())
    tifffile.imwrite("roi.png", squares())
    (tmp_path / "a-file").write_text("precious")
    before = digest(tmp_path)
    with pytest.raises(error, match=message):
        segment("image.tif", **{"output": "out.tif", "model": tiny_model(), "tiling": TILES, **given})
    assert digest(tmp_path) == before


SETTINGS = {
    "no workers": ({"workers": 0}, "workers must be at least 1, got 0"),
    "no such executor": ({"executor": "fibres"}, "must be one of processes, threads, got 'fibres'"),
    "no torch threads": ({"torch_threads": 0}, "torch_threads must be at least 1, got 0"),
    "a cluster and workers": ({"scheduler": "tcp://h:1", "workers": 2}, "has workers of its own; leave out workers"),
    "a cluster and threads": ({"scheduler": "tcp://h:1", "executor": "threads"}, "or leave out the scheduler"),
}


@pytest.mark.parametrize(("given", "message"), SETTINGS.values(), ids=SETTINGS)
def test_settings_of_workers_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        SegmentConfig(**given)


def test_proposals_of_a_model_without_the_head_are_refused_at_once(tmp_path):
    model = tiny_model()
    model.sam.proposal_head = None
    with pytest.raises(ConfigError, match="model 'tiny' has no proposal head"):
        segment(squares(), tmp_path / "a.tif", model, automatic={"prompts": "proposals"})
    assert list(tmp_path.iterdir()) == []
