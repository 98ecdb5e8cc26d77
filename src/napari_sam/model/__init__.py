"""The network of the paper, its published variants, and their checkpoints.

Names load when first used: the registry can be listed without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sam.model.checkpoints import save_checkpoint
    from napari_sam.model.config import ConvConfig, SamConfig, TinyVitConfig, VitConfig
    from napari_sam.model.loading import SamModel, load_model
    from napari_sam.model.sam import Sam, build_sam

__all__ = [
    "ConvConfig",
    "Sam",
    "SamConfig",
    "SamModel",
    "TinyVitConfig",
    "VitConfig",
    "build_sam",
    "load_model",
    "save_checkpoint",
]

_MODULE_OF = {
    "ConvConfig": "config",
    "Sam": "sam",
    "SamConfig": "config",
    "SamModel": "loading",
    "TinyVitConfig": "config",
    "VitConfig": "config",
    "build_sam": "sam",
    "load_model": "loading",
    "save_checkpoint": "checkpoints",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'napari_sam.model' has no attribute {name!r}")
    return getattr(import_module(f"napari_sam.model.{_MODULE_OF[name]}"), name)
