"""Training on a GPU, as far as that can be told without one: tensors are where they belong, and as much is learned."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_sam.model.sam import Sam
from pretended_gpu import GPU, PretendedTensor, pretended_gpu
from training.training_scenes import CONFIG, NETWORKS, make_trainer

EVERYTHING = replace(CONFIG, dense_share=0.5, steps=2)


def weights(sam: Sam) -> dict[str, torch.Tensor]:
    return {name: values.cpu() for name, values in sam.state_dict().items()}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("config", [CONFIG, EVERYTHING], ids=["prompts", "prompts and dense maps"])
def test_a_training_gives_the_weights_that_it_gives_on_the_cpu(tmp_path, kind, config):
    torch.set_num_threads(1)
    here = weights(make_trainer(tmp_path / "cpu", config, kind).run())
    with pretended_gpu(repeatable=False):
        trained = make_trainer(tmp_path / "gpu", config, kind, device=GPU).run()
        assert all(isinstance(values, PretendedTensor) for values in trained.state_dict().values())
        there = weights(trained)
    assert here.keys() == there.keys()
    for name, values in there.items():
        torch.testing.assert_close(values, here[name], atol=2e-3, rtol=1e-2)
