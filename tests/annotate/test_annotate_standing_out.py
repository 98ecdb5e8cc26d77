"""How far objects stand out from what is around them, and that those which fade away end there."""

from __future__ import annotations

import numpy as np
import pytest
from annotate_flood import AS_IT_IS, FloodSegmenter
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.annotate.embeddings import EmbeddingStore
from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.standing_out import StandingOut, contrast
from napari_sam.annotate.volumes import PropagateConfig, propagate
from napari_sam.geometry import Mask

SIDE = 48
Y, X = np.indices((SIDE, SIDE))
DISC = (Y - 24) ** 2 + (X - 20) ** 2 <= 49
MASK = Mask.from_array(DISC)


def stack_of(*planes: np.ndarray) -> AnnotatedImage:
    return AnnotatedImage.open(np.stack(planes).astype(np.uint8), axes="ZYX", normalisation=AS_IT_IS)


def disc(inside: float, around: float = 60) -> np.ndarray:
    return np.where(DISC, inside, around)


@settings(max_examples=25, deadline=None)
@given(inside=st.integers(0, 255), around=st.integers(0, 255))
def test_contrast_is_what_is_inside_minus_what_is_around(inside, around):
    difference, spread = contrast(stack_of(disc(inside, around)).plane((0,)), MASK)
    np.testing.assert_allclose(difference, inside - around)
    assert spread == 0


def test_a_neighbour_in_the_surroundings_does_not_count():
    pixels = disc(200)
    pixels[10:38, 29:33] = 255
    difference, _ = contrast(stack_of(pixels).plane((0,)), MASK)
    np.testing.assert_allclose(difference, 140)


def test_a_mask_with_nothing_around_it_has_no_contrast():
    difference, spread = contrast(stack_of(disc(200)).plane((0,)), Mask.from_array(np.ones((SIDE, SIDE), bool)))
    assert (difference.tolist(), spread) == ([0, 0, 0], 0)


def test_a_huge_object_is_looked_at_with_few_pixels():
    pixels = np.zeros((1, 1400, 1400), np.uint8)
    pixels[0, 100:1300, 100:1300] = 90
    plane = AnnotatedImage.open(pixels, axes="ZYX", normalisation=AS_IT_IS).plane((0,))
    difference, _ = contrast(plane, Mask.from_array(pixels[0] > 0))
    np.testing.assert_allclose(difference, 90)


@pytest.mark.parametrize(("inside", "share"), [(160, 1.0), (110, 0.5), (60, 0.0), (35, -0.25)])
def test_the_share_is_of_the_most_so_far_whether_objects_are_bright_or_dark(inside, share):
    for planes in ((disc(160), disc(inside)), (disc(255 - 160, 255 - 60), disc(255 - inside, 255 - 60))):
        image = stack_of(*planes)
        assert StandingOut(image.plane((0,)), MASK).share(image.plane((1,)), MASK) == pytest.approx(share)


def test_one_that_was_pointed_at_where_it_is_dim_is_measured_by_where_it_is_bright():
    image = stack_of(disc(100), disc(220), disc(100))
    out = StandingOut(image.plane((0,)), MASK)
    assert out.share(image.plane((1,)), MASK) == pytest.approx(4)
    assert out.share(image.plane((2,)), MASK) == pytest.approx(0.25)


def test_of_what_differs_in_texture_alone_nothing_is_said():
    rng = np.random.default_rng(0)
    image = stack_of(120 + rng.normal(0, 20, (SIDE, SIDE)), disc(0))
    out = StandingOut(image.plane((0,)), MASK)
    assert not out.is_clear
    assert out.share(image.plane((1,)), MASK) == 1


def test_an_object_ends_where_it_is_only_a_blur_of_itself():
    # The stand-in for the model finds all that is brighter than 127, the blur of the object's end too.
    planes = [disc(value) for value in (130, 250, 250, 240, 200, 130, 129, 60)]
    image = stack_of(*planes)

    def last_planes(config: PropagateConfig | None) -> list[int]:
        store = EmbeddingStore(FloodSegmenter(SIDE), image)
        return sorted(part.plane[0] for part in propagate(store, (2,), MASK, config=config))

    assert last_planes(None) == [1, 3, 4]
    assert last_planes(PropagateConfig(least_contrast=0)) == [0, 1, 3, 4, 5, 6]
