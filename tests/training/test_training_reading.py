"""Small pairs are kept for a while, large ones are read by windows; neither fills the memory."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr

from napari_sam.errors import TrainingError
from napari_sam.geometry import Box
from napari_sam.training import reading
from napari_sam.training.data import find_pairs, read_pair
from napari_sam.training.reading import SampleCache, open_files
from training.training_scenes import write_pair

RNG = np.random.default_rng


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A zarr pair that counts as large, with one object in its last corner."""
    monkeypatch.setattr(reading, "WINDOW_PX", 32)
    image = np.linspace(0, 60_000, 100 * 120).reshape(100, 120).astype(np.uint16)
    labels = np.zeros((100, 120), np.uint32)
    labels[40:100, 40:120] = 7
    zarr.create_array(tmp_path / "big.image.zarr", data=image, chunks=(16, 16))
    zarr.create_array(tmp_path / "big.labels.zarr", data=labels, chunks=(16, 16))
    return find_pairs(tmp_path)


def test_the_cache_keeps_no_more_than_it_may(tmp_path):
    for name in "abc":
        write_pair(tmp_path, name)
    cache = SampleCache(find_pairs(tmp_path), max_bytes=2 * (20 * 30 * 3 + 20 * 30 * 4))
    first = cache.draw(0, RNG(0))
    assert cache.draw(0, RNG(0)) is first
    _ = cache.draw(1, RNG(0)), cache.draw(2, RNG(0))
    assert cache.draw(0, RNG(0)) is not first
    assert len(cache) == 3


def test_a_window_of_a_large_image_is_a_part_of_the_whole(large):
    whole = read_pair(large[0])
    cache = SampleCache(large)
    for seed in range(6):
        part = cache.draw(0, RNG(seed))
        assert part.image.shape == (32, 32, 3)
        places = [
            (y, x)
            for y in range(69)
            for x in range(89)
            if np.array_equal(whole.image[y : y + 32, x : x + 32, 0], part.image[..., 0])
        ]
        assert any(np.array_equal(whole.labels[y : y + 32, x : x + 32], part.labels) for y, x in places)


def test_windows_of_large_images_mostly_hold_objects(large):
    cache = SampleCache(large)
    assert sum(bool(cache.draw(0, RNG(seed)).labels.any()) for seed in range(20)) >= 18


def test_windows_are_the_same_for_the_same_generator_and_new_each_time(large):
    cache = SampleCache(large)
    one, again, other = (cache.draw(0, RNG(seed)).image for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_limits_of_a_large_image_are_found_once(large, monkeypatch):
    cache = SampleCache(large)
    cache.draw(0, RNG(0))
    monkeypatch.setattr(reading, "open_image", None)  # to open it again would fail
    assert cache.draw(0, RNG(1)).labels.shape == (32, 32)


def test_labels_too_large_for_float32_are_numbered_anew(tmp_path):
    _image, labels = write_pair(tmp_path)
    (tmp_path / "a.labels.png").unlink()
    many = labels.astype(np.uint64) * (2**40 + 1)
    many[15, 15] = 5
    tifffile.imwrite(tmp_path / "a.labels.tif", many)
    assert np.unique(read_pair(find_pairs(tmp_path)[0]).labels).tolist() == [0, 1, 2]


def test_negative_labels_are_refused(tmp_path):
    write_pair(tmp_path)
    (tmp_path / "a.labels.png").unlink()
    tifffile.imwrite(tmp_path / "a.labels.tif", np.full((20, 30), -1, np.int16))
    with pytest.raises(TrainingError, match=r"a\.labels\.tif holds negative labels; 0 is background"):
        read_pair(find_pairs(tmp_path)[0])


def test_labels_in_colours_are_refused(tmp_path):
    write_pair(tmp_path)
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((20, 30, 3), np.uint8), photometric="rgb")
    with pytest.raises(TrainingError, match=r"c\.tif has 3 channels; labels must be one number a pixel"):
        open_files(tmp_path / "a.image.png", tmp_path / "c.tif", "a")


def test_stacks_are_refused(tmp_path):
    write_pair(tmp_path)
    tifffile.imwrite(tmp_path / "s.tif", np.zeros((5, 20, 30), np.uint8), metadata={"axes": "ZYX"})
    with pytest.raises(TrainingError, match=r"s\.tif is a stack of 5 planes; save each plane"):
        open_files(tmp_path / "s.tif", tmp_path / "a.labels.png", "a")


def test_huge_pictures_that_have_no_parts_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_PICTURE_PX", 100)
    write_pair(tmp_path)
    with pytest.raises(TrainingError, match=r"has 20 x 30 pixels, and a PNG or JPEG .* save it as tiled TIFF or zarr"):
        read_pair(find_pairs(tmp_path)[0])


def test_damage_inside_a_large_image_is_named_when_it_is_met(large):
    opened = open_files(large[0].image, large[0].labels, "big")
    _ = opened.image.normalisation
    for chunk in (large[0].image / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"rubbish")
    with pytest.raises(TrainingError, match="big cannot be read"):
        opened.read(Box(0, 0, 20, 20))
