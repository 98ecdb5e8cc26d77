"""A CLIP model from files on this machine, as text prompts want it. Nothing is ever fetched from here."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from napari_sam.errors import CheckpointError
from napari_sam.model.loading import choose_device

PREPROCESSOR = "preprocessor_config.json"
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's training images; a preprocessor file may say otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class TransformersClip:
    """A CLIP model of the transformers library."""

    name: str
    model: Any
    tokenizer: Any
    device: torch.device
    image_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def logit_scale(self) -> float:
        """What the model learned to multiply similarities by."""
        return float(self.model.logit_scale.detach().exp())

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(N, D) of N RGB images (h, w, 3), each squeezed to the square the model wants."""
        pixels = np.stack([self._resized(image) for image in images])  # (N, S, S, 3)
        normal = (pixels / 255 - np.asarray(self.mean)) / np.asarray(self.std)
        given = torch.from_numpy(normal.astype(np.float32)).permute(0, 3, 1, 2).to(self.device)
        with torch.no_grad():
            return _embedding(self.model.get_image_features(pixel_values=given))

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) of N texts, cut to the length the model knows."""
        limit = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt")
        given = {name: tokens[name].to(self.device) for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            return _embedding(self.model.get_text_features(**given))

    def _resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = (self.image_px, self.image_px)
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def load_clip(folder: str | os.PathLike[str], device: str | torch.device = "auto") -> TransformersClip:
    """A CLIP model from a folder in the layout of the transformers library.

    Parameters
    ----------
    folder : path
        With `config.json`, weights as safetensors, and the tokenizer's files.
    device : str or torch.device
        See :func:`napari_sam.load_model`.

    Raises
    ------
    CheckpointError
        If the folder is missing or not complete, or the package transformers is not installed.
    """
    place = Path(folder).expanduser()
    if not (place / "config.json").is_file():
        raise CheckpointError(
            f"{place} is no folder of a CLIP model: there is no config.json in it. Give the folder of a model in the "
            "layout of the transformers library, downloaded beforehand; nothing is fetched by itself."
        )
    library = _transformers()
    try:
        # safetensors only: a pickle may run code.
        model = library.CLIPModel.from_pretrained(place, local_files_only=True, use_safetensors=True)
        tokenizer = library.CLIPTokenizer.from_pretrained(place, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"the CLIP model in {place} cannot be loaded: {' '.join(str(error).split())} It needs config.json, "
            "model.safetensors, and the tokenizer's vocab.json and merges.txt or tokenizer.json."
        ) from error
    chosen = choose_device(device)
    mean, std = _normalisation(place)
    side = int(model.config.vision_config.image_size)
    return TransformersClip(place.resolve().name, model.to(chosen).eval(), tokenizer, chosen, side, mean, std)


def _embedding(output: Any) -> NDArray[np.float32]:
    """The projected embeddings; newer versions of the library wrap them."""
    features = output if isinstance(output, torch.Tensor) else output.pooler_output
    return np.asarray(features.float().cpu().numpy(), dtype=np.float32)


def _normalisation(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    file = folder / PREPROCESSOR
    told = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return tuple(told.get("image_mean", _MEAN)), tuple(told.get("image_std", _STD))


def _transformers() -> Any:
    """The optional library behind CLIP."""
    try:
        import transformers
    except ImportError as error:
        raise CheckpointError(
            "text prompts need the package transformers, which is not installed; run "
            "`pip install 'napari-sam-tiles[clip]'`."
        ) from error
    return transformers
