"""The training loop on a tiny network: it learns, it saves, it goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_sam.errors import TrainingError
from napari_sam.model import ConvConfig, SamConfig, VitConfig, build_sam
from napari_sam.training.data import Sample
from napari_sam.training.loop import TrainConfig, Trainer

TINY = SamConfig(
    encoder=ConvConfig(widths=(4, 8, 8, 8, 8), depths=(1, 1, 1, 1, 1), centre_channels=8),
    image_size=64,
    embedding_stride=8,
    prompt_embed_dim=16,
    decoder_heads=2,
    decoder_mlp_dim=16,
    iou_head_hidden_dim=16,
    has_proposals=True,
)
CONFIG = TrainConfig(steps=3, crop_px=32, crops=4, prompts_per_crop=2, warmup_steps=2, dense_share=0.0)


def squares(rng: np.random.Generator) -> tuple[Sample, bool]:
    """Bright squares on dark ground; a module-level function, since it is sent to another process."""
    labels = np.zeros((64, 64), np.int32)
    for number, (y, x) in enumerate([(4, 4), (36, 8), (20, 40)], start=1):
        side = int(rng.integers(10, 18))
        labels[y : y + side, x : x + side] = number
    image = np.where(labels > 0, 200, 30).astype(np.uint8)
    return Sample(np.repeat(image[..., None], 3, axis=2), labels, "squares"), True


def trainer(folder, config=CONFIG):
    torch.manual_seed(0)
    return Trainer(build_sam(TINY), squares, config, folder)


def test_training_lowers_the_losses_and_leaves_a_log(tmp_path):
    made = trainer(tmp_path, replace(CONFIG, steps=60, learning_rate=5e-3))
    before = {name: p.clone() for name, p in made.sam.named_parameters()}
    seen = []
    made.progress = lambda minutes, total, values: seen.append(values["foreground"])
    made.run()
    assert made.step == 60
    moved = [name for name, p in made.sam.named_parameters() if not torch.equal(p, before[name])]
    assert len(moved) > 0.9 * len(before)
    assert (tmp_path / "log.csv").read_text().startswith("step,minutes,offset")
    assert seen[-1] < 0.9


def test_the_averaged_weights_get_statistics_of_their_own(tmp_path):
    made = trainer(tmp_path)
    made.run()
    norm = made.averaged.image_encoder.stem[1]
    assert not torch.allclose(norm.running_mean, made.sam.image_encoder.stem[1].running_mean, atol=1e-6)
    assert int(norm.num_batches_tracked) == CONFIG.steps
    assert not norm.training
    assert norm.momentum == 0.1


def test_a_resumed_training_goes_on_from_its_step_and_weights(tmp_path):
    first = trainer(tmp_path)
    first.run()
    second = trainer(tmp_path)
    assert second.resume()
    assert second.step == first.step
    assert second.share == 1
    for name, value in first.averaged.state_dict().items():
        assert torch.equal(value, second.averaged.state_dict()[name]), name


def test_without_a_saved_state_there_is_nothing_to_resume(tmp_path):
    assert not trainer(tmp_path).resume()


def test_a_network_without_a_proposal_head_is_refused(tmp_path):
    vit = SamConfig(
        encoder=VitConfig(width=16, depth=1, heads=2, global_blocks=(0,)), image_size=32, prompt_embed_dim=16
    )
    with pytest.raises(TrainingError, match="convolutional encoder and a proposal head"):
        Trainer(build_sam(vit), squares, CONFIG, tmp_path)
