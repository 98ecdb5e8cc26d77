"""The widget *Models* in a real window: what it lists, and what its buttons do; downloads come from a local server."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "model"))
from tiny_checkpoints import TINY_CONV, entry_for, running_server, tiny_sam

from napari_sam.model import registry, save_checkpoint
from napari_sam.ui.automatic.form import SettingsPanel
from napari_sam.ui.model_choice import ModelChoice
from napari_sam.ui.models import COLUMNS, ModelsWidget
from napari_sam.workflows.models import add_own_model, forget_own_model, usable_models

WAIT_MS = 60_000
CONTENT = np.random.default_rng(0).bytes(600_000)
PUBLISHED = dict(registry.REGISTRY)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    for name in ("NAPARI_SAM_BUNDLE", "NAPARI_SAM_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def server():
    with running_server() as running:
        yield running


@pytest.fixture(autouse=True)
def told(monkeypatch) -> list[str]:
    """What napari's notifications were given instead of showing it."""
    from napari.utils.notifications import notification_manager

    said: list[str] = []
    monkeypatch.setattr(notification_manager, "receive_error", lambda kind, error, trace: said.append(str(error)))
    return said


def publish(monkeypatch: Any, *urls: str, **changes: Any) -> None:
    """A registry of nano and of one model whose published file is CONTENT."""
    entry = entry_for(CONTENT, *urls, **changes)
    monkeypatch.setattr(registry, "REGISTRY", {"nano": PUBLISHED["nano"], entry.name: entry})


def open_widget(window: Any, name: str | None = None) -> ModelsWidget:
    """The widget in a napari window, or, much quicker, alone: `window` is a viewer or pytest-qt's `qtbot`."""
    widget = ModelsWidget()
    if hasattr(window, "addWidget"):
        window.addWidget(widget)
        widget.show()
    else:
        window.window.add_dock_widget(widget, name="Models")
    if name is not None:
        widget.choose(name)
    return widget


def wait(widget: ModelsWidget, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not widget.cancel.isEnabled(), timeout=WAIT_MS)


def cells(widget: ModelsWidget, row: int) -> dict[str, str]:
    return {name: widget.table.item(row, x).text() for x, name in enumerate(COLUMNS)}


def test_every_model_is_listed_with_size_licence_use_and_place(qtbot):
    widget = open_widget(qtbot)
    rows = {cells(widget, y)["Model"]: cells(widget, y) for y in range(widget.table.rowCount())}
    assert list(rows) == list(PUBLISHED)
    assert rows["nano"]["Here"] == "built in"
    assert rows["vit_b"] == {
        "Model": "vit_b",
        "Size": "375 MB",
        "Here": "no",
        "Good at": PUBLISHED["vit_b"].good_at,
        "Licence": "Apache-2.0",
    }


def test_details_say_where_the_file_lies_or_would_lie(qtbot, cache):
    widget = open_widget(qtbot, "nano")
    assert "nano.safetensors" in widget.details.text()
    widget.choose("vit_b")
    assert f"would be put into {cache}" in widget.details.text()
    assert "sha256 of the published file" in widget.details.text()


def test_only_what_can_be_done_can_be_pressed(qtbot):
    widget = open_widget(qtbot, "nano")
    buttons = (widget.download, widget.verify, widget.forget, widget.add, widget.cancel)
    assert [b.isEnabled() for b in buttons] == [False, True, False, True, False]
    widget.choose("vit_b")
    assert [b.isEnabled() for b in buttons] == [True, False, False, True, False]


def test_a_download_ends_with_the_model_on_this_machine(make_napari_viewer, qtbot, server, monkeypatch):
    viewer = make_napari_viewer()
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT))
    widget = open_widget(viewer, "vit_b")
    said, changes = [], []
    monkeypatch.setattr(ModelsWidget, "_say", lambda self, text: said.append(text))
    widget.changed.connect(lambda: changes.append(1))
    widget.download.click()
    assert widget.cancel.isEnabled()
    assert widget.bar.isVisibleTo(widget)
    wait(widget, qtbot)
    assert cells(widget, 1)["Here"] == "yes"
    assert widget.chosen.path.read_bytes() == CONTENT
    assert any("of 600 kB" in text for text in said)
    assert changes == [1]
    assert usable_models() == ("nano", "vit_b")
    assert not widget.bar.isVisibleTo(widget)


def test_cancel_keeps_what_has_arrived_and_the_next_download_goes_on(qtbot, server, cache, monkeypatch):
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT))
    part = cache / "checkpoints" / "tiny.pth.part"
    widget = open_widget(qtbot, "vit_b")
    # As if cancel were pressed while the first piece arrives.
    monkeypatch.setattr("napari_sam.ui.worker.Job.is_stopping", property(lambda job: True))
    widget.download.click()
    wait(widget, qtbot)
    monkeypatch.undo()
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(cache))
    monkeypatch.setenv("NO_PROXY", "*")
    publish(monkeypatch, server.address + "/tiny.pth")
    assert "Stopped. What has arrived is kept" in widget.status.text()
    assert 0 < part.stat().st_size < len(CONTENT)
    widget.download.click()
    wait(widget, qtbot)
    assert widget.chosen.path.read_bytes() == CONTENT
    assert server.log[-1][1].startswith("bytes=")


