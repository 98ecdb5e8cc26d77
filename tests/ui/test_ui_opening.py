"""Widgets open at once: their form, and all that it loads, comes from another thread."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QWidget

from napari_sam.ui import opening
from ui.ui_runs import WAIT_MS

SRC = Path(__file__).resolve().parents[2] / "src"
DOCKS = [opening.AutomaticDock, opening.InteractiveDock, opening.ReviewDock, opening.ModelsDock]
OPEN_ALL = """
import sys, threading
from qtpy.QtWidgets import QApplication
application = QApplication([])
from napari_sam.ui import opening

class Watch:
    # Where torch is looked for first.
    def find_spec(self, name, path=None, target=None):
        if name == "torch" and not seen:
            seen.append(threading.current_thread() is threading.main_thread())

seen = []
sys.meta_path.insert(0, Watch())
made = [kind(None) for kind in (opening.AutomaticDock, opening.InteractiveDock, opening.ReviewDock, opening.ModelsDock)]
heavy = [name for name in ("torch", "scipy", "skimage", "napari", "zarr", "dask") if name in sys.modules]
made[0]._make = lambda kind: opening.QWidget()
made[0].show()
while made[0].inside is None:
    application.processEvents()
print(heavy, seen)
"""


def test_nothing_heavy_is_loaded_where_the_window_would_wait_for_it():
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(SRC)!r})\n{OPEN_ALL}"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    assert told.strip() == "[] [False]"


@pytest.mark.parametrize("kind", DOCKS, ids=lambda kind: kind.name)
def test_each_form_takes_the_place_of_the_text(make_napari_viewer, qtbot, kind):
    viewer = make_napari_viewer(show=True)
    dock = kind(viewer)
    viewer.window.add_dock_widget(dock, name=kind.name)
    assert dock.inside is None
    assert not dock._text.isHidden()
    wait_for_form(dock, qtbot)
    assert type(dock.inside).__name__ == kind.name
    assert dock._text.isHidden()
    inside = weakref.ref(dock.inside)
    viewer.window.remove_dock_widget(dock)
    del dock
    qtbot.waitUntil(lambda: gc.collect() >= 0 and inside() is None, timeout=5000)


def wait_for_form(dock, qtbot):
    qtbot.waitUntil(lambda: dock.inside is not None and dock.inside.isVisible(), timeout=WAIT_MS)


class Slow(opening.OpeningWidget):
    module, name = "napari_sam.errors", "QWidget"

    def _make(self, kind):
        return QWidget()


def test_a_dock_that_is_closed_while_it_loads_makes_no_form(make_napari_viewer, qtbot, monkeypatch):
    viewer = make_napari_viewer(show=True)
    made = []
    monkeypatch.setattr(Slow, "_make", lambda self, kind: made.append(kind))
    dock = Slow(viewer)
    viewer.window.add_dock_widget(dock, name="slow")
    viewer.window.remove_dock_widget(dock)
    dock.deleteLater()
    del dock
    qtbot.wait(3 * opening.PAINT_MS)
    assert not made


def test_what_cannot_be_loaded_is_said(qtbot, monkeypatch):
    monkeypatch.setattr(Slow, "module", "napari_sam.no_such_module")
    dock = Slow(None)
    qtbot.addWidget(dock)
    with qtbot.waitSignal(dock.ready, timeout=WAIT_MS):
        dock.show()
    assert (
        "This cannot be loaded: ModuleNotFoundError: No module named 'napari_sam.no_such_module'" in dock._text.text()
    )
    assert dock.inside is None


def test_review_finds_the_session_of_a_widget_inside_a_dock(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.add_image(np.zeros((64, 64)))
    docks = [kind(viewer) for kind in (opening.InteractiveDock, opening.ReviewDock)]
    for dock in docks:
        viewer.window.add_dock_widget(dock, name=dock.name)
        wait_for_form(dock, qtbot)
    interactive, review = (dock.inside for dock in docks)
    review._look_for_session()
    assert review._interactive is interactive
