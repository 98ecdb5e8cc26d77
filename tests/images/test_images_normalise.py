"""One contrast for the whole image: what the limits are, and that nothing but the image decides them."""

import json

import dask.array
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.errors import ImageError
from napari_sam.geometry import Box
from napari_sam.images import Normalisation, compute_normalisation, normalise_image, open_image
from napari_sam.images.normalise import MIN_SPAN_IN_NOISE, limits_of, sample_windows


def cells(height=300, width=300, share=0.01, seed=0):
    """Noise of deviation 5 around 100, and bright pixels in square nuclei on a given share of the image."""
    rng = np.random.default_rng(seed)
    image = rng.normal(100, 5, (height, width))
    count = round(height * width * share / 100)
    for y, x in rng.integers(0, (height - 10, width - 10), (count, 2)):
        image[y : y + 10, x : x + 10] += rng.uniform(500, 1500)
    return image.astype(np.uint16)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_tiles_put_together_equal_the_whole(tile_h, tile_w, seed):
    plane = open_image(cells(100, 120, 0.05, seed)).plane()
    whole = plane.read(Box(0, 0, 120, 100))
    rows = [
        np.concatenate(
            [plane.read(Box(x, y, x + tile_w, y + tile_h).clipped(Box(0, 0, 120, 100))) for x in range(0, 120, tile_w)],
            axis=1,
        )
        for y in range(0, 100, tile_h)
    ]
    np.testing.assert_array_equal(np.concatenate(rows), whole)


def test_limits_do_not_depend_on_how_the_image_is_stored(tmp_path):
    image = cells(500, 600)
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(64, 64), compression="zlib")
    sources = [image, dask.array.from_array(image, chunks=(77, 91)), [image, image[::2, ::2]], tmp_path / "a.tif"]
    limits = {compute_normalisation(open_image(source).plane(), max_samples=20000) for source in sources}
    assert len(limits) == 1


def test_the_image_in_memory_is_seen_as_the_same_image_opened_lazily():
    image = cells()
    np.testing.assert_array_equal(normalise_image(image), open_image(image).plane().read(Box(0, 0, 300, 300)))


def test_a_sample_gives_nearly_the_limits_of_the_whole():
    plane = open_image(cells(1500, 1500)).plane()
    whole = compute_normalisation(plane, max_samples=1500 * 1500)
    sampled = compute_normalisation(plane, max_samples=400_000)
    assert whole != sampled
    np.testing.assert_allclose(sampled.lower, whole.lower, rtol=0.02)
    np.testing.assert_allclose(sampled.upper, whole.upper, rtol=0.05)


def test_nuclei_on_one_percent_of_the_image_are_not_saturated():
    image = cells(share=0.01)
    bright = normalise_image(image)[..., 0][image > 500]
    assert np.mean(bright == 255) < 0.15
    assert bright.std() > 30


def test_a_few_hot_pixels_do_not_matter():
    image = cells()
    hot = image.copy()
    hot[::60, ::60] = 65535
    difference = normalise_image(hot)[..., 0].astype(int) - normalise_image(image)[..., 0]
    assert np.abs(difference[hot == image]).max() < 40


def test_noise_alone_stays_dim():
    noise = np.random.default_rng(0).normal(1000, 20, (300, 300))
    for image in (noise, noise.astype(np.float32), noise.astype(np.uint16), noise * 1e-6):
        assert normalise_image(image)[..., 0].std() < 1.1 * 255 / MIN_SPAN_IN_NOISE


def test_an_empty_tile_of_an_image_with_cells_stays_empty():
    image = cells()
    image[:100, :100] = np.random.default_rng(3).normal(100, 5, (100, 100))
    assert open_image(image).plane().read(Box(0, 0, 100, 100)).max() < 15


def test_colour_images_of_8_bits_stay_as_they_are():
    image = np.random.default_rng(0).integers(90, 130, (40, 50, 4), dtype=np.uint8)
    np.testing.assert_array_equal(normalise_image(image), image[..., :3])
    assert open_image(image).plane().normalisation.is_identity


def test_colours_of_16_bits_keep_their_balance():
    image = np.kron(np.random.default_rng(0).random((8, 8, 1)), np.ones((8, 8, 1))) * [4000, 2000, 1000] + 100
    seen = normalise_image(image.astype(np.uint16)).astype(float)
    np.testing.assert_allclose(seen[..., 1], seen[..., 0] / 2, atol=4)


def test_channels_are_stretched_each_for_itself():
    image = np.stack([cells(seed=1), cells(seed=2) // 8, cells(seed=3)])
    limits = open_image(image, axes="CYX").plane(channels=(1, 2)).normalisation
    assert limits.upper[0] < limits.upper[1] / 4


def test_of_two_channels_the_mean_is_blue():
    limits = Normalisation((0.0, 0.0), (255.0, 255.0))
    assert limits.apply(np.array([[[10, 21]]], np.uint8)).tolist() == [[[10, 21, 16]]]


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">u2", ">f4"])
def test_every_pixel_type_gives_the_same_picture(dtype):
    blocks = np.kron(np.arange(100).reshape(10, 10), np.ones((5, 5)))
    seen = normalise_image(blocks.astype(dtype))
    np.testing.assert_allclose(seen[..., 0], blocks * 255 / 99, atol=1)
    assert (seen == seen[..., :1]).all()


