"""Damaged checkpoints: a network or an error of ours, and no code of theirs is run."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from images.images_damaged import damaged
from model.tiny_checkpoints import TINY_CONV
from napari_sam.errors import CheckpointError
from napari_sam.model import build_sam, load_model, save_checkpoint

ROUNDS = 25


def as_safetensors(path: Path) -> None:
    save_checkpoint(path, build_sam(TINY_CONV), TINY_CONV)


def as_pickle(path: Path) -> None:
    torch.save(build_sam(TINY_CONV).state_dict(), path)


@pytest.mark.parametrize(("write", "name"), [(as_safetensors, "a.safetensors"), (as_pickle, "a.pth")])
def test_damaged_checkpoints_are_loaded_or_refused_in_our_own_words(tmp_path, write, name):
    path, rng = tmp_path / name, np.random.default_rng(3)
    write(path)
    whole, outcomes = path.read_bytes(), set()
    for _ in range(ROUNDS):
        path.write_bytes(damaged(whole, rng))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load_model(path, "cpu")
            outcomes.add("loaded")
        except CheckpointError as error:
            outcomes.add("refused" if name in str(error) else str(error))
        assert list(tmp_path.iterdir()) == [path]
    assert outcomes <= {"loaded", "refused"}
    assert "refused" in outcomes


class Malicious:
    """Would make a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.pt", "a.bin"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_would_run_code_is_refused_under_any_name(tmp_path, name, protocol):
    (tmp_path / name).write_bytes(pickle.dumps({"model": Malicious(tmp_path / "owned")}, protocol))
    with pytest.raises(CheckpointError, match=name):
        load_model(tmp_path / name, "cpu")
    assert not (tmp_path / "owned").exists()
