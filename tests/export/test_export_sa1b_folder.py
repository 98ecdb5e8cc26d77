"""Whole data sets in SA-1B's layout: what goes in comes out, one image at a time; damage is named."""

from __future__ import annotations

import json
import tarfile
import tracemalloc
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pycocotools import mask as coco_masks

from export.scenes import blobs
from napari_sam.errors import ConfigError, ImageError, OutputError
from napari_sam.export import Sa1bWriter, is_sa1b, iter_sa1b
from napari_sam.geometry import Mask
from napari_sam.tiling.objects import MergedObjects

SIZE = (40, 50)


def picture(seed: int, channels: tuple[int, ...] = (3,)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, *channels), dtype=np.uint8)


def written(folder: Path, count: int = 5, **told) -> Path:
    with Sa1bWriter(folder, images_per_shard=2, **told) as writer:
        for i in range(count):
            writer.add(picture(i), blobs(SIZE, 3 + i, seed=i), f"field {i}.tif")
    return folder


def test_a_data_set_comes_back_in_order_with_its_masks_and_pixels(tmp_path: Path) -> None:
    folder = written(tmp_path / "set", count=12)
    assert [path.name for path in sorted(folder.iterdir())] == [f"sa_{i:06d}.tar" for i in range(6)]
    for i, item in enumerate(iter_sa1b(folder)):
        assert (item.file.image_id, item.file.file_name) == (i + 1, f"sa_{i + 1}.png")
        assert item.file.source_name == f"field {i}.tif"
        np.testing.assert_array_equal(item.read_picture(), picture(i))
        want = list(blobs(SIZE, 3 + i, seed=i).iter_masks())
        for (label, mask), (want_label, want_mask) in zip(item.file.masks, want, strict=True):
            assert label == want_label
            np.testing.assert_array_equal(mask.to_array(), want_mask.to_array())
            assert mask.predicted_iou == want_mask.predicted_iou


# pycocotools, when it decodes, still implements numpy 1's array protocol.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_shards_are_plain_tar_files_that_other_tools_read(tmp_path: Path) -> None:
    folder = written(tmp_path / "set")
    with tarfile.open(folder / "sa_000000.tar") as tar:
        assert tar.getnames() == ["sa_1.png", "sa_1.json", "sa_2.png", "sa_2.json"]
        content = json.load(tar.extractfile("sa_2.json"))
    first = content["annotations"][0]
    decoded = coco_masks.decode(first["segmentation"]).astype(bool)
    np.testing.assert_array_equal(decoded, blobs(SIZE, 4, seed=1).mask(0).to_array())


def test_unpacked_shards_and_single_files_are_read_as_well(tmp_path: Path) -> None:
    folder = written(tmp_path / "set")
    loose = tmp_path / "loose"
    for shard in folder.iterdir():
        with tarfile.open(shard) as tar:
            tar.extractall(loose / shard.stem, filter="data")
    packed, unpacked = list(iter_sa1b(folder)), list(iter_sa1b(loose))
    assert [item.file.image_id for item in unpacked] == [item.file.image_id for item in packed]
    np.testing.assert_array_equal(unpacked[3].read_picture(), picture(3))
    (only,) = iter_sa1b(loose / "sa_000001" / "sa_4.json")
    assert only.file.image_id == 4


def test_jpegs_and_gray_pictures_are_written_too(tmp_path: Path) -> None:
    smooth = np.repeat(np.linspace(0, 255, SIZE[1], dtype=np.uint8)[None], SIZE[0], axis=0)
    with Sa1bWriter(tmp_path, picture="jpg") as writer:
        writer.add(smooth, blobs(SIZE, 2), "a.tif")
    (item,) = iter_sa1b(tmp_path)
    assert item.file.file_name == "sa_1.jpg"
    assert np.abs(item.read_picture().astype(int) - smooth).max() < 8


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    a, b = written(tmp_path / "a"), written(tmp_path / "b")
    assert all((b / shard.name).read_bytes() == shard.read_bytes() for shard in a.iterdir())


def test_a_broken_off_run_leaves_complete_shards_only(tmp_path: Path) -> None:
    def break_off() -> None:
        with Sa1bWriter(tmp_path, images_per_shard=2) as writer:
            for i in range(3):
                writer.add(picture(i), blobs(SIZE, 3), "a.tif")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        break_off()
    assert [path.name for path in tmp_path.iterdir()] == ["sa_000000.tar"]


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        folder = written(tmp_path / str(count), count)
        tracemalloc.start()
        seen = sum(len(item.file.masks) for item in iter_sa1b(folder))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seen > count
        return size

    with_few = peak(4)
    assert peak(16) < 2.5 * with_few  # the last images of the longer one hold more masks


def test_masks_of_another_image_are_refused(tmp_path: Path) -> None:
    writer = Sa1bWriter(tmp_path)
    with pytest.raises(ImageError, match=r"a\.tif has \(5, 6\) pixels \(H, W\) and its masks lie in \(40, 50\)"):
        writer.add(np.zeros((5, 6), np.uint8), blobs(SIZE, 2), "a.tif")


def test_a_folder_with_shards_is_not_written_over(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(OutputError, match="holds shards of a data set already; choose an empty folder"):
        Sa1bWriter(tmp_path)
    with pytest.raises(ConfigError, match="images_per_shard must be at least 1, got 0"):
        Sa1bWriter(tmp_path / "new", images_per_shard=0)


def test_a_folder_without_a_data_set_is_named(tmp_path: Path) -> None:
    assert not is_sa1b(tmp_path)
    with pytest.raises(ImageError, match=r"is no data set in SA-1B's layout: there are no sa_\*\.tar"):
        list(iter_sa1b(tmp_path))


def test_a_shard_that_is_cut_off_is_named(tmp_path: Path) -> None:
    shard = written(tmp_path) / "sa_000000.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(ImageError, match=r"sa_000000\.tar is no complete shard"):
        list(iter_sa1b(tmp_path))


def test_a_picture_that_is_missing_damaged_or_of_another_size_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "set", count=1)
    with tarfile.open(folder / "sa_000000.tar") as tar:
        tar.extractall(tmp_path / "loose", filter="data")
    place = tmp_path / "loose" / "sa_1.png"
    (item,) = iter_sa1b(tmp_path / "loose")
    place.write_bytes(place.read_bytes()[:60])
    with pytest.raises(ImageError, match=r"the picture .*sa_1\.png is damaged"):
        item.read_picture()
    place.write_bytes(imagecodecs.png_encode(np.zeros((3, 4), np.uint8)))
    with pytest.raises(ImageError, match=r"has \(3, 4\) pixels \(H, W\), its masks lie in \(40, 50\)"):
        item.read_picture()
    place.unlink()
    with pytest.raises(ImageError, match=r"the picture of .*sa_1\.json cannot be read"):
        item.read_picture()


def test_an_image_without_masks_is_an_image(tmp_path: Path) -> None:
    with Sa1bWriter(tmp_path) as writer:
        writer.add(picture(0), MergedObjects.from_masks([], SIZE), "a.tif")
        writer.add(picture(1), MergedObjects.from_masks([Mask.from_array(np.ones(SIZE))], SIZE), "b.tif")
    assert [len(item.file.masks) for item in iter_sa1b(tmp_path)] == [0, 1]
