"""The plugin's manifest: valid for npe2, and every command it names is there."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path

import npe2
import pytest
from napari.layers import Layer

from napari_sam.workflows.samples import mosaic

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "src" / "napari_sam" / "napari.yaml"
PLUGIN = npe2.PluginManifest.from_file(MANIFEST)


def test_the_manifest_can_be_read_and_is_named_like_the_distribution():
    assert PLUGIN.name == "napari-sam-tiles"


def test_the_manifest_at_the_root_is_the_one_in_the_package():
    link = ROOT / "napari.yaml"
    # Windows checks a symbolic link out as a file that holds its target.
    assert link.resolve() == MANIFEST or link.read_text().strip() == "src/napari_sam/napari.yaml"


@pytest.mark.parametrize("command", PLUGIN.contributions.commands, ids=lambda command: command.id)
def test_each_command_names_something_that_can_be_called(command):
    module, _, name = command.python_name.partition(":")
    assert callable(getattr(import_module(module), name))


@pytest.mark.parametrize("sample", PLUGIN.contributions.sample_data, ids=lambda sample: sample.key)
def test_each_sample_opens_as_layers(sample, monkeypatch):
    monkeypatch.setattr("napari_sam.ui.samples.mosaic", partial(mosaic, fields=(1, 2)))
    command = next(c for c in PLUGIN.contributions.commands if c.id == sample.command)
    module, _, name = command.python_name.partition(":")
    layers = [Layer.create(*layer) for layer in getattr(import_module(module), name)()]
    assert layers[0].data.size > 0
    assert all(layer.data.shape[:2] == layers[0].data.shape[:2] for layer in layers)
