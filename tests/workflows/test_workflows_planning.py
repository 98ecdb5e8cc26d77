"""Before the first tile: which tiles are wanted, and what a dry run says without writing."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_sam.errors import ConfigError
from napari_sam.geometry import Box
from napari_sam.images import Plane, has_foreground
from napari_sam.tiling import TilingConfig
from napari_sam.workflows import SegmentConfig, plan_segment, segment
from napari_sam.workflows.estimate import Estimate
from napari_sam.workflows.planning import torch_threads
from pretended_gpu import pretended_gpu
from tiling.tiling_synthetic import blobs
from workflows.workflows_scenes import TILES, digest, scene, squares, stand_in, tiny_model


def pyramid(image):
    """The image and two smaller views of it: means of 4 x 4 and 8 x 8 pixels."""
    height, width = image.shape
    blocks = [image.reshape(height // f, f, width // f, f).mean((1, 3)).astype(image.dtype) for f in (4, 8)]
    return [image, *blocks]


def sparse():
    """Content in one corner, a speck that no reduced view shows, and nothing else."""
    image = np.zeros((512, 512), np.uint8)
    image[:128, :128] = squares()
    image[300, 300] = 13
    return image


def test_the_same_tiles_are_wanted_with_a_pyramid_and_without():
    tiling = TilingConfig(core_px=128, halo_px=16)
    plain = plan_segment(sparse(), tiny_model(), tiling=tiling)
    reduced = plan_segment(pyramid(sparse()), tiny_model(), tiling=tiling)
    assert reduced.tiles.skipped == plain.tiles.skipped
    speck = {tile.index for tile in plain.tiles.tiles if tile.read.contains(300, 300)}
    assert speck
    assert not speck & plain.tiles.skipped
    assert len(plain.tiles.skipped) > 5


@pytest.mark.parametrize(("automatic", "tiling", "thresh"), [(None, None, None), (0.4, None, 0.4), (0.4, 0.9, 0.9)])
def test_covered_objects_are_dropped_over_tiles_as_in_a_tile_unless_it_is_set(automatic, tiling, thresh):
    settings = TilingConfig(core_px=128, halo_px=16, object_cover_thresh=tiling)
    plan = plan_segment(sparse(), tiny_model(), automatic={"cover_thresh": automatic}, tiling=settings)
    assert plan.tiling.object_cover_thresh == thresh


def test_a_tile_with_content_is_told_by_its_pyramid_level(monkeypatch):
    stack = pyramid(np.tile(squares(), (4, 4)))
    seen = []
    read = Plane.read_raw

    def noted(plane, box, step=1):
        seen.append((box, step))
        return read(plane, box, step)

    source = plan_segment(stack, tiny_model(), tiling=TilingConfig(core_px=128, halo_px=16))
    monkeypatch.setattr(Plane, "read_raw", noted)
    again = plan_segment(stack, tiny_model(), tiling=TilingConfig(core_px=128, halo_px=16))
    assert again.tiles.skipped == source.tiles.skipped == frozenset()
    of_tiles = [(box, step) for box, step in seen if box != Box(0, 0, 512, 512)]
    assert {step for _, step in of_tiles} == {8}
    assert all(box.x0 % 8 == box.y0 % 8 == box.x1 % 8 == box.y1 % 8 == 0 for box, _ in of_tiles)


def test_without_a_pyramid_only_tiles_that_look_blank_in_the_middle_are_read_whole(monkeypatch):
    seen = []
    read = Plane.read_raw

    def noted(plane, box, step=1):
        seen.append(box)
        return read(plane, box, step)

    image = np.zeros((1024, 1024), np.uint8)
    image[:512] = np.tile(squares(), (4, 8))
    image[1000, 1000] = 90
    monkeypatch.setattr(Plane, "read_raw", noted)
    plan = plan_segment(image, tiny_model(), tiling=TilingConfig(core_px=256, halo_px=32, max_object_px=0))
    tiles = plan.tiles.tiles
    read_whole = {tile.index for tile in tiles if tile.read in seen}
    assert read_whole == {tile.index for tile in tiles if tile.core.y0 >= 512}
    assert plan.tiles.skipped == {tile.index for tile in tiles if not image[tile.read.slices].any()}
    assert 0 < len(plan.tiles.skipped) < len(read_whole)


@pytest.mark.parametrize("seed", range(5))
def test_a_reduced_view_never_shows_what_is_not_there(seed):
    rng = np.random.default_rng(seed)
    image = np.zeros((256, 256), np.uint16)
    for _ in range(3):
        y, x = rng.integers(0, 224, 2)
        image[y : y + 20, x : x + 20] = rng.integers(100, 60_000)
    plan = plan_segment(pyramid(image), tiny_model(), tiling=TilingConfig(core_px=64, halo_px=7))
    for tile in plan.tiles.tiles:
        pixels = plan.plane.read_raw(tile.read)
        assert has_foreground(pixels, plan.plane.normalisation) == (tile.index not in plan.tiles.skipped)


def test_a_dry_run_says_what_is_needed_and_writes_nothing(tmp_path, monkeypatch):
    calls = stand_in(monkeypatch)
    tifffile.imwrite(tmp_path / "image.tif", scene(), photometric="rgb")
    before = digest(tmp_path)
    estimate = plan_segment(tmp_path / "image.tif", tiny_model(), tiling=TILES).estimate()
    assert calls.segmented == estimate.tiles_timed == 2
    assert 100 < estimate.memory_mb < 20_000
    assert estimate.seconds > 0
    assert digest(tmp_path) == before


def test_processes_need_the_memory_of_a_model_each(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    tifffile.imwrite(tmp_path / "image.tif", scene(), photometric="rgb")

    def memory(**config):
        plan = plan_segment(tmp_path / "image.tif", tiny_model(), tiling=TILES)
        object.__setattr__(plan, "config", SegmentConfig(**config))
        return plan.estimate().memory_mb

    assert memory(workers=4, executor="processes") > 3 * memory()


def test_an_image_without_anything_needs_nothing():
    plan = plan_segment(np.full((300, 300), 7, np.uint8), tiny_model(), tiling=TILES)
    estimate = plan.estimate()
    assert plan.tiles.kept == ()
    assert estimate.objects == estimate.tiles_timed == 0
    assert estimate.seconds < 0.1


@pytest.mark.parametrize(
    ("seconds", "text"), [(12, "12 s"), (75, "1 min 15 s"), (7300, "2 h 1 min")], ids=["s", "min", "h"]
)
def test_times_read_well(seconds, text):
    assert f"about {text}, 1,234 MB" in Estimate(1234, 5, seconds, 6, 2).as_text()


def test_a_small_need_of_disk_does_not_read_as_none():
    assert "0.24 MB on disk" in Estimate(1234, 0.24, 12, 6, 2).as_text()


def test_the_disk_foretold_is_about_what_is_then_on_it(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    image = np.repeat(blobs((1024, 1024), 2, n=900, radius=(6, 16))[..., np.newaxis], 3, axis=2)
    tifffile.imwrite(tmp_path / "image.tif", image, photometric="rgb")
    tiling = TilingConfig(core_px=256, halo_px=32, max_object_px=0)
    foretold = plan_segment(tmp_path / "image.tif", tiny_model(), tiling=tiling).estimate()
    result = segment(tmp_path / "image.tif", tmp_path / "out" / "a.ome.zarr", tiny_model(), tiling=tiling)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert 0.75 < foretold.disk_mb / (on_disk / 1e6) < 1.25
    assert 0.75 < foretold.objects / len(result.objects) < 1.25


NANO_TILES = TilingConfig(core_px=64, halo_px=16, max_object_px=0)


def workers_of(*, cores=8, n_tiles=16, model="nano", device="cpu", automatic=None, **config):
    """(workers, executor, torch threads) of a run of so many tiles on a machine where torch takes `cores` threads."""
    image = np.tile(squares((64, 64)), (1, n_tiles))
    settings = SegmentConfig(**config)
    with torch_threads(cores):
        job = plan_segment(image, model, device=device, automatic=automatic, tiling=NANO_TILES, config=settings)
    assert len(job.tiles.kept) == n_tiles
    return job.config.workers, job.config.executor, job.config.torch_threads


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (8, "threads", 1)),
        ({"cores": 2}, (2, "threads", 1)),
        ({"cores": 64}, (8, "threads", 1)),
        ({"torch_threads": 3}, (2, "threads", 3)),
        ({"torch_threads": 16}, (1, "threads", 16)),
        ({"n_tiles": 15}, (1, "processes", 8)),
        ({"automatic": {"prompts": "grid"}}, (1, "processes", 8)),
        ({"model": tiny_model()}, (1, "processes", 8)),
        ({"workers": 1}, (1, "processes", 1)),
        ({"workers": 3}, (3, "processes", 1)),
        ({"workers": 3, "executor": "threads", "torch_threads": 2}, (3, "threads", 2)),
        ({"scheduler": "tcp://h:1"}, (1, "processes", 1)),
        ({"tiles_per_batch": 4}, (8, "threads", 1)),
        ({"tiles_per_batch": 4, "n_tiles": 2}, (8, "threads", 8)),
        ({"tiles_per_batch": 4, "workers": 2}, (2, "processes", 1)),
        ({"tiles_per_batch": 4, "scheduler": "tcp://h:1"}, (1, "processes", 1)),
    ],
    ids=str,
)
def test_many_tiles_of_a_model_with_regions_are_shared_out_among_threads(given, expected):
    assert workers_of(**given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (8, "threads", 1)),
        ({"automatic": {"prompts": "grid"}}, (2, "threads", 8)),
        ({"automatic": {"prompts": "grid"}, "n_tiles": 2}, (1, "processes", 8)),
        ({"automatic": {"prompts": "grid"}, "tiles_per_batch": 3}, (6, "threads", 8)),
        ({"workers": 1}, (1, "processes", 1)),
    ],
    ids=str,
)
def test_on_a_gpu_masks_of_one_tile_are_made_while_it_sees_another(given, expected):
    with pretended_gpu():
        assert workers_of(device="cuda:0", **given) == expected


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"tiles_per_batch": 0}, r"tiles_per_batch must be at least 1, got 0; 4 is usual on a GPU"),
        ({"tiles_per_batch": 4, "workers": 3, "executor": "threads"}, r"workers = 3 in one process never have .* = 4"),
        (
            {"tiles_per_batch": 4, "workers": 1},
            r"workers = 1 in one process never have .*leave out workers, or give twice",
        ),
    ],
    ids=str,
)
def test_batches_that_cannot_be_filled_are_refused(given, error):
    with pytest.raises(ConfigError, match=error):
        SegmentConfig(**given)


def test_the_built_in_model_gives_the_same_bytes_whatever_the_number_of_workers(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sam.workflows.planning.MANY_TILES", 4)
    image = np.tile(squares((64, 64)), (2, 3))
    seen = []
    for cores, config in ((3, {}), (2, {}), (2, {"workers": 1})):
        output = tmp_path / str(len(seen)) / "out.ome.zarr"
        with torch_threads(cores):
            result = segment(image, output, device="cpu", tiling=NANO_TILES, config=SegmentConfig(**config))
        assert result.report.tiles_reused == 0
        assert len(result.table) > 2
        seen.append((digest(output), result.table.predicted_iou.tobytes()))
    assert seen == seen[:1] * 3
