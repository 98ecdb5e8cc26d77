"""On a GPU, as far as that can be told without one: every way through the model keeps its tensors where they belong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from skimage import data

from model.tiny_checkpoints import TINY_VIT_B, tiny_sam
from napari_sam.annotate.segmenter import WindowQuestion
from napari_sam.geometry import Mask, mask_iou_window
from napari_sam.model import SamConfig, SamModel, load_model
from napari_sam.model.config import TinyVitConfig
from napari_sam.predict import (
    AutoMaskConfig,
    EdgeConfig,
    detect_edges,
    devices,
    embed_image,
    generate_masks,
    predict_masks,
)
from napari_sam.predict.boxed import masks_from_boxes
from napari_sam.predict.text_prompts import predict_text
from napari_sam.predict.whole_objects import reprompt
from napari_sam.workflows.annotating.sessions import SamSegmenter
from pretended_gpu import GPU, PretendedTensor, pretended_gpu

VIT = replace(TINY_VIT_B, text_embed_dim=4)
TINY_VIT = replace(
    VIT, encoder=TinyVitConfig(widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), heads=(1, 1, 1, 1), window_sizes=(2, 2, 2, 2))
)
ALL_MASKS = AutoMaskConfig(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0)


def network(config: SamConfig) -> SamModel:
    sam = tiny_sam(config).requires_grad_(False)
    return SamModel(sam, "random", "0" * 64, torch.device("cpu"), config, {})


def nano() -> SamModel:
    return load_model("nano", device="cpu")


MODELS: dict[str, Callable[[], SamModel]] = {
    "nano": nano,
    "vit": lambda: network(VIT),
    "tiny vit": lambda: network(TINY_VIT),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    monkeypatch.setattr(devices, "_cpu_has_bf16", lambda: False)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> SamModel:
    return MODELS[request.param]()


def on_gpu(model: SamModel) -> SamModel:
    """The same model on the pretended GPU; only inside of its block."""
    return replace(model, sam=model.sam.to(GPU), device=GPU)


def coins() -> np.ndarray:
    return data.coins()[0:128, 40:168]


def assert_same_masks(masks: list[Mask], others: list[Mask]) -> None:
    assert len(masks) == len(others) > 0
    for mask, other in zip(masks, others, strict=True):
        assert mask_iou_window(mask, other, mask.box) == pytest.approx(1, abs=0.02)
        assert mask.predicted_iou == pytest.approx(other.predicted_iou, abs=1e-3)


@pytest.mark.parametrize("prompts", ["auto", "grid", "adaptive"])
def test_automatic_masks_are_those_of_the_cpu(model, prompts):
    settings = ALL_MASKS if prompts == "adaptive" else AutoMaskConfig.from_settings(model.automatic_defaults)
    config = replace(settings, prompts=prompts, points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    here = generate_masks(model, coins(), config)
    with pretended_gpu():
        there = generate_masks(on_gpu(model), coins(), config)
    assert_same_masks(there, here)


def test_masks_of_each_kind_of_prompt_are_those_of_the_cpu(model):
    asked = [
        {"points_xy": [[40, 40], [90, 60]], "point_labels": [1, 0]},
        {"points_xy": [[[40, 40]], [[90, 60]]], "multimask": False},
        {"boxes_xyxy": [[20, 20, 60, 70], [70, 30, 120, 90]]},
        {"points_xy": [[40, 40]], "boxes_xyxy": [20, 20, 60, 70]},
    ]

    def answers(model: SamModel) -> list[np.ndarray]:
        embedding = embed_image(model, coins())
        first = predict_masks(model, embedding, points_xy=[[40, 40]])
        refined = predict_masks(model, embedding, points_xy=[[44, 44]], mask_logits=first.low_res_logits[0, 0])
        given = [predict_masks(model, embedding, **prompts) for prompts in asked]
        return [prediction.low_res_logits for prediction in (first, refined, *given)]

    here = answers(model)
    with pretended_gpu():
        there = answers(on_gpu(model))
    for values, expected in zip(there, here, strict=True):
        np.testing.assert_allclose(values, expected, atol=1e-3)


def test_whole_objects_boxes_and_edges_are_those_of_the_cpu():
    model = nano()
    part = generate_masks(model, coins())[0]

    def answers(model: SamModel) -> tuple[list[Mask], np.ndarray]:
        whole = reprompt(model, coins(), part)
        assert whole is not None
        return [whole, *masks_from_boxes(model, coins(), [astuple(part.box)])], detect_edges(
            model, coins(), EdgeConfig(points_per_side=4)
        )

    here, edges = answers(model)
    with pretended_gpu():
        there, edges_there = answers(on_gpu(model))
    assert_same_masks(there, here)
    np.testing.assert_allclose(edges_there, edges, atol=1e-2)


def test_answers_to_texts_are_those_of_the_cpu():
    def answer(model: SamModel) -> np.ndarray:
        embedding = embed_image(model, coins())
        texts = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
        points = {"points_xy": [[[40, 40]], [[50, 60]]], "point_labels": [[1], [0]]}
        return np.stack([predict_text(model, embedding, texts, **given).low_res_logits for given in ({}, points)])

    model = network(VIT)
    here = answer(model)
    with pretended_gpu():
        there = answer(on_gpu(model))
    np.testing.assert_allclose(there, here, atol=1e-3)


def test_a_session_answers_from_a_kept_embedding_as_on_the_cpu():
    question = WindowQuestion(np.array([[40.0, 40.0]]), np.array([1]), multimask=True)

    def answer(model: SamModel) -> np.ndarray:
        segmenter = SamSegmenter(model)
        kept = segmenter.to_arrays(segmenter.embed(coins()))
        return segmenter.decode(segmenter.from_arrays(kept), question).low_res_logits

    model = nano()
    here = answer(model)
    with pretended_gpu():
        there = answer(on_gpu(model))
    np.testing.assert_allclose(there, here, atol=1e-3)


@pytest.mark.parametrize(
    ("misuse", "error"),
    [
        (lambda x: x + torch.ones(2), "same device"),
        (lambda x: x.numpy(), "to numpy"),
        (lambda x: np.asarray(x), "to numpy"),
        (lambda x: x.index_add(0, torch.zeros(2, dtype=torch.int64, device=GPU), x), "deterministic"),
    ],
    ids=["two devices", "numpy", "asarray", "any order"],
)
def test_the_pretended_gpu_refuses_what_a_gpu_refuses(misuse, error):
    with pretended_gpu():
        there = torch.ones(2).to(GPU)
        assert isinstance(there, PretendedTensor)
        assert there.cpu().numpy().tolist() == [1.0, 1.0]
        with pytest.raises((RuntimeError, TypeError), match=error):
            misuse(there)
