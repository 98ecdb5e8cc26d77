"""Finding and reading pairs of images and labels."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr

from napari_sam.errors import TrainingError
from napari_sam.training.data import find_pairs, read_pair
from training.training_scenes import write_pair


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
    with pytest.raises(TrainingError, match=r"1 images in .* have no labels \(.*a\.image\.png\); add them"):
        find_pairs(tmp_path)
    assert len(find_pairs(tmp_path, allow_missing=True)) == 1


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


def write_zarr(path, pixels, axes="yx"):
    """A minimal OME-Zarr image of one level."""
    group = zarr.open_group(path, mode="w")
    group.create_array("0", data=pixels, chunks=(16,) * pixels.ndim)
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0] * pixels.ndim}]}
    named = [{"name": axis, "type": "space"} for axis in axes]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": named, "datasets": [level]}]}


@pytest.mark.parametrize("ending", [".ome.zarr", ".zarr"])
def test_zarr_pairs_are_found_and_read(tmp_path, ending):
    image, labels = write_pair(tmp_path / "png", shape=(40, 50))
    if ending == ".zarr":
        zarr.create_array(tmp_path / "a.image.zarr", data=image, chunks=(16, 16))
        zarr.create_array(tmp_path / "a.labels.zarr", data=labels, chunks=(16, 16))
    else:
        write_zarr(tmp_path / "a.image.ome.zarr", image)
        write_zarr(tmp_path / "a.labels.ome.zarr", labels)
    (as_png, as_zarr) = sorted(find_pairs(tmp_path), key=lambda pair: pair.image.suffix)
    assert (as_zarr.name, as_zarr.labels.name) == ("a", f"a.labels{ending}")
    first, second = read_pair(as_png), read_pair(as_zarr)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.labels, second.labels)


def test_kinds_of_files_may_be_mixed_and_endings_are_read_whole(tmp_path):
    image, labels = write_pair(tmp_path / "x")
    tifffile.imwrite(tmp_path / "b.image.ome.tif", image)
    tifffile.imwrite(tmp_path / "b.labels.tiff", labels)
    pair = next(pair for pair in find_pairs(tmp_path) if pair.name == "b")
    assert pair.labels.name == "b.labels.tiff"
    assert np.array_equal(read_pair(pair).labels, labels)


def test_a_manifest_above_the_folder_says_groups_and_their_parts(tmp_path):
    for name in "ab":
        write_pair(tmp_path / "train" / "deep", name)
    rows = "file,dataset,group\ntrain/deep/a.image.png,mine,P1/x\ntrain/deep/b.image.png,mine,P2\n"
    (tmp_path / "manifest.csv").write_text(rows)
    found = find_pairs(tmp_path / "train")
    assert [(pair.group, pair.subgroup) for pair in found] == [("mine", "P1"), ("mine", "P2")]


def test_a_manifest_with_splits_gives_the_one_asked_for(tmp_path):
    for name in "ab":
        write_pair(tmp_path, name)
    (tmp_path / "manifest.csv").write_text("file,split\na.image.png,train\nb.image.png,val\n")
    assert [[pair.name for pair in find_pairs(tmp_path, split=s)] for s in ("train", "val", None)] == [
        ["a"],
        ["b"],
        ["a", "b"],
    ]
