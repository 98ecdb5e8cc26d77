"""With a segmentation that depends on local pixels only, tiled equals whole."""

from __future__ import annotations

import os
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import disk
from tiling_synthetic import Picture, blobs, canonical, obstacles, segment, tiled

from napari_sam.geometry import Box
from napari_sam.tiling import MergedObjects

SIZE = (330, 410)


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk():
    """Nothing here depends on what a power cut leaves, and thousands of small files would wait for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def masks_of(objects: MergedObjects) -> list:
    return [mask for _, mask in objects.iter_masks()]


def assert_same_partition(objects: MergedObjects, picture: Picture) -> None:
    assert canonical(masks_of(objects)) == canonical(segment(picture.read(Box.of_size(picture.size))))
    assert not objects.table.touches_seam.any()


@pytest.fixture(scope="module")
def picture() -> Picture:
    return Picture(obstacles(SIZE))


@pytest.mark.parametrize(("core_px", "halo_px"), [(64, 0), (64, 8), (64, 20), (128, 16), (256, 32), (100, 60)])
def test_any_tile_size_gives_the_partition_of_the_whole_image(picture, tmp_path, core_px, halo_px):
    objects = tiled(picture, tmp_path, core_px=core_px, halo_px=halo_px)
    assert_same_partition(objects, picture)


def test_real_tile_sizes_give_the_partition_of_the_whole_image(tmp_path):
    picture = Picture(blobs((1100, 1300), 3, n=120, radius=(4, 90)))
    for core_px in (256, 512, 1024):
        objects = tiled(
            picture, tmp_path / str(core_px), core_px=core_px, halo_px=core_px // 8, object_cover_thresh=0.5
        )
        assert_same_partition(objects, picture)


def test_round_objects_leave_no_contour_along_a_seam(tmp_path):
    values = np.zeros((300, 300), dtype=np.uint8)
    rng = np.random.default_rng(4)
    for row, column in np.indices((7, 7)).reshape(2, -1).T * 43 + 21 + rng.integers(-3, 4, (49, 2)):
        values[disk((row, column), rng.uniform(3, 18), shape=values.shape)] = rng.integers(1, 256)
    picture = Picture(values)
    objects = tiled(picture, tmp_path, core_px=64, halo_px=8)
    assert_same_partition(objects, picture)
    assert objects.summary.seam_cuts == 0
    assert objects.summary.cut_objects_reprompted > 0


def table_bytes(objects: MergedObjects) -> dict[str, bytes]:
    return {name: column.tobytes() for name, column in objects.table.columns().items()}


def test_order_of_tiles_and_workers_change_no_byte_of_the_table(picture, tmp_path):
    shuffled = random.Random(5)
    reference = tiled(picture, tmp_path / "a", core_px=64, halo_px=16)
    others = [
        tiled(picture, tmp_path / "b", core_px=64, halo_px=16, workers=4),
        tiled(picture, tmp_path / "c", core_px=64, halo_px=16, order=lambda tiles: tiles[::-1]),
        tiled(picture, tmp_path / "d", core_px=64, halo_px=16, order=lambda tiles: shuffled.sample(tiles, len(tiles))),
    ]
    for other in others:
        assert table_bytes(other) == table_bytes(reference)
        assert canonical(masks_of(other)) == canonical(masks_of(reference))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    core_px=st.integers(5, 60),
    halo=st.floats(0, 0.99),
    largest=st.integers(2, 40),
    tolerance=st.integers(0, 3),
)
def test_random_images_and_tiles_give_the_partition_of_the_whole(
    seed, height, width, core_px, halo, largest, tolerance
):
    picture = Picture(blobs((height, width), seed, n=25, radius=(1, largest)))
    with TemporaryDirectory() as folder:
        objects = tiled(
            picture, Path(folder), core_px=core_px, halo_px=int(halo * core_px), edge_tolerance_px=tolerance
        )
        assert_same_partition(objects, picture)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), core_px=st.integers(8, 30))
def test_noise_of_ragged_regions_gives_the_partition_of_the_whole(seed, core_px):
    rng = np.random.default_rng(seed)
    picture = Picture((rng.random((36, 44)) < 0.55).astype(np.uint8) * 9)
    with TemporaryDirectory() as folder:
        assert_same_partition(tiled(picture, Path(folder), core_px=core_px, halo_px=core_px // 4), picture)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 500), (64, 64)], ids=str)
def test_tiny_and_thin_images_give_the_partition_of_the_whole(tmp_path, size):
    picture = Picture(blobs(size, 1, n=12, radius=(1, 30)))
    assert_same_partition(tiled(picture, tmp_path, core_px=64, halo_px=8), picture)


def test_an_object_that_fills_the_image_is_one_object(tmp_path):
    picture = Picture(np.full((200, 260), 5, dtype=np.uint8))
    objects = tiled(picture, tmp_path, core_px=64, halo_px=8)
    assert objects.table.area_px.tolist() == [200 * 260]
    assert objects.summary.cut_objects_reprompted == 1


def test_an_empty_image_has_no_objects(tmp_path):
    objects = tiled(Picture(np.zeros((200, 260), dtype=np.uint8)), tmp_path, core_px=64, halo_px=8)
    assert len(objects) == 0
    assert masks_of(objects) == []
    assert objects.masks_in(Box(0, 0, 260, 200)) == []


def test_touching_cells_with_their_border_on_a_seam_stay_two(tmp_path):
    values = np.zeros((128, 128), dtype=np.uint8)
    values[50:80, 40:64] = 10
    values[50:80, 64:90] = 20
    objects = tiled(Picture(values), tmp_path, core_px=32, halo_px=4)
    assert sorted(objects.table.area_px.tolist()) == [30 * 24, 30 * 26]


def test_a_window_too_large_for_full_resolution_is_read_reduced_and_the_object_enlarged(tmp_path):
    values = np.zeros((512, 512), dtype=np.uint8)
    values[disk_of(256, 256, 200)] = 7
    objects = tiled(Picture(values), tmp_path, core_px=64, halo_px=8, max_window_px=128)
    ((_, mask),) = objects.iter_masks()
    assert mask.frame_size == (512, 512)
    whole = values > 0
    found = mask.to_array()
    assert (found & whole).sum() / (found | whole).sum() > 0.97
    assert objects.table.prompt.tolist() == ["reprompt"]


def disk_of(row: int, column: int, radius: int) -> np.ndarray:
    rows, columns = np.ogrid[:512, :512]
    return np.hypot(rows - row, columns - column) < radius
