"""What the tests of training share: tiny networks of every kind, samples of squares, pairs on disk."""

from __future__ import annotations

from dataclasses import replace

import imagecodecs
import numpy as np
import torch

from napari_sam.model import ConvConfig, SamConfig, TinyVitConfig, VitConfig, build_sam
from napari_sam.training.config import TrainConfig
from napari_sam.training.data import Sample
from napari_sam.training.loop import Trainer

TINY = SamConfig(
    encoder=ConvConfig(widths=(4, 8, 8, 8, 8), depths=(1, 1, 1, 1, 1), centre_channels=8),
    image_size=64,
    embedding_stride=8,
    prompt_embed_dim=16,
    decoder_heads=2,
    decoder_mlp_dim=16,
    iou_head_hidden_dim=16,
    has_proposals=True,
    has_instances=True,
)
VIT = replace(
    TINY,
    encoder=VitConfig(width=16, depth=2, heads=2, global_blocks=(1,), window_size=3),
    embedding_stride=16,
    has_proposals=False,
    has_instances=False,
)
TINY_VIT = replace(
    VIT, encoder=TinyVitConfig(widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), heads=(1, 1, 1, 1), window_sizes=(2, 2, 2, 2))
)
NETWORKS = {"conv": TINY, "vit": VIT, "tiny_vit": TINY_VIT}
CONFIG = TrainConfig(
    steps=3, crop_px=32, crops=4, prompts_per_crop=2, warmup_steps=2, dense_share=0.0, workers=0, bf16=False, frames=8
)


def draw_squares(rng: np.random.Generator) -> tuple[Sample, bool]:
    """Bright squares on dark ground; a module-level function, since it is sent to another process."""
    labels = np.zeros((64, 64), np.int32)
    for number, (y, x) in enumerate([(4, 4), (36, 8), (20, 40)], start=1):
        side = int(rng.integers(10, 18))
        labels[y : y + side, x : x + side] = number
    image = np.where(labels > 0, 200, 30).astype(np.uint8)
    return Sample(np.repeat(image[..., None], 3, axis=2), labels, "squares"), True


def network(kind="conv"):
    """A network with random weights, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_sam(NETWORKS[kind])


def make_trainer(folder, config=CONFIG, kind="conv", **more) -> Trainer:
    return Trainer(network(kind), draw_squares, config, folder, **more)


def weights(sam):
    """A copy of everything in the state dict."""
    return {name: value.clone() for name, value in sam.state_dict().items()}


def changed(before, after):
    """Names whose values differ in any bit."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def write_pair(folder, name="a", shape=(20, 30), labels_shape=None, objects=1):
    """A PNG image and labels with one object, or none."""
    folder.mkdir(parents=True, exist_ok=True)
    image = np.broadcast_to(np.linspace(20, 180, shape[1]).astype(np.uint8), shape).copy()
    labels = np.zeros(labels_shape or shape, np.uint16)
    labels[2:8, 3:9] = objects
    (folder / f"{name}.image.png").write_bytes(imagecodecs.png_encode(image))
    (folder / f"{name}.labels.png").write_bytes(imagecodecs.png_encode(labels))
    return image, labels
