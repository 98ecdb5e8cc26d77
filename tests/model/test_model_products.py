"""Matrix products by oneDNN: equal to torch's own, and left to torch where gradients or other formats are wanted."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from napari_sam.model import products
from napari_sam.model.products import can_use_onednn, linear

SIZES = st.integers(1, 40)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + sum(shape)))


@pytest.fixture(params=["oneDNN", "without oneDNN"])
def _both_ways(request, monkeypatch):
    if request.param == "without oneDNN":
        monkeypatch.setattr(products, "_has_onednn", lambda: False)


@settings(deadline=None, max_examples=15)
@given(shape=st.lists(SIZES, min_size=0, max_size=3), inner=SIZES, outer=SIZES, has_bias=st.booleans())
@torch.no_grad()
def test_a_layer_is_the_same_as_torchs_own(shape, inner, outer, has_bias):
    x, weight, bias = random(*shape, inner), random(outer, inner), random(outer) if has_bias else None
    expected = F.linear(x, weight, bias)
    torch.testing.assert_close(linear(x, weight, bias), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(linear(x, weight, bias, "gelu"), F.gelu(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("_both_ways")
@torch.no_grad()
def test_a_weight_that_is_a_view_is_read_as_it_is_seen():
    x, table = random(6, 5, 30), random(30, 17)
    torch.testing.assert_close(linear(x[:, ::2], table.T), x[:, ::2] @ table, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("_both_ways")
@torch.no_grad()
def test_the_products_of_pairs_fill_what_they_are_given():
    a, b, out = random(3, 4, 8), random(3, 8, 5).transpose(1, 2), torch.full((3, 4, 5), torch.nan)
    assert products.products(a, b, out=out) is out
    torch.testing.assert_close(out, torch.einsum("pnc,pmc->pnm", a, b), rtol=1e-5, atol=1e-5)


def test_gradients_reach_input_weight_and_bias():
    x, weight, bias = (random(*shape).requires_grad_() for shape in ((7, 5), (3, 5), (3,)))
    linear(x, weight, bias, "gelu").sum().backward()
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in (x, weight, bias))


@torch.no_grad()
def test_what_is_not_plain_float32_on_a_cpu_is_left_to_torch():
    assert not can_use_onednn(random(2, 3).double())
    assert not can_use_onednn(random(2, 3).to("meta"))
    with torch.enable_grad():
        assert not can_use_onednn(random(2, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(random(2, 3), random(4, 3)).dtype == torch.bfloat16


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, TypeError])
@torch.no_grad()
def test_a_torch_without_the_operation_or_with_another_one_is_served_by_torchs_own(monkeypatch, error):
    class Changed:
        def _linear_pointwise(self, *arguments: object) -> None:
            raise error("on purpose")

    products._has_onednn.cache_clear()
    monkeypatch.setattr(torch.ops, "mkldnn", Changed())
    x, weight = random(2, 3), random(4, 3)
    torch.testing.assert_close(linear(x, weight), F.linear(x, weight), rtol=0, atol=0)
    products._has_onednn.cache_clear()
