"""Stand-ins for the few functions of torchvision and timm that the reference implementations import.

There is no CPU build of torchvision everywhere (the wheel that matches a CPU torch may fail at import), and the
references need four small functions of it. They are written here from their documented behaviour and are put into
``sys.modules`` only while a reference is being imported, so no other library mistakes them for the real ones.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import nn


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    """Area of XYXY boxes (N, 4)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def batched_nms(boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Indices of the boxes that survive greedy NMS among boxes of equal `idxs`, best score first."""
    areas = box_area(boxes)
    kept: list[int] = []
    for i in torch.argsort(scores, descending=True, stable=True).tolist():
        rivals = torch.tensor([k for k in kept if idxs[k] == idxs[i]], dtype=torch.long)
        top_left = torch.maximum(boxes[i, :2], boxes[rivals, :2])
        bottom_right = torch.minimum(boxes[i, 2:], boxes[rivals, 2:])
        overlap = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        if not (overlap / (areas[i] + areas[rivals] - overlap) > iou_threshold).any():
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


def to_pil_image(array: np.ndarray) -> Image.Image:
    """A PIL image of an (H, W, 3) uint8 array."""
    return Image.fromarray(array)


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """`image` at `size` (height, width), with PIL's bilinear filter (it smooths when shrinking)."""
    return image.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def _module(name: str, **members: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


def torchvision_modules() -> dict[str, ModuleType]:
    """Stand-ins by module name for what the references import from torchvision."""
    return {
        "torchvision": _module("torchvision"),
        "torchvision.ops": _module("torchvision.ops"),
        "torchvision.ops.boxes": _module("torchvision.ops.boxes", batched_nms=batched_nms, box_area=box_area),
        "torchvision.transforms": _module("torchvision.transforms"),
        "torchvision.transforms.functional": _module(
            "torchvision.transforms.functional", resize=resize, to_pil_image=to_pil_image
        ),
    }


class NoDropPath(nn.Identity):
    """Stochastic depth at rate 0: the rate of every published MobileSAM model."""

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        if drop_prob:
            raise NotImplementedError(f"this stand-in knows rate 0 only, got {drop_prob}")


def _register_model(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def timm_modules() -> dict[str, ModuleType]:
    """Stand-ins by module name for what MobileSAM imports from timm (initialisers and registration only)."""
    return {
        "timm": _module("timm"),
        "timm.models": _module("timm.models"),
        "timm.models.layers": _module(
            "timm.models.layers",
            DropPath=NoDropPath,
            to_2tuple=lambda value: (value, value),
            trunc_normal_=nn.init.trunc_normal_,
        ),
        "timm.models.registry": _module("timm.models.registry", register_model=_register_model),
    }


def _has_torchvision() -> bool:
    """Whether the real torchvision can be imported (installed is not enough: its binary must fit torch)."""
    before = set(sys.modules)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torchvision.ops  # noqa: F401
    except (ImportError, RuntimeError, OSError, AttributeError):
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "torchvision":
                del sys.modules[name]
        return False
    return True


@contextmanager
def importable_references() -> Iterator[None]:
    """Let the references be imported: the real torchvision where it works, else the stand-in; never timm."""
    stubs = timm_modules() | ({} if _has_torchvision() else torchvision_modules())
    saved = {name: sys.modules[name] for name in stubs if name in sys.modules}
    with patch.dict(sys.modules):
        sys.modules.update(stubs)
        imported_before = set(sys.modules)
        yield
        new = {name: sys.modules[name] for name in set(sys.modules) - imported_before}
    # patch.dict takes back everything that was added: keep the reference itself, forget the stand-ins.
    sys.modules.update(new | saved)