def test_bool_becomes_black_and_white():
    assert normalise_image(np.array([[True, False]]))[..., 0].tolist() == [[255, 0]]


def test_nan_and_infinity_do_not_count_and_become_0():
    image = np.full((20, 20), 7.0)
    image[10:] = 9
    image[0, :3] = [np.nan, np.inf, -np.inf]
    seen = normalise_image(image)[..., 0]
    assert seen[0, :4].tolist() == [0, 0, 0, 0]
    assert seen[-1, -1] == 255


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_nodata_does_not_count_and_becomes_0(dtype):
    image = np.full((20, 20, 1), 70, dtype)
    image[10:] = 90
    image[0] = -9999
    limits = limits_of([image], is_rgb=False, nodata=-9999)
    assert (limits.lower, limits.nodata) == ((70.0,), -9999)
    seen = limits.apply(image)
    assert (seen[0].max(), seen[-1].min()) == (0, 255)


def test_only_pixels_that_are_nodata_in_every_channel_hold_no_data():
    colours = np.array([[[7, 7, 7], [7, 8, 9]]], np.uint8)
    assert Normalisation((0.0,) * 3, (255.0,) * 3, nodata=7).apply(colours).tolist() == [[[0, 0, 0], [7, 8, 9]]]


@pytest.mark.parametrize("value", [0, 7, 255, -1.5, np.nan, np.inf], ids=str)
def test_a_constant_image_is_black(value):
    assert normalise_image(np.full((6, 7), value)).max() == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 100000), (2, 2)], ids=str)
def test_thin_images_have_limits(shape):
    seen = normalise_image(np.arange(np.prod(shape), dtype=np.int64).reshape(shape))
    assert seen.shape == (*shape, 3)
    assert seen[-1, -1, 0] >= seen[0, 0, 0]


@pytest.mark.parametrize(
    "values",
    [[1e308, -1e308, 0.0], [5e-324, 0.0, 0.0], [np.iinfo(np.int64).min, np.iinfo(np.int64).max, 0]],
    ids=["huge", "tiny", "int64"],
)
def test_extreme_values_overflow_nothing(values):
    seen = normalise_image(np.array([values] * 50))[..., 0]
    assert seen[0, np.argmax(values)] >= seen[0, np.argmin(values)]


def test_every_plane_of_a_stack_has_the_limits_of_the_stack():
    stack = np.stack([cells(seed=z) // (z + 1) for z in range(12)])
    source = open_image(stack)
    assert source.plane(z=0).normalisation == source.plane(z=11).normalisation


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 200_000))
def test_sample_windows_lie_inside_and_are_bounded(height, width, max_samples):
    windows = sample_windows((height, width), max_samples)
    areas = [(rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in windows]
    assert all(0 <= r.start < r.stop <= height and 0 <= c.start < c.stop <= width for r, c in windows)
    assert sum(areas) <= max(max_samples, areas[0])


def test_a_normalisation_survives_json():
    plane = open_image(np.stack([cells(), cells(seed=5)]) * 1.1, axes="CYX").plane()
    stored = json.loads(json.dumps(plane.normalisation.to_dict(), allow_nan=False))
    assert Normalisation.from_dict(stored) == plane.normalisation


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normalisation((1.0,), (0.0,)), r"each at most its upper limit, got \(1.0,\) and \(0.0,\)"),
        (lambda: Normalisation((), ()), "1 to 3 finite lower limits"),
        (lambda: Normalisation((0.0,), (np.nan,)), "1 to 3 finite lower limits"),
        (lambda: Normalisation((0.0,), (1.0,)).apply(np.zeros((4, 4))), r"pixels \(h, w, 1\), got \(4, 4\)"),
        (lambda: Normalisation.from_dict({"lower": [0]}), "lists 'lower' and 'upper' of numbers, got.*'upper'"),
        (lambda: normalise_image(np.zeros((3, 0))), r"no side of 0.*got \(3, 0\)"),
        (lambda: normalise_image(np.zeros((3, 3, 7))), r"C from 1 to 4.*got \(3, 3, 7\)"),
        (lambda: normalise_image(np.zeros((3, 3), complex)), "bool, integer or float, got.*complex128"),
        (lambda: compute_normalisation(open_image(cells()).plane(), low=50, high=2), "got low = 50 and high = 2"),
    ],
)
def test_bad_limits_and_images_are_refused(make, message):
    with pytest.raises(ImageError, match=message):
        make()
