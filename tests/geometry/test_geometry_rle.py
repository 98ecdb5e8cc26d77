import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from napari_sam.errors import ImageError
from napari_sam.geometry import Rle, counts_from_text, counts_to_text

small_masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


@given(small_masks)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_mask_survives_encoding_and_its_text_is_cocos(mask):
    rle = Rle.encode(mask)
    oracle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle.to_coco() == {"size": list(mask.shape), "counts": oracle["counts"].decode()}
    np.testing.assert_array_equal(rle.decode(), mask)
    assert rle.area == mask.sum()
    assert Rle.from_coco(rle.to_coco()) == rle


@pytest.mark.parametrize("density", [0.001, 0.5, 0.999])
def test_a_large_mask_has_cocos_text(density):
    mask = np.random.default_rng(0).random((431, 377)) < density
    mask[40:300, 50:] = True
    oracle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert Rle.encode(mask).to_coco()["counts"] == oracle["counts"].decode()
    np.testing.assert_array_equal(Rle.from_coco({"size": oracle["size"], "counts": oracle["counts"]}).decode(), mask)


@given(st.lists(st.integers(0, 2**50), max_size=30))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_counts_survive_their_text_also_beyond_32_bits(counts):
    assert counts_from_text(counts_to_text(counts)).tolist() == counts


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_a_mask_without_pixels_survives(shape):
    rle = Rle.encode(np.zeros(shape, dtype=bool))
    assert rle.decode().shape == shape
    assert rle.area == 0
    assert rle.to_coco()["counts"] == ""
    assert Rle.from_coco(rle.to_coco()) == rle


def test_everything_but_zero_is_inside():
    np.testing.assert_array_equal(Rle.encode([[0, 7], [-1, 0]]).decode(), [[False, True], [True, False]])


def test_uncompressed_counts_are_read():
    rle = Rle.from_coco({"size": [2, 2], "counts": [1, 3]})
    np.testing.assert_array_equal(rle.decode(), [[False, True], [True, True]])


@pytest.mark.parametrize("counts", [[1, 2, 0, 1], [1, 3, 0], [0, 0, 1, 3], [1, 1, 0, 2, 0, 0]])
def test_equal_pixels_are_equal_masks_whatever_the_empty_runs(counts):
    plain = Rle(2, 2, np.array([1, 3]))
    assert Rle(2, 2, np.array(counts)) == plain
    assert hash(Rle(2, 2, np.array(counts))) == hash(plain)


def test_masks_of_other_size_or_pixels_differ():
    assert Rle(2, 2, np.array([4])) != Rle(1, 4, np.array([4]))
    assert Rle(2, 2, np.array([4])) != Rle(2, 2, np.array([0, 4]))
    assert Rle(2, 2, np.array([4])) != "mask"


def test_counts_are_uint32_and_cannot_be_changed():
    counts = Rle.encode(np.eye(3)).counts
    assert counts.dtype == np.uint32
    with pytest.raises(ValueError, match="read-only"):
        counts[0] = 1


def test_the_callers_counts_stay_writable():
    counts = np.array([1, 3], dtype=np.uint32)
    Rle(2, 2, counts)
    counts[0] = 0
    assert counts[0] == 0


def test_a_mask_survives_pickling():
    rle = Rle.encode(np.eye(4))
    assert pickle.loads(pickle.dumps(rle)) == rle


def test_a_mask_that_is_not_2d_is_refused():
    with pytest.raises(ImageError, match=r"shape \(H, W\), got \(1, 2, 2\)"):
        Rle.encode(np.zeros((1, 2, 2)))


def test_runs_that_do_not_add_up_are_refused():
    with pytest.raises(ImageError, match="2 x 3 mask must add up to 6, got 5"):
        Rle(2, 3, np.array([1, 4]))


@pytest.mark.parametrize("counts", [[-1, 5], [2**32, 0]])
def test_runs_beyond_the_range_are_refused(counts):
    with pytest.raises(ImageError, match=r"must lie in \[0, 4294967295\]"):
        Rle(2, 2, np.array(counts))


@pytest.mark.parametrize("counts", [[1.0, 3.0], [[1, 3]]])
def test_runs_that_are_not_a_row_of_whole_numbers_are_refused(counts):
    with pytest.raises(ImageError, match="one row of whole numbers"):
        Rle(2, 2, np.array(counts))


def test_a_negative_size_is_refused():
    with pytest.raises(ImageError, match=r"at least 0, got \(-1, 4\)"):
        Rle(-1, 4, np.array([]))


def test_a_coco_mask_without_counts_is_refused():
    with pytest.raises(ImageError, match=r"keys 'size' and 'counts', got \['size'\]"):
        Rle.from_coco({"size": [2, 2]})


@pytest.mark.parametrize(
    "text", ["X", "1é", "1\x7f1", "1 1", "o" * 20 + "0"], ids=["cut off", "letter", "high", "low", "long"]
)
def test_a_damaged_text_is_refused(text):
    with pytest.raises(ImageError, match="COCO run-length text is wanted, got"):
        Rle.from_coco({"size": [2, 2], "counts": text})
