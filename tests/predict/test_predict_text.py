"""Texts and crops, compared by a model whose answers can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.errors import ConfigError, PromptError
from napari_sam.geometry import Box, Mask
from napari_sam.predict.text import TextConfig, TextScorer, crop_of_mask, crop_window, unit_rows
from predict.predict_clip import ColourClip

RED, GREEN = (np.full((4, 5, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 90, 0)))
ALONE = TextConfig(against=(), templates=("{}",))


def test_without_rivals_the_score_is_the_cosine_similarity() -> None:
    scores = TextScorer(ColourClip(), "red", ALONE)([RED, GREEN, RED + GREEN])
    np.testing.assert_allclose(scores, [1, 0, 200 / np.hypot(200, 90)], atol=1e-6)


def test_with_rivals_the_score_is_the_probability_beside_them() -> None:
    config = TextConfig(against=("green", "blue"), templates=("{}",))
    red, green = TextScorer(ColourClip(), "red", config)([RED, GREEN])
    # Similarities times 10: (10, 0, 0), and (0, 10, 0).
    assert red == pytest.approx(np.exp(10) / (np.exp(10) + 2))
    assert green == pytest.approx(1 / (np.exp(10) + 2))


def test_sentences_of_a_text_are_averaged() -> None:
    clip = ColourClip()
    config = TextConfig(against=(), templates=("{}", "{} on green"))
    (score,) = TextScorer(clip, "red", config)([RED])
    mean = unit_rows(np.array([[1, 0, 0], [1, 1, 0]])).mean(axis=0)
    assert clip.texts == ["red", "red on green"]
    assert score == pytest.approx(mean[0] / np.linalg.norm(mean))


def test_crops_go_through_in_batches_and_keep_their_order() -> None:
    clip = ColourClip()
    config = TextConfig(against=(), crops_per_batch=3)
    scores = TextScorer(clip, "red", config)(RED if i % 2 else GREEN for i in range(8))
    assert clip.batches == [3, 3, 2]
    assert (scores > 0.5).tolist() == [bool(i % 2) for i in range(8)]
    assert TextScorer(clip, "red", config)([]).shape == (0,)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 39),
    st.integers(0, 39),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_a_crop_holds_its_mask_and_lies_in_the_frame(height, width, x, y, w, h) -> None:
    box = Box(x, y, x + w, y + h).clipped(Box.of_size((height, width)))
    if box.is_empty:
        box = Box(0, 0, 1, 1)
    mask = Mask.from_window(np.ones(box.size, bool), box, (height, width))
    for margin in (1.0, 1.5, 3.0):
        window = crop_window(mask, margin)
        assert window.contains_box(box)
        assert Box.of_size((height, width)).contains_box(window)


def test_a_crop_far_from_the_border_is_a_square_around_its_mask() -> None:
    mask = Mask.from_window(np.ones((10, 20), bool), Box(40, 50, 60, 60), (100, 100))
    assert crop_window(mask, 1.5) == Box(35, 40, 65, 70)


def test_what_lies_around_a_mask_is_shown_or_made_gray() -> None:
    mask = Mask.from_window(np.ones((2, 2), bool), Box(2, 2, 4, 4), (6, 6))
    window, pixels = Box(0, 0, 6, 6), np.full((6, 6, 3), 7, np.uint8)
    assert crop_of_mask(pixels, window, mask, "keep") is pixels
    shown = crop_of_mask(pixels, window, mask, "gray")
    np.testing.assert_array_equal(shown[..., 0] == 7, mask.to_array())
    reduced = crop_of_mask(pixels[:3, :3], window, mask, "gray")
    np.testing.assert_array_equal(reduced[..., 0] == 7, [[False] * 3, [False, True, False], [False] * 3])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text_thresh": 2.0}, r"text_thresh must lie in \[-1, 1\], got 2.0"),
        ({"templates": ("a photo",)}, r"must hold \{\} once"),
        ({"templates": ()}, r"must hold \{\} once"),
        ({"crop_margin": 0.9}, "crop_margin must be at least 1"),
        ({"mask_background": "blur"}, "mask_background must be one of keep, gray, got 'blur'"),
        ({"crops_per_batch": 0}, "crops_per_batch must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(fields, message) -> None:
    with pytest.raises(ConfigError, match=message):
        TextConfig(**fields)


def test_texts_that_say_nothing_are_refused() -> None:
    with pytest.raises(PromptError, match="the text is empty"):
        TextScorer(ColourClip(), "  ")
    with pytest.raises(PromptError, match="'background' is also in against"):
        TextScorer(ColourClip(), "background")
