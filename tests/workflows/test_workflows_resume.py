"""Runs that stop, fail or change their mind: nothing is lost, nothing is done twice, the end is the same."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from napari_sam.errors import LedgerError, OutputError, RunInterrupted
from napari_sam.workflows import SegmentConfig, segment, segmentation
from workflows.workflows_scenes import TILES, StandIn, digest, found, scene, squares, stand_in, tiny_model

IMAGE = scene()
N_TILES = 17  # 4 x 4, and one of reduced resolution for large objects


def run(folder, **options):
    """One call on the same image, with labels and table in `folder`."""
    given = {"tiling": TILES, "table": folder / "t.csv", **options}
    return segment(IMAGE, folder / "out.ome.zarr", tiny_model(), **given)


def digests(folder):
    return digest(folder / "out.ome.zarr"), digest(folder / "t.csv")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Hashes of labels and table of a run in one go."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch)
        run(folder)
    return digests(folder)


@pytest.mark.parametrize("after", [1, 2, 9])
def test_a_run_that_was_asked_to_stop_goes_on_where_it_was(tmp_path, monkeypatch, undisturbed, after):
    calls = stand_in(monkeypatch)
    with pytest.raises(
        RunInterrupted, match=rf"stopped after {after} of {N_TILES} tiles; what is finished is kept in .*\.run"
    ):
        run(tmp_path, should_stop=lambda: calls.segmented >= after)
    assert not (tmp_path / "out.ome.zarr").exists()
    result = run(tmp_path)
    assert calls.segmented == N_TILES
    assert result.report.tiles_reused == after
    assert digests(tmp_path) == undisturbed


@pytest.mark.parametrize("at", [1, 7])
def test_ctrl_c_in_a_tile_costs_that_tile_alone(tmp_path, monkeypatch, undisturbed, at):
    calls = stand_in(monkeypatch, stop={at: KeyboardInterrupt()})
    with pytest.raises(RunInterrupted, match=r"the same command \(or call\) goes on from there"):
        run(tmp_path)
    run(tmp_path)
    assert calls.segmented == N_TILES + 1
    assert digests(tmp_path) == undisturbed


@pytest.mark.parametrize("stage", ["merge", "labels"])
@pytest.mark.parametrize("how", ["asked", "ctrl-c"])
def test_a_stop_after_the_tiles_is_met_as_well(tmp_path, monkeypatch, undisturbed, stage, how):
    calls = stand_in(monkeypatch)
    seen = []

    def progress(name, done, total):
        seen.append(name)
        if how == "ctrl-c" and name == stage:
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted, match=f"stopped in the stage {stage}" if how == "asked" else "stopped; what is"):
        run(tmp_path, progress=progress, should_stop=lambda: how == "asked" and stage in seen)
    assert not (tmp_path / "out.ome.zarr").exists()
    asked = calls.reprompted
    result = run(tmp_path)
    assert calls.segmented == N_TILES
    assert calls.reprompted >= asked
    assert result.report.tiles_reused == N_TILES
    assert result.report.predicted is None
    assert digests(tmp_path) == undisturbed


def test_a_finished_run_asks_the_model_nothing_again(tmp_path, monkeypatch, undisturbed):
    calls = stand_in(monkeypatch)
    run(tmp_path)
    before = calls.segmented, calls.reprompted
    run(tmp_path, overlay=tmp_path / "later.png")
    assert (calls.segmented, calls.reprompted) == before
    assert (tmp_path / "later.png").is_file()
    assert digests(tmp_path) == undisturbed


def test_restart_does_everything_again(tmp_path, monkeypatch, undisturbed):
    calls = stand_in(monkeypatch)
    run(tmp_path)
    run(tmp_path, restart=True)
    assert calls.segmented == 2 * N_TILES
    assert digests(tmp_path) == undisturbed


def test_a_changed_parameter_redoes_the_stages_after_it_alone(tmp_path, monkeypatch, undisturbed):
    calls = stand_in(monkeypatch)
    run(tmp_path)
    run(tmp_path, tiling=replace(TILES, merge_iou_thresh=0.6))
    assert calls.segmented == N_TILES  # the merge alone
    run(tmp_path, automatic={"points_per_side": 5})
    assert calls.segmented == 2 * N_TILES
    run(tmp_path, tiling=replace(TILES, halo_px=20))
    assert calls.segmented > 2 * N_TILES
    before = calls.segmented
    run(tmp_path, config=SegmentConfig(precision="fp32"))
    assert calls.segmented == before + N_TILES
    before = calls.segmented
    run(tmp_path)  # going back costs nothing
    assert calls.segmented == before
    assert digests(tmp_path) == undisturbed


def test_a_changed_region_segments_the_tiles_it_needs_and_filters_again(tmp_path, monkeypatch):
    calls = stand_in(monkeypatch)
    left, top = np.zeros(IMAGE.shape[:2], np.uint8), np.zeros(IMAGE.shape[:2], np.uint8)
    left[:, :100] = 1
    top[:90] = 1
    for name, region in (("left", left), ("top", top), ("none", None)):
        changed = run(tmp_path / "changed", roi=region)
        seen = calls.segmented
        fresh = run(tmp_path / name, roi=region)
        assert found(changed) == found(fresh)
        assert digests(tmp_path / "changed") == digests(tmp_path / name)
        calls.segmented = seen
    assert calls.segmented == N_TILES  # over all three regions, no tile twice


def test_a_failed_tile_is_listed_and_tried_again(tmp_path, monkeypatch, undisturbed):
    calls = stand_in(monkeypatch, fail={5})
    result = run(tmp_path, report=tmp_path / "r.json")
    assert list(result.report.tiles_failed.values()) == ["RuntimeError: this tile cannot be had"]
    assert not result.is_complete
    assert np.asarray(result.labels).any()
    assert list(json.loads((tmp_path / "r.json").read_text())["tiles_failed"].values()) == [
        "RuntimeError: this tile cannot be had"
    ]
    again = run(tmp_path)
    assert again.is_complete
    assert calls.segmented == N_TILES + 1
    assert digests(tmp_path) == undisturbed


def test_a_tile_that_failed_while_the_need_was_measured_has_its_turn_again(tmp_path, monkeypatch, undisturbed):
    calls = stand_in(monkeypatch, fail={1})
    told = []
    result = run(tmp_path, on_estimate=told.append)
    assert result.is_complete
    assert told[0].tiles_timed == 1
    assert calls.segmented == N_TILES + 1
    assert digests(tmp_path) == undisturbed


def test_when_all_tiles_fail_the_labels_are_empty_and_the_report_says_so(tmp_path, monkeypatch):
    stand_in(monkeypatch, fail=set(range(100)))
    result = run(tmp_path)
    assert len(result.report.tiles_failed) == N_TILES
    assert not np.asarray(result.labels).any()
    assert not result.is_complete


def test_a_cut_object_that_could_not_be_asked_for_again_is_listed(tmp_path, monkeypatch, undisturbed):
    stand_in(monkeypatch)
    asked = StandIn()

    def fail_once(model, image, fragment, **settings):
        if asked.reprompted == 0:
            asked.reprompted = 1
            raise MemoryError("too large")
        return asked.reprompt(model, image, fragment, **settings)

    monkeypatch.setattr(segmentation, "reprompt", fail_once)
    result = run(tmp_path)
    ((where, why),) = result.report.reprompts_failed.items()
    assert "tile" in where
    assert why == "MemoryError: too large"
    assert not result.is_complete
    assert run(tmp_path).is_complete
    assert digests(tmp_path) == undisturbed


def test_another_image_may_not_go_on_with_this_run(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    output = tmp_path / "out.ome.zarr"
    segment(squares(), output, tiny_model(), tiling=TILES)
    before = digest(output)
    with pytest.raises(LedgerError, match=r"is the ledger of another run \(image sha256: .*or restart \(--restart\)"):
        segment(255 - squares(), output, tiny_model(), tiling=TILES)
    assert digest(output) == before
    assert len(segment(255 - squares(), output, tiny_model(), tiling=TILES, restart=True).objects) == 1


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_of_someone_else_is_never_replaced(tmp_path, monkeypatch, restart):
    calls = stand_in(monkeypatch)
    (tmp_path / "out.ome.zarr").mkdir()
    (tmp_path / "out.ome.zarr" / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="was not written by napari-sam, so it is not replaced"):
        segment(squares(), tmp_path / "out.ome.zarr", tiny_model(), restart=restart)
    assert (tmp_path / "out.ome.zarr" / "thesis.txt").read_text() == "precious"
    assert calls.segmented == 0


def test_a_tiff_that_is_there_is_replaced_on_demand_only(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    output = tmp_path / "out.tif"
    tifffile.imwrite(output, np.zeros((4, 4), np.uint8))
    before = digest(output)
    with pytest.raises(OutputError, match=r"out.tif already exists; choose another output name, or use restart"):
        segment(squares(), output, tiny_model(), tiling=TILES)
    assert digest(output) == before
    segment(squares(), output, tiny_model(), tiling=TILES, restart=True)
    assert tifffile.imread(output).max() == 16
