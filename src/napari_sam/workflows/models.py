"""The model catalogue, as the rim sees it."""

from napari_sam.model.catalogue import ModelStatus, Verification, format_models, list_models, verify_models
from napari_sam.model.downloads import download_checkpoint

__all__ = ["ModelStatus", "Verification", "download_checkpoint", "format_models", "list_models", "verify_models"]
