"""The plugin's manifest: valid for npe2 and napari, and everything it names is there and does what it says."""

from __future__ import annotations

import tomllib
from functools import partial
from importlib import import_module
from pathlib import Path

import npe2
import pytest
from napari.layers import Layer

from napari_sam.workflows.samples.images import mosaic

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "src" / "napari_sam" / "napari.yaml"
PLUGIN = npe2.PluginManifest.from_file(MANIFEST)
COMMANDS = {command.id: command for command in PLUGIN.contributions.commands}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_manifest_is_valid_and_named_like_the_distribution():
    PLUGIN.validate_imports()
    assert PLUGIN.name == PROJECT["name"] == "napari-sam-tiles"
    assert PLUGIN.display_name == "SAM for huge images"


def test_the_manifest_at_the_root_is_the_one_in_the_package():
    link = ROOT / "napari.yaml"
    # Windows checks a symbolic link out as a file that holds its target.
    assert link.resolve() == MANIFEST or link.read_text().strip() == "src/napari_sam/napari.yaml"


@pytest.mark.parametrize("command", PLUGIN.contributions.commands, ids=lambda command: command.id)
def test_each_command_names_something_that_can_be_called(command):
    module, _, name = command.python_name.partition(":")
    assert callable(getattr(import_module(module), name))


def test_each_contribution_names_a_command_that_is_declared_and_none_is_left_over():
    contributed = PLUGIN.contributions
    used = {c.command for part in ("widgets", "readers", "writers", "sample_data") for c in getattr(contributed, part)}
    used |= {item.command for items in contributed.menus.values() for item in items}
    assert used == set(COMMANDS)


def test_titles_and_names_are_said_once_each():
    for names in (
        [command.title for command in PLUGIN.contributions.commands],
        [widget.display_name for widget in PLUGIN.contributions.widgets],
        [sample.display_name for sample in PLUGIN.contributions.sample_data],
        [writer.display_name for writer in PLUGIN.contributions.writers],
    ):
        assert len(set(names)) == len(names)
        assert all(names)


@pytest.mark.parametrize("sample", PLUGIN.contributions.sample_data, ids=lambda sample: sample.key)
def test_each_sample_opens_as_layers(sample, monkeypatch):
    monkeypatch.setattr("napari_sam.ui.samples.mosaic", partial(mosaic, fields=(1, 2)))
    module, _, name = COMMANDS[sample.command].python_name.partition(":")
    layers = [Layer.create(*layer) for layer in getattr(import_module(module), name)()]
    sizes = [(layer.data[0] if layer.multiscale else layer.data).shape for layer in layers]
    assert all(size[:2] == sizes[0][:2] for size in sizes)


def test_no_ordinary_image_name_is_claimed():
    (patterns,) = [r.filename_patterns for r in PLUGIN.contributions.readers if not r.accepts_directories]
    assert not {"*", "*.tif", "*.tiff", "*.png", "*.jpg", "*.zarr"} & set(patterns)


def test_every_menu_is_one_that_napari_has_and_lets_plugins_add_to():
    from napari._app_model.constants._menus import MenuId

    assert set(PLUGIN.contributions.menus) <= {str(menu) for menu in MenuId.contributables()}


def test_the_window_offers_widgets_samples_and_commands(make_napari_viewer, monkeypatch):
    from napari._app_model import get_app_model
    from qtpy.QtWidgets import QFileDialog

    manager = npe2.PluginManager.instance()
    if PLUGIN.name not in manager:  # an installed plugin is found by itself
        # Blocked: the viewer of each earlier test still listens, and all of them would add the same commands to this
        # one's menus. A new viewer adds those of all plugins that it finds registered.
        with manager.events.blocked():
            manager.register(npe2.PluginManifest.from_file(MANIFEST))
    viewer = make_napari_viewer()
    app = get_app_model()
    _, widget = viewer.window.add_plugin_dock_widget("napari-sam-tiles", "Models")
    assert (type(widget).__name__, widget.name) == ("ModelsDock", "ModelsWidget")
    titles = [item.command.title for item in app.menus.get_menu("napari/file/io_utilities") if hasattr(item, "command")]
    assert any("Open a huge image lazily" in title for title in titles)
    asked = []
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *a: (asked.append(a[1]), ([], ""))[1])
    app.commands.execute_command("napari-sam-tiles.open_image").result()
    assert asked == ["Open huge images lazily"]
    # The palette offers what a person can do, not what napari calls by itself.
    hidden = {c.id for c in PLUGIN.contributions.commands if c.enablement == "False"}
    named = {r.command for part in ("readers", "writers") for r in getattr(PLUGIN.contributions, part)}
    assert hidden == named


def test_the_hub_finds_what_it_reads():
    assert "Framework :: napari" in PROJECT["classifiers"]
    assert PROJECT["entry-points"]["napari.manifest"] == {"napari-sam-tiles": "napari_sam:napari.yaml"}
    description = (ROOT / ".napari-hub" / "DESCRIPTION.md").read_text(encoding="utf-8")
    for widget in PLUGIN.contributions.widgets:
        assert widget.display_name in description
