"""What the tests of the command line share: one thread for torch, a tiny checkpoint, a place without downloads."""

from __future__ import annotations

import pytest
import tifffile
import torch

from workflows.workflows_scenes import scene, tiny_checkpoint


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder, with `image.tif` and the checkpoint `tiny.safetensors`."""
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("image.tif", scene(), photometric="rgb")
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    return tmp_path
