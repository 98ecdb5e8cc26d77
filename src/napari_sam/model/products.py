"""Matrix products on a CPU by oneDNN, where nothing is to be learned from them.

Torch hands them to MKL, which on an AMD processor left the 512-bit units unused: oneDNN, which torch takes for
convolutions only, was twice as fast there, and no slower with the 256-bit units. It applies GELU while the values are
still in registers. What it computes is the same, up to the order of sums.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Activation = Literal["none", "gelu"]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation = "none") -> Tensor:
    """`x` (..., n) times the transposed `weight` (m, n), plus `bias` (m,), then the activation: (..., m)."""
    if can_use_onednn(x):
        method = "none" if activation == "gelu" else ""  # of GELU: the exact one
        made: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], method)
        return made
    made = F.linear(x, weight, bias)
    return F.gelu(made) if activation == "gelu" else made


def products(a: Tensor, b: Tensor, *, out: Tensor) -> Tensor:
    """Of each of P pairs, `a` (P, n, c) times the transposed `b` (P, m, c): `out` (P, n, m), filled."""
    if not can_use_onednn(a):
        return torch.bmm(a, b.transpose(1, 2), out=out)
    for one, other, place in zip(a, b, out, strict=True):
        place.copy_(linear(one, other))
    return out


def can_use_onednn(x: Tensor) -> bool:
    """Whether :func:`linear` of `x` goes to oneDNN: float32 on a CPU, and nobody asks for gradients or a trace."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        and not torch.compiler.is_compiling()
        and _has_onednn()
        and not torch.is_autocast_enabled("cpu")
    )


@cache
def _has_onednn() -> bool:
    """Whether this torch has the operation: it is one of torch's own, for compiled networks, and may change."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False  # not measured
    try:
        torch.is_autocast_enabled("cpu")  # not known to torch before 2.4
        torch.ops.mkldnn._linear_pointwise(torch.ones(2, 3), torch.ones(4, 3), torch.ones(4), "gelu", [], "none")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True
