"""Sample data: what is there, that labels fit their image, and that nothing is fetched or computed ahead of time."""

from __future__ import annotations

import socket

import dask.array as da
import numpy as np
import pytest

from napari_sam.errors import ImageError
from napari_sam.ui import samples
from napari_sam.workflows.samples.images import REAL_SAMPLES, film, real_sample
from napari_sam.workflows.samples.phase import phase_contrast_film


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a sample asked for the network")

    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.mark.parametrize("name", REAL_SAMPLES)
def test_real_images_come_with_the_installation(name):
    sample = real_sample(name)
    assert sample.labels is None
    assert sample.image.dtype == np.uint8
    assert sample.image.std() > 5


def test_an_unknown_image_is_named():
    with pytest.raises(ImageError, match=r"the real images are coins, cell.*got 'cat'"):
        real_sample("cat")


@pytest.mark.parametrize("make", [samples.tissue_sample, samples.retina_sample, samples.galaxies_sample])
def test_coloured_samples_are_rgb_layers(make):
    ((_, options, kind),) = make()
    assert (kind, options["rgb"]) == ("image", True)


def test_the_film_keeps_each_cell_under_its_label_while_it_moves():
    sample = film()
    assert sample.image.shape == sample.labels.shape == (12, 384, 512)
    for before, after in zip(sample.labels, sample.labels[1:], strict=False):
        common = set(np.unique(before)) & set(np.unique(after)) - {0}
        assert len(common) > 10
        overlap = [np.sum((before == i) & (after == i)) / np.sum(before == i) for i in common]
        assert np.median(overlap) > 0.6
        assert np.median(overlap) < 1


def test_the_film_shows_dark_cells_with_bright_halos():
    sample = film()
    image, inside = sample.image[0].astype(float), sample.labels[0] > 0
    assert image[inside].mean() < image[~inside].mean() - 5


def test_the_same_seed_gives_the_same_film():
    first, second = (phase_contrast_film(seed=2, frames=2, size=(64, 96)) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_the_film_layers_have_a_time_axis():
    image, labels = samples.film_sample()
    assert image[1]["axis_labels"] == labels[1]["axis_labels"] == ("t", "y", "x")
    assert image[1]["rgb"] is False


def test_the_huge_sample_is_lazy_and_has_a_size():
    image, labels = samples.huge_sample()
    for data, options, _ in (image, labels):
        assert data[0].shape == (50_000, 50_000)
        assert all(isinstance(level, da.Array) for level in data)
        assert (options["scale"], options["units"], options["multiscale"]) == ((0.5, 0.5), ("um", "um"), True)
    assert (image[2], labels[2], labels[1]["visible"]) == ("image", "labels", False)
