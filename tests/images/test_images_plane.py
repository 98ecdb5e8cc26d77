"""Boxes and reduced views of a plane, against plain numpy, and how little is read for them."""

import threading
import tracemalloc

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.errors import ImageError
from napari_sam.geometry import Box
from napari_sam.images import compute_normalisation, open_image
from napari_sam.images.levels import reduction_factor
from napari_sam.images.plane import block_means


def plain_block_means(pixels, step):
    """The obvious version: a loop over blocks."""
    h, w, c = pixels.shape
    view = np.full((-(-h // step), -(-w // step), c), np.nan)
    for row, column, channel in np.ndindex(view.shape):
        block = pixels[row * step : (row + 1) * step, column * step : (column + 1) * step, channel]
        valid = block[np.isfinite(block)]
        if valid.size:
            view[row, column, channel] = valid.mean(dtype=np.float64)
    return view


def mean_pyramid(image, levels):
    """Levels of exact means, for images whose sides are multiples of the last factor."""
    pyramid = [image.astype(np.float64)]
    for _ in range(levels - 1):
        last = pyramid[-1]
        pyramid.append(last.reshape(last.shape[0] // 2, 2, last.shape[1] // 2, 2).mean(axis=(1, 3)))
    return pyramid


@st.composite
def views(draw, height, width):
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    return Box(x0, y0, x1, y1), 2 ** draw(st.integers(0, 5))


IMAGE = np.random.default_rng(0).integers(0, 60000, (64, 96), dtype=np.uint16)


@settings(max_examples=60, deadline=None)
@given(views(64, 96))
def test_a_reduced_view_is_the_plain_block_mean(view):
    box, step = view
    expected = plain_block_means(IMAGE[box.slices][..., np.newaxis], step)
    result = open_image(IMAGE).plane().read_raw(box, step)
    assert result.shape == (-(-box.height // step), -(-box.width // step), 1)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(views(64, 96))
def test_a_view_is_the_same_through_any_level_that_fits(view):
    box, step = view
    # Ends on the lattice too: a level's pixel at a ragged end would cover more than the box.
    box = Box(box.x0, box.y0, box.x0 + -(-box.width // step) * step, box.y0 + -(-box.height // step) * step)
    box = box.clipped(Box(0, 0, 96, 64))
    ragged = box.width % step or box.height % step
    source = open_image(mean_pyramid(IMAGE, 5))
    result = source.plane().read_raw(box, step)
    assert result.shape[:2] == (-(-box.height // step), -(-box.width // step))
    if not ragged:
        np.testing.assert_allclose(result, plain_block_means(IMAGE[box.slices][..., np.newaxis], step), rtol=1e-6)


def counting(array, reads):
    class Counting:
        shape, dtype = array.shape, array.dtype

        def __getitem__(self, key):
            reads.append(key)
            return array[key]

    return Counting()


@pytest.mark.parametrize(
    ("box", "step", "level"),
    [
        (Box(0, 0, 96, 64), 1, 0),
        (Box(0, 0, 96, 64), 2, 1),
        (Box(0, 0, 96, 64), 4, 2),
        (Box(0, 0, 96, 64), 16, 2),
        (Box(8, 16, 90, 60), 8, 2),
        (Box(2, 2, 66, 66 - 4), 8, 1),
        (Box(1, 0, 65, 64), 8, 0),
    ],
)
def test_the_coarsest_level_that_fits_is_read(box, step, level):
    reads = [[], [], []]
    levels = [counting(array, log) for array, log in zip(mean_pyramid(IMAGE, 3), reads, strict=True)]
    open_image(levels).plane().read_raw(box, step)
    assert [bool(log) for log in reads] == [i == level for i in range(3)]


def test_levels_that_are_rounded_down_still_cover_the_edge():
    image = np.arange(101 * 67, dtype=np.float32).reshape(101, 67)
    plane = open_image([image, image[:100:2, :66:2]]).plane()
    assert plane.read_raw(Box(0, 0, 67, 101), 2).shape == (51, 34, 1)
    last = plane.read_raw(Box(66, 100, 67, 101), 2)
    assert last.item() == image[-1, -1]


@pytest.mark.parametrize(
    ("size", "reduced", "factor"),
    [
        ((100, 100), (100, 100), 1),
        ((100, 100), (50, 50), 2),
        ((101, 67), (50, 34), 2),
        ((1000, 2000), (62, 125), 16),
        ((2, 100000), (1, 25000), 4),
        ((100, 100), (33, 33), None),
        ((100, 100), (50, 100), None),
        ((100, 100), (45, 50), None),
    ],
)
def test_levels_are_used_where_they_shrink_by_a_power_of_two(size, reduced, factor):
    assert reduction_factor(size, reduced) == factor


def test_a_level_of_another_depth_is_not_used():
    stack = np.zeros((4, 64, 64), np.uint8)
    assert open_image([stack, stack[::2, ::2, ::2]]).level_factors == (1, None)


def test_means_leave_out_what_is_not_valid():
    pixels = np.array([[1.0, np.nan, np.inf, 5.0], [3.0, -np.inf, np.nan, np.nan]])[..., np.newaxis]
    np.testing.assert_allclose(block_means(pixels, 2)[..., 0], [[2.0, 5.0]])
    np.testing.assert_allclose(block_means(pixels[:, 1:3], 2), [[[np.nan]]])
    np.testing.assert_allclose(block_means(np.array([[[4], [9], [9], [9]]]), 2, nodata=9)[..., 0], [[4.0, np.nan]])


@pytest.mark.parametrize("shape", [(1, 1), (2, 100000), (100000, 2), (1, 4099)], ids=str)
def test_thin_images_are_reduced(shape):
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    plane = open_image(image).plane()
    view = plane.read_raw(Box(0, 0, shape[1], shape[0]), 64)
    assert view.shape == (-(-shape[0] // 64), -(-shape[1] // 64), 1)
    np.testing.assert_allclose(view[0, 0, 0], image[:64, :64].mean(), rtol=1e-6)
    assert plane.read(Box(0, 0, 1, 1)).shape == (1, 1, 3)


def test_a_bool_image_is_reduced_to_shares():
    image = np.zeros((4, 4), bool)
    image[0, 0] = True
    plane = open_image(image).plane()
    assert plane.read(Box(0, 0, 4, 4), 2)[..., 0].tolist() == [[64, 0], [0, 0]]


def test_colours_are_reduced_each_for_itself():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    view = open_image(image).plane().read(Box(0, 0, 60, 40), 4)
    np.testing.assert_allclose(view, plain_block_means(image, 4), atol=0.51)


def test_a_small_box_of_a_huge_tiled_tiff_decodes_the_tiles_it_touches(tmp_path, monkeypatch):
    image = np.random.default_rng(0).integers(0, 255, (1024, 1024), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(64, 64), compression="zlib")
    plane = open_image(tmp_path / "a.tif").plane()
    pieces = []
    original = tifffile.FileHandle.read

    def counting_read(self, size=-1, /):
        pieces.append(size)
        return original(self, size)

    monkeypatch.setattr(tifffile.FileHandle, "read", counting_read)
    box = Box(100, 200, 200, 250)
    np.testing.assert_array_equal(plane.read_raw(box)[..., 0], image[box.slices])
    assert len(pieces) == 3 * 1  # columns 64:256 are three tiles, rows 192:256 one
    plane.read_raw(Box(64, 192, 256, 256))
    assert len(pieces) == 3, "the same tiles again come from the cache"


def test_the_cache_of_tiles_is_bounded(tmp_path):
    from napari_sam.images.cache import PieceCache

    cache = PieceCache(limit_bytes=100)
    for i in range(50):
        cache.put((0, str(i)), bytes(30))
    assert [i for i in range(50) if cache.get((0, str(i))) is not None] == [47, 48, 49]
    cache.put((0, "large"), bytes(101))
    assert cache.get((0, "large")) is None


def test_a_small_box_of_a_huge_zarr_reads_the_chunks_it_touches():
    store = zarr.storage.MemoryStore()
    array = zarr.create_array(store, shape=(2**20, 2**20), chunks=(256, 256), dtype="u2", fill_value=3)
    array[256:512, 512:768] = 9
    plane = open_image(array).plane()
    tracemalloc.start()
    pixels = plane.read_raw(Box(700, 400, 800, 520))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6
    assert (pixels[:112, :68] == 9).all()
    assert (pixels[112:] == 3).all()


def test_a_reduced_view_of_a_large_image_takes_bounded_memory():
    lazy = zarr.create_array(zarr.storage.MemoryStore(), shape=(15000, 15000), chunks=(1024, 1024), dtype="u2")
    tracemalloc.start()
    view = open_image(lazy).plane().read_raw(Box(0, 0, 15000, 15000), 256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert view.shape == (59, 59, 1)
    assert peak < 100e6, "the image itself has 450 MB"


def test_limits_of_a_huge_image_come_from_a_bounded_sample():
    reads = []
    lazy = counting(
        zarr.create_array(zarr.storage.MemoryStore(), shape=(2**17, 2**17), chunks=(512, 512), dtype="u2"), reads
    )
    limits = compute_normalisation(open_image(lazy).plane(), max_samples=2**18)
    assert limits.upper == (0.0,)
    sizes = [(k[0].stop - k[0].start) * (k[1].stop - k[1].start) for k in reads]
    assert sum(sizes) <= 2**18
    assert max(k[0].stop for k in reads) == max(k[1].stop for k in reads) == 2**17


def test_threads_read_the_same_pixels(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (512, 512), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(64, 64), compression="zlib")
    plane = open_image(tmp_path / "a.tif").plane()
    boxes = [Box(x, y, x + 200, y + 200) for x in range(0, 300, 75) for y in range(0, 300, 75)]
    right = []

    def check(box):
        right.append(np.array_equal(plane.read_raw(box)[..., 0], image[box.slices]))

    threads = [threading.Thread(target=check, args=(box,)) for box in boxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * len(boxes)


@pytest.mark.parametrize(
    ("box", "step", "message"),
    [
        (Box(0, 0, 97, 64), 1, r"box \(0, 0, 97, 64\) must .* lie inside .*96 wide and 64 high; clip it"),
        (Box(-1, 0, 5, 5), 1, r"box \(-1, 0, 5, 5\)"),
        (Box(3, 3, 3, 8), 1, "at least one pixel"),
        (Box(0, 0, 8, 8), 3, "power of two from 1 to 16384, got 3"),
        (Box(0, 0, 8, 8), 0, "got 0"),
        (Box(0, 0, 8, 8), -2, "got -2"),
    ],
)
def test_views_outside_or_of_an_odd_step_are_refused(box, step, message):
    with pytest.raises(ImageError, match=message):
        open_image(IMAGE).plane().read(box, step)
