"""A GPU that is pretended, for machines without one: its tensors compute on the CPU but refuse what a GPU refuses.

That is to meet a tensor of the CPU in an operation, or to be read by numpy. Sums that a GPU adds up in an order that
differs from run to run are refused as well: the same image must give the same bytes. What it can't tell is how fast
anything is, what 16 bits do (autocast does not reach it), and how much memory is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda", 0)
MOVES = {"copy_", "_to_copy", "set_"}
"""Operations that bring values from one device to the other."""
TAKES_INDICES = {"index", "index_put_", "index_put", "_index_put_impl_", "_unsafe_index"}
"""A GPU tensor may be indexed by one of the CPU."""
IN_ANY_ORDER = {"index_add", "index_add_", "scatter_add", "scatter_add_", "bincount", "histc", "put_", "cumsum"}
"""Of floating point numbers, on CUDA, in an order that is not always the same."""


class PretendedTensor(torch.Tensor):
    """A tensor that says it is on the GPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> PretendedTensor:
        # "meta" below, since a torch without CUDA lets no tensor be there; `device` is what everyone asks.
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",
            requires_grad=False,
        )
        made.held = held
        return made

    @property
    def device(self) -> torch.device:
        return GPU

    @property
    def is_cuda(self) -> bool:
        return True

    def numpy(self, *args: object, **kwargs: object) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def new_tensor(self, data: Any, **kwargs: Any) -> torch.Tensor:
        return torch.tensor(data, dtype=kwargs.pop("dtype", self.dtype), device=GPU, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> PretendedTensor:
        return PretendedTensor(self.held.detach().clone())

    def __repr__(self, **kwargs: object) -> str:
        return f"on the pretended GPU: {self.held!r}"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})


class _Pretended(TorchDispatchMode):
    def __init__(self, repeatable: bool) -> None:
        super().__init__()
        self._refused = IN_ANY_ORDER if repeatable else set()

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        name, first = func.overloadpacket.__name__, args[0] if args else None
        if name in self._refused and isinstance(first, PretendedTensor) and first.is_floating_point():
            raise RuntimeError(f"{name} does not have a deterministic implementation on CUDA.")
        return _dispatch(func, args, kwargs or {})


def _dispatch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func.overloadpacket.__name__
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    on_gpu = [tensor for tensor in tensors if isinstance(tensor, PretendedTensor)]
    on_cpu = [tensor for tensor in tensors if not isinstance(tensor, PretendedTensor) and tensor.ndim]
    gives_gpu = bool(on_gpu)
    if name in MOVES | TAKES_INDICES:
        gives_gpu = isinstance(args[0], PretendedTensor)
    elif on_gpu and on_cpu:
        raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got cuda:0 and cpu.")
    if kwargs.get("device") is not None:
        gives_gpu = torch.device(kwargs["device"]).type in (
            "cuda",
            "meta",
        )  # torch itself says where a tensor really is
        kwargs = kwargs | {"device": torch.device("cpu")}
    given = tree_map(_held, args), tree_map(_held, kwargs)
    made = func(*given[0], **given[1])
    return tree_map(lambda x: PretendedTensor(x) if isinstance(x, torch.Tensor) else x, made) if gives_gpu else made


def _held(value: Any) -> Any:
    return value.held if isinstance(value, PretendedTensor) else value


@contextmanager
def pretended_gpu(*, repeatable: bool = True) -> Iterator[None]:
    """One GPU, `cuda:0`, in the block; ask for it with its number.

    `repeatable` refuses sums in any order, which matter to nobody in a training.
    """
    patched: dict[str, Callable[..., object]] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "is_bf16_supported": lambda: True,
        "_lazy_init": lambda: None,
    }
    lifts_before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        # Tensors of inference mode have no versions, which these need.
        with (
            mock.patch.multiple(torch.cuda, **patched),
            mock.patch.object(torch, "inference_mode", torch.no_grad),
            _Pretended(repeatable),
        ):
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(lifts_before)
