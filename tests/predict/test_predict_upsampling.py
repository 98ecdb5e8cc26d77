from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from napari_sam.geometry import Box, ModelFrame
from napari_sam.predict import LogitUpsampler

SIZES = {
    "as large as the frame": (64, 64),
    "padded": (20, 64),
    "shrunk": (100, 130),
    "enlarged": (9, 7),
    "one pixel": (1, 1),
    "one row": (1, 300),
    "strip": (2, 5000),
}


def published(logits: np.ndarray, frame: ModelFrame) -> np.ndarray:
    """The published way: all of the frame, without its padding, to all of the image."""
    framed = F.interpolate(torch.from_numpy(logits)[None, None], 2 * (frame.model_size,), mode="bilinear")
    height, width = frame.input_size
    return F.interpolate(framed[..., :height, :width], frame.image_size, mode="bilinear")[0, 0].numpy()


def bump(low: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:low, :low]
    cy, cx, width = rng.uniform(-1, low + 1), rng.uniform(-1, low + 1), rng.uniform(0.3, low / 3)
    noise = 0.3 * rng.normal(size=(low, low))
    return (6 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / width**2) - 3 + noise).astype(np.float32)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_the_whole_image_equals_the_published_interpolation(size):
    frame, logits = ModelFrame(size, 64), np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    whole = LogitUpsampler((16, 16), frame).window(logits, Box.of_size(size))
    np.testing.assert_allclose(whole, published(logits, frame), atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(height=st.integers(1, 150), width=st.integers(1, 150), seed=st.integers(0, 10**6), data=st.data())
def test_a_window_equals_that_part_of_the_whole(height, width, seed, data):
    frame, logits = ModelFrame((height, width), 32), bump(8, seed)
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = Box(x0, y0, data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height)))
    window = LogitUpsampler((8, 8), frame).window(logits, box)
    np.testing.assert_allclose(window, published(logits, frame)[box.slices], atol=1e-5)


@settings(max_examples=200, deadline=None)
@given(height=st.integers(1, 150), width=st.integers(1, 150), seed=st.integers(0, 10**6), threshold=st.floats(-3, 3.5))
def test_no_pixel_above_the_threshold_lies_outside_the_window(height, width, seed, threshold):
    frame, logits = ModelFrame((height, width), 32), bump(8, seed)
    above = published(logits, frame) > threshold + 1e-5
    above[LogitUpsampler((8, 8), frame).window_above(logits, threshold).slices] = False
    assert not above.any()


def test_the_window_of_a_small_mask_is_small():
    logits = np.full((32, 32), -5, dtype=np.float32)
    logits[10, 20] = 5
    window = LogitUpsampler((32, 32), ModelFrame((256, 256), 128)).window_above(logits, 0)
    assert window.contains(20.5 * 8, 10.5 * 8)
    assert max(window.size) <= 3 * 8


def test_the_window_of_a_mask_in_the_padding_is_empty():
    logits = np.full((16, 16), -5, dtype=np.float32)
    logits[15] = 5
    assert LogitUpsampler((16, 16), ModelFrame((16, 64), 64)).window_above(logits, 0).is_empty


def test_logits_below_the_threshold_have_an_empty_window():
    logits = np.zeros((16, 16), dtype=np.float32)
    assert LogitUpsampler((16, 16), ModelFrame((64, 64), 64)).window_above(logits, 0).is_empty
