"""Finding and reading pairs of images and labels."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import tifffile

from napari_sam.errors import ConfigError, TrainingError
from napari_sam.training.data import SampleCache, find_pairs, read_pair
from napari_sam.training.draw import DrawConfig, TrainingSet


def write_pair(folder, name="a", shape=(20, 30), labels_shape=None):
    folder.mkdir(parents=True, exist_ok=True)
    image = np.broadcast_to(np.linspace(20, 180, shape[1]).astype(np.uint8), shape).copy()
    labels = np.zeros(labels_shape or shape, np.uint16)
    labels[2:8, 3:9] = 1
    (folder / f"{name}.image.png").write_bytes(imagecodecs.png_encode(image))
    (folder / f"{name}.labels.png").write_bytes(imagecodecs.png_encode(labels))
    return image, labels


def test_pairs_are_found_in_subfolders_and_grouped_by_them(tmp_path):
    write_pair(tmp_path / "one", "a")
    write_pair(tmp_path / "two", "b")
    assert [(pair.name, pair.group) for pair in find_pairs(tmp_path)] == [("a", "one"), ("b", "two")]


def test_pairs_are_found_in_folders_of_images_and_labels(tmp_path):
    for kind, value in (("images", 7), ("labels", 1)):
        (tmp_path / kind).mkdir()
        tifffile.imwrite(tmp_path / kind / "x.tif", np.full((5, 6), value, np.uint8))
    (pair,) = find_pairs(tmp_path)
    assert read_pair(pair).labels.tolist() == np.ones((5, 6), int).tolist()


def test_pairs_are_found_by_a_manifest(tmp_path):
    write_pair(tmp_path / "deep", "a")
    (tmp_path / "manifest.csv").write_text("dataset,file\nmine,deep/a.image.png\n")
    (pair,) = find_pairs(tmp_path)
    assert (pair.group, pair.labels.name) == ("mine", "a.labels.png")


def test_an_image_is_read_as_normalised_rgb(tmp_path):
    write_pair(tmp_path)
    sample = read_pair(find_pairs(tmp_path)[0])
    assert (sample.image.shape, sample.image.dtype) == ((20, 30, 3), np.uint8)
    assert (sample.image.min(), sample.image.max()) == (0, 255)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(TrainingError, match="nowhere is not a folder"):
        find_pairs(tmp_path / "nowhere")


def test_an_empty_folder_says_what_it_should_hold(tmp_path):
    with pytest.raises(TrainingError, match=r"holds no image-label pairs; expected NAME\.image\.png"):
        find_pairs(tmp_path)


def test_missing_labels_are_named(tmp_path):
    write_pair(tmp_path)
    (tmp_path / "a.labels.png").unlink()
    with pytest.raises(TrainingError, match=r"1 images in .* have no labels, the first: .*a.labels.png"):
        find_pairs(tmp_path)


def test_a_manifest_without_files_is_refused(tmp_path):
    (tmp_path / "manifest.csv").write_text("name,size\nx,3\n")
    with pytest.raises(TrainingError, match="has no column 'file', only name, size"):
        find_pairs(tmp_path)


def test_labels_of_another_size_are_refused_by_name(tmp_path):
    write_pair(tmp_path, labels_shape=(20, 31))
    with pytest.raises(TrainingError, match=r"a.labels.png has shape \(20, 31\), its image \(20, 30\)"):
        read_pair(find_pairs(tmp_path)[0])


def test_labels_that_are_no_integers_are_refused(tmp_path):
    write_pair(tmp_path)
    (tmp_path / "a.labels.png").unlink()
    tifffile.imwrite(tmp_path / "a.labels.tif", np.zeros((20, 30), np.float32))
    with pytest.raises(TrainingError, match="holds float32; labels must be integers"):
        read_pair(find_pairs(tmp_path)[0])


def test_a_damaged_image_is_named(tmp_path):
    write_pair(tmp_path)
    (tmp_path / "a.image.png").write_bytes(b"\x89PNG nonsense")
    with pytest.raises(TrainingError, match=r"a\.image\.png cannot be read"):
        read_pair(find_pairs(tmp_path)[0])


def test_the_cache_keeps_no_more_than_it_may(tmp_path):
    for name in "abc":
        write_pair(tmp_path, name)
    cache = SampleCache(find_pairs(tmp_path), max_bytes=2 * (20 * 30 * 3 + 20 * 30 * 4))
    first = cache[0]
    assert cache[0] is first
    _ = cache[1], cache[2]
    assert cache[0] is not first
    assert len(cache) == 3


def test_draws_are_the_same_for_the_same_generator(tmp_path):
    write_pair(tmp_path / "x", "a")
    write_pair(tmp_path / "y", "b")
    draw = TrainingSet(find_pairs(tmp_path), DrawConfig(generated=0.3, sparse_groups=("y",)))
    rounds = [[draw(np.random.default_rng(5 + i)) for i in range(8)] for _ in range(2)]
    assert [s.name for s, _ in rounds[0]] == [s.name for s, _ in rounds[1]]
    assert {whole for s, whole in rounds[0] if s.name == "b"} <= {False}
    assert {"a", "b"} & {s.name for s, _ in rounds[0]}


def test_an_unknown_sparse_group_is_refused(tmp_path):
    write_pair(tmp_path / "x")
    with pytest.raises(ConfigError, match="sparse_groups names z; the groups are x"):
        TrainingSet(find_pairs(tmp_path), DrawConfig(sparse_groups=("z",)))


def test_a_share_of_generated_images_outside_its_range_is_refused():
    with pytest.raises(ConfigError, match=r"generated must lie in \[0, 1\], got 2"):
        DrawConfig(generated=2)
