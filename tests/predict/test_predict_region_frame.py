"""Regions of images larger than the model's frame: seen as they are, in one piece, whatever their sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_sam.errors import ImageError
from napari_sam.evaluation import find_overlaps, match
from napari_sam.images import normalise_image
from napari_sam.model import SamModel, build_sam, load_model
from napari_sam.model.config import VitConfig
from napari_sam.predict import embed_image, generate_masks
from napari_sam.predict.embedding import embed_for_regions, largest_region_frame, region_frame
from napari_sam.training.generated import generate_image
from predict.conftest import wrap
from workflows import workflows_scenes

TINY = replace(workflows_scenes.TINY, has_instances=True)


@pytest.fixture(scope="module")
def tiny() -> SamModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return wrap(build_sam(TINY).eval())


@pytest.fixture(scope="module")
def nano() -> SamModel:
    return load_model("nano", device="cpu")


@pytest.mark.parametrize(
    ("image_size", "model_size", "input_size"),
    [
        ((40, 64), 64, (40, 64)),
        ((20, 32), 64, (40, 64)),
        ((65, 30), 72, (65, 30)),
        ((100, 128), 128, (100, 128)),
        ((100, 256), 128, (50, 128)),
    ],
    ids=str,
)
def test_an_image_is_seen_as_it_is_from_the_models_frame_to_twice_of_it(tiny, image_size, model_size, input_size):
    frame = region_frame(tiny.sam, image_size)
    assert (frame.model_size, frame.input_size) == (model_size, input_size)
    embedding = embed_for_regions(tiny, np.zeros((*image_size, 3), np.uint8))
    assert embedding.frame == frame
    assert embedding.low_res_size == (model_size // 2, model_size // 2)
    assert embedding.instances is not None
    assert embedding.instances.labels.shape == embedding.low_res_size


def test_an_image_that_fills_the_models_frame_is_embedded_as_for_prompts(tiny, clouds):
    image = clouds(64, 64)
    torch.testing.assert_close(embed_for_regions(tiny, image).embedding, embed_image(tiny, image).embedding)


def test_an_encoder_of_fixed_size_keeps_its_frame(clouds):
    vit = replace(TINY, encoder=VitConfig(width=16, depth=1, heads=2, global_blocks=()), embedding_stride=16)
    model = wrap(build_sam(vit).eval())
    image = clouds(40, 100)
    assert largest_region_frame(model.sam) == 64
    seen, expected = embed_for_regions(model, image), embed_image(model, image)
    assert seen.frame == expected.frame
    torch.testing.assert_close(seen.embedding, expected.embedding)
    assert seen.instances is not None


def test_what_is_no_image_is_refused(tiny):
    with pytest.raises(ImageError, match="an image must be uint8"):
        embed_for_regions(tiny, np.zeros((70, 70)))


@pytest.mark.parametrize("size", [(643, 718), (520, 696), (901, 590)], ids=str)
def test_nuclei_of_a_field_larger_than_the_frame_are_found_up_to_its_edges(nano, size):
    field = generate_image(4, (size[0] + 100, size[1] + 100), "fluorescent_nuclei")
    image, truth = (pixels[: size[0], : size[1]] for pixels in (normalise_image(field.image), field.labels))
    labels = np.zeros(size, np.uint32)
    for number, mask in enumerate(reversed(generate_masks(nano, image)), start=1):
        labels[mask.box.slices][mask.window(mask.box)] = number
    assert match(find_overlaps(truth, labels), 0.5).average_precision > 0.75
    areas = np.bincount(truth.ravel())
    cut = [number for number in np.unique([*truth[-1], *truth[:, -1]]).tolist() if number and areas[number] > 100]
    shown = [np.mean(labels[truth == number] > 0) for number in cut]
    assert len(cut) > 3
    assert np.mean(np.array(shown) > 0.5) > 0.8
