"""The built-in model is a real one: it finds cells it never saw, in generated fields and in real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_sam.evaluation import find_overlaps, iter_object_scores, match
from napari_sam.images import normalise_image
from napari_sam.model import SamModel, load_model
from napari_sam.training.generated import generate_image
from napari_sam.workflows import EvaluateConfig, evaluate
from napari_sam.workflows.segmentation import segment_array

MAX_BYTES = 15e6


@pytest.fixture(scope="module")
def nano() -> SamModel:
    return load_model("nano", device="cpu")


def test_the_package_holds_the_model_and_it_is_small(nano):
    weights = Path(__import__("napari_sam").__file__).parent / "model" / "weights" / "nano.safetensors"
    assert weights.stat().st_size < MAX_BYTES
    assert nano.sam.instance_head is not None
    assert nano.automatic_defaults["prompts"] == "instances"


@pytest.fixture(scope="module", params=[2, 5])
def field(request):
    return generate_image(request.param, (400, 440), "fluorescent_nuclei")


def test_automatic_masks_are_the_nuclei_of_a_generated_field(nano, field):
    found = segment_array(normalise_image(field.image), nano)
    matching = match(find_overlaps(field.labels, found), 0.5)
    assert field.labels.max() > 5
    assert matching.average_precision > 0.75


def test_one_click_gives_most_of_a_nucleus(nano, field):
    scores = list(iter_object_scores(nano, normalise_image(field.image), field.labels, clicks=1))
    assert np.mean([s.clicks[0] for s in scores]) > 0.75
    assert np.mean([s.box for s in scores]) > 0.75


def test_an_image_of_noise_alone_holds_nothing(nano):
    noise = np.random.default_rng(0).normal(100, 5, (512, 512)).astype(np.uint16)
    assert len(np.unique(segment_array(normalise_image(noise), nano))) <= 3


@pytest.mark.shared_data
def test_held_out_nuclei_are_found_and_clicked(nano, shared_data):
    config = EvaluateConfig(tasks=("points", "automatic"), max_images=8, max_objects=8)
    figures = evaluate(shared_data / "val" / "dsb2018", nano, config=config).figures
    assert figures["automatic"]["ap"]["0.50"] > 0.72
    assert figures["points"]["1"]["miou"] > 0.72
