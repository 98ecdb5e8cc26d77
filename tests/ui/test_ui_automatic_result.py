"""The finished result in a real napari window: sliders, hand-drawn pixels, examples picked on the canvas."""

from __future__ import annotations

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
from napari.layers import Points

from napari_sam.images import open_image
from napari_sam.workflows.refilter import ObjectFilterConfig
from ui.ui_runs import HeldModel, open_widget, picture, run, wait_until_idle


@pytest.fixture
def widget(make_napari_viewer, monkeypatch, qtbot, tmp_path):
    """A widget with a result of 16 squares, the side of which goes from 4 to 19 pixels."""
    viewer = make_napari_viewer()
    HeldModel(monkeypatch)
    viewer.add_image(picture(), rgb=True, name="cells")
    widget = open_widget(viewer)
    widget.settings.output.setText(str(tmp_path / "mine.ome.zarr"))
    run(widget, qtbot)
    return widget


def test_sliders_hide_objects_at_once_and_what_was_drawn_by_hand_stays(widget, qtbot):
    labels, before = widget.result.layer, widget.result.layer.data.copy()
    labels.data[100:104, 0:4] = 99  # drawn by hand, as napari's brush does: in place
    widget.refilter.apply(ObjectFilterConfig(min_area_px=100))
    sides = {value: np.sqrt(np.count_nonzero(before == value)) for value in np.unique(before)[1:]}
    small = [value for value, side in sides.items() if side < 10]
    expected = np.where(np.isin(before, small), 0, before)
    expected[100:104, 0:4] = 99
    np.testing.assert_array_equal(labels.data, expected)
    assert widget.refilter.count.text() == "10 of 16 objects are shown."
    widget.refilter.apply(ObjectFilterConfig())
    before[100:104, 0:4] = 99
    np.testing.assert_array_equal(labels.data, before)
    np.testing.assert_array_equal(  # the file is as the run left it
        np.asarray(open_image(widget.result.outcome.output).levels[0][:]) == 99, False
    )


def test_keep_these_writes_what_is_shown_and_leaves_the_result_alone(widget, qtbot, tmp_path):
    widget.refilter.apply(ObjectFilterConfig(min_area_px=100))
    widget.refilter.keep.click()
    wait_until_idle(widget, qtbot)
    kept = np.asarray(open_image(tmp_path / "mine.kept.ome.zarr").levels[0][:])
    np.testing.assert_array_equal(kept > 0, widget.result.layer.data > 0)
    assert (tmp_path / "mine.kept.csv").read_text().count("\n") == 11
    assert "10 objects written to" in widget.status.text()
    assert len(np.unique(open_image(tmp_path / "mine.ome.zarr").levels[0][:])) == 17


def test_clicks_on_good_objects_become_limits(widget, qtbot):
    viewer, layer = widget._viewer, widget.result.layer
    widget.tuning.pick.click()
    assert viewer.layers.selection.active is layer
    for number in (12, 13, 14):
        click(viewer, layer, *np.array(divmod(number, 4)) * 32 + 8)
    assert len(widget.tuning.picked) == 3
    assert "Proposed" in widget.tuning.text.text()
    marks = viewer.layers["cells good examples"]
    assert isinstance(marks, Points)
    assert len(marks.data) == 3
    widget.tuning.apply.click()
    assert widget.refilter.limits() == widget.tuning.proposal.limits
    sides = np.sqrt(np.unique(layer.data, return_counts=True)[1][1:])
    assert sides.min() > 12
    click(viewer, layer, 0, 0)  # background
    click(viewer, layer, 104, 40)
    assert len(widget.tuning.picked) == 2
    assert not widget.tuning.apply.isEnabled()
    widget.tuning.forget.click()
    assert "cells good examples" not in viewer.layers
    widget.tuning.pick.click()
    assert widget.tuning._clicked not in layer.mouse_drag_callbacks


def click(viewer, layer, y, x):
    """A press and a release on a pixel of the layer, as the canvas hands them on."""
    from napari.utils._proxies import ReadOnlyWrapper
    from napari.utils.interactions import mouse_press_callbacks, mouse_release_callbacks

    event = SimpleNamespace(
        type="mouse_press",
        position=layer.data_to_world((y, x)),
        view_direction=None,
        dims_displayed=list(viewer.dims.displayed),
        handled=False,
    )
    mouse_press_callbacks(layer, ReadOnlyWrapper(event, exceptions=("handled",)))
    event.type = "mouse_release"
    mouse_release_callbacks(layer, ReadOnlyWrapper(event, exceptions=("handled",)))


def test_a_large_result_is_lazy_and_filtered_where_it_is_looked_at(make_napari_viewer, monkeypatch, qtbot):
    for module in ("preview", "file_layers"):
        monkeypatch.setattr(f"napari_sam.workflows.{module}.IN_MEMORY_PX", 100)
    viewer = make_napari_viewer()
    HeldModel(monkeypatch)
    big = np.tile(picture(), (5, 5, 1))
    viewer.add_image(big, rgb=True, name="cells")
    widget = open_widget(viewer)
    widget.settings.tiling.set_values({"core_px": 400})
    run(widget, qtbot)
    layer = widget.result.layer
    assert layer.multiscale
    assert isinstance(layer.data[0], da.Array)
    np.testing.assert_array_equal(np.asarray(layer.data[0]) > 0, big[..., 0] > 0)
    widget.refilter.apply(ObjectFilterConfig(min_area_px=19 * 19))
    assert widget.refilter.count.text() == "25 of 400 objects are shown."
    assert len(np.unique(np.asarray(layer.data[0]))) == 26
    assert len(np.unique(np.asarray(layer.data[1]))) == 26


def test_a_deleted_result_takes_its_sliders_and_examples_with_it(widget, qtbot):
    widget.tuning.pick.click()
    for label in (1, 2, 3):
        widget.tuning.toggle(label, (4.0, 4.0))
    widget._viewer.layers.remove(widget.result.layer)
    assert widget.result is None
    assert not widget.refilter.isEnabled()
    assert not widget.tuning.isEnabled()
    assert [layer.name for layer in widget._viewer.layers] == ["cells"]


def test_a_result_that_was_drawn_on_is_not_taken_away_by_the_next_run(widget, qtbot):
    widget.result.layer.data[0, 0] = 50
    run(widget, qtbot)
    assert [layer.name for layer in widget._viewer.layers] == ["cells", "cells objects", "cells objects [1]"]
    assert widget._viewer.layers["cells objects"].data[0, 0] == 50
