from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from model.tiny_checkpoints import TINY_CONV, TINY_VIT_B, tiny_sam
from napari_sam.errors import ConfigError
from napari_sam.geometry import mask_iou_window
from napari_sam.model import load_model
from napari_sam.predict import OutOfMemoryWarning, devices, embed_image, generate_masks
from napari_sam.predict.devices import autocast, encoder_autocast, is_out_of_memory, iter_batches


def limited(capacity: int):
    """A step that runs out of memory above `capacity` items."""

    def step(part: slice) -> list[int]:
        if part.stop - part.start > capacity:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return list(range(part.start, part.stop))

    return step


@given(total=st.integers(0, 70), batch_size=st.integers(1, 80), capacity=st.integers(1, 80))
def test_every_item_is_done_once_and_in_order_whatever_the_memory(total, batch_size, capacity):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfMemoryWarning)
        batches = list(iter_batches(total, batch_size, limited(capacity)))
    assert [i for _, items in batches for i in items] == list(range(total))
    assert all(len(items) == part.stop - part.start <= min(batch_size, capacity) for part, items in batches)


def test_a_full_memory_halves_the_batch_and_says_so():
    with pytest.warns(
        OutOfMemoryWarning, match="out of memory with 64 prompts at once: going on with 32.*points_per_batch=32"
    ):
        sizes = [part.stop - part.start for part, _ in iter_batches(100, 64, limited(40))]
    assert sizes == [32, 32, 32, 4]


def test_a_single_item_too_large_is_an_error_that_says_what_to_do():
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught, pytest.warns(OutOfMemoryWarning):
        list(iter_batches(4, 2, limited(0)))
    assert "use a smaller model or device='cpu'" in caught.value.__notes__[0]


def test_another_error_passes_unchanged():
    def broken(part: slice) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(iter_batches(4, 2, broken))


@pytest.mark.parametrize(
    "message",
    [
        "MPS backend out of memory (MPS allocated: 8 GB)",
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
    ],
    ids=["MPS", "CPU"],
)
def test_devices_without_an_error_class_are_understood(message):
    assert is_out_of_memory(RuntimeError(message))


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_a_cpu_decodes_in_fp32(precision):
    with autocast(torch.device("cpu"), precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_an_unknown_precision_is_named():
    with pytest.raises(ConfigError, match="precision must be one of auto, fp32, got 'fp8'"):
        autocast(torch.device("cpu"), "fp8")


@pytest.mark.parametrize(
    ("kind", "precision", "has_units", "format"),
    [
        ("convolutions", "auto", True, torch.bfloat16),
        ("convolutions", "auto", False, torch.float32),
        ("convolutions", "fp32", True, torch.float32),
        ("transformer", "auto", True, torch.float32),
    ],
)
def test_a_cpu_encodes_in_16_bits_where_that_is_faster(monkeypatch, kind, precision, has_units, format):
    monkeypatch.setattr(devices, "_cpu_has_bf16", lambda: has_units)
    encoder = {"convolutions": TINY_CONV, "transformer": TINY_VIT_B}[kind]
    with encoder_autocast(tiny_sam(encoder).image_encoder, torch.device("cpu"), precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == format


def test_16_bits_find_the_objects_that_32_find(monkeypatch):
    monkeypatch.setattr(devices, "_cpu_has_bf16", lambda: True)
    model, image = load_model("nano", device="cpu"), data.coins()[:200]
    exact = generate_masks(model, image, precision="fp32")
    rounded = generate_masks(model, image)
    assert [m.predicted_iou for m in rounded] != [m.predicted_iou for m in exact]
    assert len(rounded) == len(exact) > 10
    agreement = [max(mask_iou_window(mask, other, mask.box.joined(other.box)) for other in rounded) for mask in exact]
    assert min(agreement) > 0.9
    embeddings = [embed_image(model, image, precision=precision).embedding for precision in ("fp32", "auto")]
    assert embeddings[1].dtype == torch.float32
    difference = (embeddings[1] - embeddings[0]).abs()
    assert 0 < float(difference.max()) < 0.02 * float(embeddings[0].abs().max())


@pytest.mark.gpu
def test_cuda_computes_in_16_bits_unless_told_otherwise():
    if not torch.cuda.is_available():
        pytest.skip("this GPU is not CUDA")
    ones = torch.ones(2, 2, device="cuda")
    with autocast(ones.device, "auto"):
        assert (ones @ ones).dtype in (torch.bfloat16, torch.float16)
    with autocast(ones.device, "fp32"):
        assert (ones @ ones).dtype == torch.float32
