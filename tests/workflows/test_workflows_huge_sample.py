"""The computed pyramid: any piece of any level is the same however it is asked for, and labels fit the light."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_sam.errors import ConfigError
from napari_sam.workflows.samples.huge import SIDE_PX, huge_nuclei

SAMPLE = huge_nuclei()
SMALL = huge_nuclei(1200, seed=3)
EXPECTED_LABELS = [[0, 0, 0, 0], [0, 0, 0, 775891], [0, 0, 0, 0], [777026, 0, 0, 0]]
"""Found once; the hash is of whole numbers, so there is nothing to round differently."""


def test_the_pyramid_is_50000_pixels_wide_and_each_level_half_the_one_before():
    assert [level.shape[0] for level in SAMPLE.image] == [50000, 25000, 12500, 6250, 3125, 1563, 782, 391]
    assert [level.shape for level in SAMPLE.labels] == [level.shape for level in SAMPLE.image]
    assert (SAMPLE.image[0].dtype, SAMPLE.labels[0].dtype) == (np.uint8, np.uint32)


@settings(max_examples=8, deadline=None)
@given(level=st.integers(0, 7), y=st.integers(0, SIDE_PX - 1), x=st.integers(0, SIDE_PX - 1), cut=st.integers(1, 39))
def test_pieces_fit_at_their_seams_on_every_level(level, y, x, cut):
    for pyramid in (SAMPLE.image, SAMPLE.labels):
        array = pyramid[level]
        side = array.shape[0]
        y0, x0 = min(y >> level, side - 40), min(x >> level, side - 40)
        whole = np.asarray(array[y0 : y0 + 40, x0 : x0 + 40])
        np.testing.assert_array_equal(array[y0 : y0 + 40, x0 + cut : x0 + 40], whole[:, cut:])
        np.testing.assert_array_equal(array[y0 + cut, x0 : x0 + 40], whole[cut])


@pytest.mark.parametrize("level", [1, 2, 5])
def test_labels_of_a_coarse_level_are_sampled_from_the_finest(level):
    step = 2**level
    coarse = np.asarray(SAMPLE.labels[level][-60:, -60:])
    start = (SAMPLE.labels[level].shape[0] - 60) * step
    np.testing.assert_array_equal(coarse, SAMPLE.labels[0][start::step, start::step])


@pytest.mark.parametrize("level", range(1, 6))
def test_a_coarse_level_is_about_the_mean_of_the_one_before(level):
    finer, coarser = SMALL.image[level - 1 : level + 1] if level < 3 else SAMPLE.image[level - 1 : level + 1]
    start = coarser.shape[0] // 3 if level > 2 else 0
    coarse = np.asarray(coarser[start : start + 150, start : start + 150]).astype(float)
    fine = np.asarray(finer[2 * start : 2 * start + 300, 2 * start : 2 * start + 300]).astype(float)
    assert abs(coarse.mean() - fine.mean()) < 0.1 * fine.mean()
    if level < 5:  # beyond, single nuclei are no longer drawn
        means = fine.reshape(150, 2, 150, 2).mean(axis=(1, 3))
        assert np.corrcoef(means.ravel(), coarse.ravel())[0, 1] > 0.8


def test_light_is_where_labels_are():
    window = np.s_[25000:25512, 25000:25512]
    image, labels = np.asarray(SAMPLE.image[0][window]), np.asarray(SAMPLE.labels[0][window])
    inside, outside = image[labels > 0], image[ndimage.binary_dilation(labels > 0, iterations=2) == 0]
    assert len(np.unique(labels)) > 50
    assert inside.mean() > 2 * outside.mean()
    assert outside.max() < np.percentile(inside, 30)


def test_each_label_is_one_object_of_the_size_of_a_nucleus():
    labels = np.asarray(SMALL.labels[0])
    values, areas = np.unique(labels[labels > 0], return_counts=True)
    places = ndimage.find_objects(labels)
    sides = [[s.stop - s.start for s in places[value - 1]] for value in values]
    assert np.max(sides) <= 2 * 20 / 0.75 + 2
    assert np.median(areas) == pytest.approx(np.pi * 14.5**2, rel=0.25)


def test_the_same_seed_gives_the_same_pixels_and_another_gives_others():
    window = np.s_[700:764, 900:964]
    np.testing.assert_array_equal(huge_nuclei(1200, seed=3).image[0][window], SMALL.image[0][window])
    assert np.any(np.asarray(huge_nuclei(1200, seed=4).image[0][window]) != np.asarray(SMALL.image[0][window]))


def test_the_pixels_are_the_same_on_every_machine():
    assert np.asarray(SAMPLE.labels[0][30000:30100:25, 20000:20100:25]).tolist() == EXPECTED_LABELS


@pytest.mark.parametrize("level", range(8))
def test_a_chunk_is_cheap_on_every_level(level):
    array = SAMPLE.image[level]
    np.asarray(array[:8, :8])
    started = time.process_time()
    np.asarray(array[:512, :512])
    assert time.process_time() - started < 1.0


def test_too_small_a_side_is_refused():
    with pytest.raises(ConfigError, match="at least 512, got 100"):
        huge_nuclei(100)
