"""The image of a session: planes, identity, and finding it again from a journal."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.session import AnnotationSession
from napari_sam.errors import AnnotationError, JournalError
from napari_sam.geometry import Box


def stack(shape=(2, 3, 20, 30)):
    return np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)


def test_planes_are_counted_on_the_axes_before_rows_and_columns():
    image = AnnotatedImage.open(stack(), axes="TZYX")
    assert (image.shape, image.frame_size, image.leading_axes, image.n_leading) == ((2, 3, 20, 30), (20, 30), "TZ", 2)
    assert (image.n_planes, image.plane_indices()[:2]) == (6, [(0, 0), (0, 1)])
    np.testing.assert_array_equal(image.plane((1, 2)).read_raw(Box(0, 0, 30, 20))[..., 0], stack()[1, 2])
    with pytest.raises(AnnotationError, match=r"plane \(1, 3\) is not in this image, which has \(2, 3\) planes"):
        image.plane((1, 3))


def test_channels_are_no_planes():
    image = AnnotatedImage.open(stack(), axes="ZCYX", channels=(0, 2))
    assert (image.shape, image.channels) == ((2, 20, 30), (0, 2))
    assert image.plane((1,)).read(Box(0, 0, 5, 5)).shape == (5, 5, 3)


def test_one_normalisation_serves_all_planes():
    image = AnnotatedImage.open(stack(), axes="TZYX")
    assert {image.plane(index).normalisation for index in image.plane_indices()} == {image.normalisation}


def test_the_key_tells_images_and_channels_apart():
    keys = {
        AnnotatedImage.open(stack(), axes="ZCYX", channels=0).key,
        AnnotatedImage.open(stack(), axes="ZCYX", channels=1).key,
        AnnotatedImage.open(stack() + np.uint16(1), axes="ZCYX", channels=0).key,
    }
    assert len(keys) == 3
    assert AnnotatedImage.open(stack(), axes="ZCYX", channels=0).key in keys


def test_a_journal_finds_the_file_again_with_its_axes_channels_and_limits(tmp_path):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, stack(), photometric="minisblack")
    image = AnnotatedImage.open(path, axes="ZCYX", channels=(1,), pixel_size_um=0.5)
    AnnotationSession(image, tmp_path / "a.jsonl").close()
    with AnnotationSession.resume(tmp_path / "a.jsonl") as session:
        found = session.image
        assert (found.shape, found.channels, found.pixel_size_um) == (image.shape, (1,), (0.5, 0.5))
        assert (found.normalisation, found.key) == (image.normalisation, image.key)


def test_a_moved_file_is_the_same_image_and_a_missing_one_is_named(tmp_path):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, stack((20, 30)))
    record = json.loads(json.dumps(AnnotatedImage.open(path).to_record()))
    path.rename(tmp_path / "moved.tif")
    moved = AnnotatedImage.open(tmp_path / "moved.tif")
    assert AnnotatedImage.from_record(record, moved).shape == (20, 30)
    with pytest.raises(JournalError, match=r"cannot be opened: there is no file.*open it from its new place"):
        AnnotatedImage.from_record(record)
