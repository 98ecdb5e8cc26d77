"""Sparse labels against a plain numpy array that holds the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from annotate_scenes import rectangle
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_sam.annotate.labels import SparseLabels
from napari_sam.errors import AnnotationError, ConfigError
from napari_sam.geometry import Box, Mask

SHAPES = st.sampled_from([(37, 50), (3, 20, 40), (2, 2, 33, 18), (1, 1), (0, 5), (16, 16)])
CHUNK = 16


def filled(shape, seed, memory_bytes=1 << 20):
    """The same labels dense and sparse, in patches so that some chunks stay empty."""
    rng = np.random.default_rng(seed)
    dense = np.zeros(shape, np.uint32)
    sparse = SparseLabels(shape, chunk_px=CHUNK, memory_bytes=memory_bytes)
    for _ in range(4):
        corner = [int(rng.integers(0, side + 1)) for side in shape]
        key = tuple(slice(c, c + int(rng.integers(1, 12))) for c in corner)
        dense[key] = sparse[key] = int(rng.integers(1, 9))
    return dense, sparse


@st.composite
def keys(draw, shape):
    """Anything numpy takes: ints, slices with any step, ellipsis, new axes, index arrays."""
    kind = draw(st.sampled_from(["basic", "pixels", "mixed", "mask"]))
    if 0 in shape or kind == "basic":
        return draw(hnp.basic_indices(shape, allow_newaxis=True))
    if kind == "mask":
        return draw(hnp.arrays(np.bool_, shape, fill=st.just(False)))
    n = draw(st.integers(0, 5))
    arrays = [draw(hnp.arrays(np.int64, n, elements=st.integers(-side, side - 1))) for side in shape]
    if kind == "pixels":
        return tuple(arrays)
    return tuple(draw(st.sampled_from([array, slice(None, None, -2), 0])) for array in arrays)


@given(SHAPES, st.integers(0, 99), st.data())
@settings(max_examples=60, deadline=None)
def test_reading_gives_what_numpy_gives(shape, seed, data):
    dense, sparse = filled(shape, seed)
    key = data.draw(keys(shape))
    expected = dense[key]
    found = sparse[key]
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_array_equal(found, expected)
    assert np.asarray(found).dtype == dense.dtype


@given(SHAPES, st.integers(0, 99), st.data())
@settings(max_examples=60, deadline=None)
def test_writing_does_what_numpy_does(shape, seed, data):
    dense, sparse = filled(shape, seed)
    key = data.draw(keys(shape))
    value = data.draw(st.sampled_from([0, 7, "many"]))
    if value == "many":
        value = np.arange(dense[key].size, dtype=np.uint32).reshape(np.shape(dense[key])) % 5
    dense[key] = value
    sparse[key] = value
    np.testing.assert_array_equal(np.asarray(sparse), dense)


@given(SHAPES, st.integers(0, 99), st.data())
@settings(max_examples=20, deadline=None)
def test_what_was_written_by_index_can_be_taken_back(shape, seed, data):
    before, sparse = filled(shape, seed)
    sparse.keeps_edits = True
    for _ in range(3):
        sparse[data.draw(keys(shape))] = data.draw(st.integers(0, 9))
    after = np.asarray(sparse)
    edits = sparse.take_edits()
    assert not sparse.has_edits
    for patch in reversed(edits):
        sparse.revert(patch)
    np.testing.assert_array_equal(np.asarray(sparse), before)
    for patch in edits:
        sparse.apply(patch)
    np.testing.assert_array_equal(np.asarray(sparse), after)


@given(SHAPES, st.integers(0, 99), st.integers(0, 6), st.data())
@settings(max_examples=30, deadline=None)
def test_a_level_is_every_2_to_the_k_th_row_and_column(shape, seed, k, data):
    dense, sparse = filled(shape, seed)
    expected = dense[..., :: 2**k, :: 2**k]
    level = sparse.level(k)
    assert level.shape == expected.shape
    np.testing.assert_array_equal(np.asarray(level), expected)
    key = data.draw(keys(expected.shape))
    np.testing.assert_array_equal(level[key], expected[key])


@given(st.integers(0, 99), st.data())
@settings(max_examples=8, deadline=None)
def test_chunks_that_went_to_disk_come_back_as_they_were(seed, data):
    dense, sparse = filled((100, 120), seed, memory_bytes=1)  # room for two chunks
    for _ in range(6):
        x, y = data.draw(st.tuples(st.integers(0, 110), st.integers(0, 90)))
        value = data.draw(st.integers(0, 4))
        dense[y : y + 30, x : x + 30] = value
        sparse[y : y + 30, x : x + 30] = value
        assert sparse.n_chunks_in_memory <= 2
    np.testing.assert_array_equal(np.asarray(sparse.level(4)), dense[::16, ::16])
    np.testing.assert_array_equal(np.asarray(sparse), dense)
    sparse.close()


def test_the_temporary_folder_goes_with_the_labels(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sparse = SparseLabels((100, 100), chunk_px=16, memory_bytes=1)
    sparse[...] = 5
    assert len(list(tmp_path.glob("*/*.z"))) == 49 - 2
    sparse.close()
    assert not list(tmp_path.iterdir())


def test_chunks_that_become_empty_are_given_back():
    sparse = SparseLabels((64, 64), chunk_px=16)
    sparse[0:20, 0:20] = 3
    assert sparse.n_chunks == 4
    sparse[0:20, 0:20] = 0
    assert sparse.n_chunks == 0
    assert sparse.n_chunks_in_memory == 0


def test_a_commit_in_a_huge_image_touches_its_chunks_only():
    frame = (50_000, 50_000)
    sparse = SparseLabels(frame)
    mask = Mask.from_window(np.ones((30, 30), bool), Box(40_001, 30_000, 40_031, 30_030), frame)
    patch = sparse.paint((), mask, 9, "keep_objects")
    assert sparse.n_chunks == 1
    assert patch.area == 900
    assert sparse[30_010, 40_010] == 9
    assert np.asarray(sparse.level(6)).sum() == 0  # no pixel of it is on the lattice of 64
    assert sparse.level(3)[3750:3754, 5000:5004].max() == 9
    sparse.revert(patch)
    assert sparse.n_chunks == 0


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 60), st.integers(1, 60), st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_painting_and_taking_back_match_a_dense_array(x, y, w, h, seed):
    frame = (64, 64)
    dense, sparse = filled(frame, seed)
    pixels = np.random.default_rng(seed).random((64, 64)) < 0.6
    pixels[:y], pixels[y + h :], pixels[:, :x], pixels[:, x + w :] = False, False, False, False
    mask = Mask.from_array(pixels)
    patch = sparse.paint((), mask, 42)
    expected = np.where(pixels, 42, dense)
    np.testing.assert_array_equal(np.asarray(sparse), expected)
    assert sparse.mask_of(42).area == pixels.sum()
    sparse.revert(patch)
    np.testing.assert_array_equal(np.asarray(sparse), dense)


def test_the_mask_of_a_label_is_found_anywhere_and_in_its_plane_only():
    sparse = SparseLabels((2, 40, 40), chunk_px=16)
    sparse[0, 3:5, 10:30] = 4
    sparse[1, 20, 20] = 4
    found = sparse.mask_of(4, (0,))
    assert (found.box, found.area) == (Box(10, 3, 30, 5), 40)
    assert sparse.mask_of(4, (1,)).area == 1
    assert sparse.mask_of(4, (0,), within=Box(0, 0, 12, 40)).area == 4
    assert sparse.mask_of(5, (0,)).is_empty
    assert sparse.planes() == [(0,), (1,)]


@pytest.mark.parametrize("key", [(5, 0), (0, -6), ([0, 9], [0, 0]), (0, 0, 0), (..., ...)], ids=str)
def test_indices_outside_raise_as_in_numpy(key):
    sparse, dense = SparseLabels((5, 5), chunk_px=16), np.zeros((5, 5))
    with pytest.raises(IndexError):
        dense[key]
    with pytest.raises(IndexError):
        sparse[key]


def test_an_index_that_is_no_number_is_named():
    with pytest.raises(IndexError, match=r"whole numbers.*1.5"):
        SparseLabels((5, 5), chunk_px=16)[[1.5], [0]]


def test_painting_names_a_wrong_plane_frame_or_label():
    sparse = SparseLabels((3, 12, 16), chunk_px=16)
    with pytest.raises(AnnotationError, match=r"plane \(3,\) is not in this image.*1 whole numbers"):
        sparse.paint((3,), rectangle(0, 0, 2, 2), 1)
    with pytest.raises(AnnotationError, match=r"frame \(5, 5\).*labels of \(12, 16\)"):
        sparse.paint((0,), rectangle(0, 0, 2, 2, (5, 5)), 1)
    with pytest.raises(AnnotationError, match=r"label -1 is outside.*0 to 4294967295"):
        sparse.paint((0,), rectangle(0, 0, 2, 2), -1)
    with pytest.raises(AnnotationError, match="whole numbers, got values of type float64"):
        sparse[0, 0, 0] = 1.5


def test_a_chunk_side_that_does_not_fit_is_named():
    with pytest.raises(ConfigError, match=r"chunk_px a multiple of 16.*40"):
        SparseLabels((5, 5), chunk_px=40)
    with pytest.raises(ConfigError, match="level must lie in 0 to 30, got 31"):
        SparseLabels((5, 5)).level(31)


def test_a_full_disk_is_told_when_chunks_go_there(monkeypatch):
    sparse = SparseLabels((100, 100), chunk_px=16, memory_bytes=1)

    def refuse(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(Exception, match=r"No space left.*disk is full"):
        sparse[...] = 5
    sparse.close()
