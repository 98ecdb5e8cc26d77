"""Pixels in memory on their way to worker processes: written once, read in parts, gone at the end."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import tifffile

from napari_sam.errors import OutputError
from napari_sam.geometry import Box
from napari_sam.images import open_image
from napari_sam.workflows.sent_pixels import sent_to_workers

BOX = Box(3, 5, 40, 30)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "axes", "at"),
    [
        ((40, 60), "YX", {}),
        ((40, 60, 3), "YXS", {}),
        ((2, 40, 4, 60), "CYZX", {"z": 3}),
        ((5, 40, 60), "TYX", {"t": 2}),
    ],
)
def test_what_is_read_there_is_what_is_read_here(tmp_path, rng, shape, axes, at):
    plane = open_image(rng.integers(0, 255, shape, dtype=np.uint8), axes=axes).plane(**at)
    with sent_to_workers(plane.with_normalisation(plane.normalisation), tmp_path) as sent:
        package = pickle.dumps(sent.read)
        assert len(package) < 4096
        np.testing.assert_array_equal(pickle.loads(package)(BOX, 1), plane.read(BOX))
        (file,) = tmp_path.iterdir()
        planes = [shape[axes.index(axis)] for axis in "TZ" if axis in axes]
        assert file.stat().st_size < np.prod(shape) // max(planes, default=1) + 1000  # of the plane alone
    assert not list(tmp_path.iterdir())


def test_all_levels_of_a_pyramid_are_sent(tmp_path, rng):
    fine = rng.integers(0, 255, (64, 64), dtype=np.uint8)
    plane = open_image([fine, fine[::2, ::2]]).plane()
    with sent_to_workers(plane.with_normalisation(plane.normalisation), tmp_path) as sent:
        read = pickle.loads(pickle.dumps(sent.read))
        np.testing.assert_array_equal(read(Box(0, 0, 32, 32), 2), plane.read(Box(0, 0, 32, 32), 2))


def test_a_file_stays_where_it_is(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 60), np.uint8))
    plane = open_image(tmp_path / "a.tif").plane()
    with sent_to_workers(plane, tmp_path) as sent:
        assert sent is plane


def test_a_disk_that_is_full_is_told(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    plane = open_image(np.zeros((40, 60), np.uint8)).plane()
    with (
        pytest.raises(OutputError, match=r"cannot be written to .*pixels-0.npy: No space left on device. Free some"),
        sent_to_workers(plane, tmp_path),
    ):
        pass