def test_without_a_network_it_says_so_and_what_works_all_the_same(qtbot, monkeypatch, told):
    publish(monkeypatch, "http://127.0.0.1:9/tiny.pth")  # nobody listens there
    widget = open_widget(qtbot, "vit_b")
    widget.download.click()
    wait(widget, qtbot)
    assert "This machine is offline, or the server cannot be reached" in widget.status.text()
    assert "work without a network" in widget.status.text()
    assert widget.download.isEnabled()
    assert "cannot reach" in told[0]


def test_a_server_that_has_no_such_file_is_not_taken_for_no_network(qtbot, server, monkeypatch):
    publish(monkeypatch, server.address + "/nothing.pth")
    widget = open_widget(qtbot, "vit_b")
    widget.download.click()
    wait(widget, qtbot)
    assert "answered 404" in widget.status.text()
    assert "offline" not in widget.status.text()


def test_verify_tells_a_sound_file_from_a_damaged_one(qtbot, server, cache, monkeypatch):
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT))
    file = cache / "checkpoints" / "tiny.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    widget = open_widget(qtbot, "vit_b")
    widget.verify.click()
    wait(widget, qtbot)
    assert "vit_b is as it should be" in widget.status.text()
    file.write_bytes(CONTENT[:-1])
    widget.verify.click()
    wait(widget, qtbot)
    assert "vit_b is not as it should be" in widget.status.text()
    assert "expected sha256" in widget.status.text()
    widget.download.click()  # replaces it
    wait(widget, qtbot)
    assert file.read_bytes() == CONTENT


def test_a_checkpoint_of_ones_own_is_listed_verified_and_forgotten(qtbot, tmp_path, monkeypatch):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, tiny_sam(TINY_CONV), TINY_CONV)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    widget = open_widget(qtbot)
    widget.add.click()
    wait(widget, qtbot)
    row = widget.table.rowCount() - 1
    assert cells(widget, row)["Model"] == "mine"
    assert cells(widget, row)["Here"] == "yes (yours)"
    assert usable_models()[-1] == str(path)
    widget.choose("mine")
    widget.verify.click()
    wait(widget, qtbot)
    assert "mine is as it should be" in widget.status.text()
    widget.forget.click()
    assert widget.table.rowCount() == row
    assert path.is_file()


def test_a_file_that_is_no_checkpoint_is_refused_with_the_reason(qtbot, tmp_path):
    path = tmp_path / "notes.safetensors"
    path.write_text("nothing")
    widget = open_widget(qtbot)
    before = widget.table.rowCount()
    widget.add_file(path)
    wait(widget, qtbot)
    assert "Problem." in widget.status.text()
    assert "notes.safetensors" in widget.status.text()
    assert widget.table.rowCount() == before


def test_a_file_of_ones_own_that_has_gone_is_shown_as_gone(qtbot, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, tiny_sam(TINY_CONV), TINY_CONV)
    widget = open_widget(qtbot)
    widget.add_file(path)
    wait(widget, qtbot)
    path.unlink()
    widget.refresh()
    widget.choose("mine")
    assert cells(widget, widget.table.rowCount() - 1)["Here"] == "file is gone"
    assert (widget.verify.isEnabled(), widget.forget.isEnabled()) == (False, True)


def test_a_damaged_list_of_own_models_is_named_and_the_others_are_still_there(qtbot, cache):
    cache.mkdir(parents=True)
    (cache / "own_models.json").write_text("{")
    widget = open_widget(qtbot)
    assert "own_models.json, cannot be read" in widget.status.text()
    assert "delete it and add them again" in widget.status.text()
    assert widget.table.rowCount() == len(PUBLISHED)


def test_closing_the_form_while_a_download_runs_ends_it_quietly(make_napari_viewer, qtbot, server, monkeypatch):
    viewer = make_napari_viewer()
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT))
    widget = open_widget(viewer, "vit_b")
    widget.download.click()
    job = widget._job
    assert job is not None
    viewer.window.remove_dock_widget("all")
    widget.deleteLater()
    qtbot.waitUntil(lambda: job.is_stopping, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: not job._worker.is_running, timeout=WAIT_MS)
    assert job.is_stopping


def test_a_list_of_models_is_up_to_date_whenever_it_is_opened(qtbot, tmp_path):
    choice = ModelChoice("Which one")
    qtbot.addWidget(choice)
    choice.fill()
    assert choice.name == "nano"
    paths = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    for path in paths:
        save_checkpoint(path, tiny_sam(TINY_CONV), TINY_CONV)
        add_own_model(path)
    choice.showPopup()
    choice.hidePopup()
    assert [choice.itemText(row) for row in range(choice.count())] == ["nano", "one.safetensors", "two.safetensors"]
    choice.setCurrentIndex(2)
    for path in paths:
        forget_own_model(path)
    choice.showPopup()
    choice.hidePopup()
    assert choice.name == str(paths[1])  # what is chosen stays until something else is
    assert [choice.itemText(row) for row in range(choice.count())] == ["nano", "two.safetensors"]


def test_the_automatic_form_offers_what_is_here_and_fills_in_what_a_model_recommends(make_napari_viewer, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, tiny_sam(TINY_CONV), TINY_CONV, automatic_defaults={"pred_iou_thresh": 0.375})
    add_own_model(path)
    panel = SettingsPanel(make_napari_viewer(), ExitStack())
    assert {panel.model.itemData(row) for row in range(panel.model.count())} == {"nano", str(path)}
    panel.model.setCurrentIndex(panel.model.findData(str(path)))
    assert panel.basic.values()["pred_iou_thresh"] == 0.375
    panel.image.release()
    panel.shapes.release()
