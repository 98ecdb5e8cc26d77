"""Edges and object proposals of the selected image as layers."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import LayerList
from napari.layers import Image, Labels, Layer
from qtpy.QtWidgets import QInputDialog

from napari_sam.errors import ImageError
from napari_sam.predict import EdgeConfig
from napari_sam.ui import paper_commands
from napari_sam.ui.layers import shown_plane
from napari_sam.ui.paper_commands import boxes_layer, edges_layer, show_edges, show_proposals
from napari_sam.workflows.experiments.edges import edges_of_array
from ui.ui_runs import WAIT_MS
from workflows.workflows_scenes import squares, tiny_model


@pytest.fixture
def stack():
    """A stack that is scaled and moved, and the viewer's position in its plane 2."""
    layer = Image(np.stack([squares((64, 96))] * 3), name="stack", scale=(5, 2, 2), translate=(0, 10, 20))
    return layer, shown_plane(layer, (10, 0, 0))


def test_edges_lie_on_the_plane_they_are_of(stack):
    layer, plane = stack
    made = Layer.create(*edges_layer(np.ones((64, 96), dtype=np.float32), plane))
    assert made.data.shape == (1, 64, 96)
    assert tuple(made.data_to_world((0, 3, 4))) == tuple(layer.data_to_world((2, 3, 4)))
    assert tuple(made.contrast_limits) == (0, 1)


def test_boxes_become_rectangles_around_their_pixels(stack):
    layer, plane = stack
    made = Layer.create(*boxes_layer(np.array([[3, 5, 10, 20], [0, 0, 96, 64]]), plane))
    assert made.shape_type == ["rectangle"] * 2
    assert made.data[0].min(axis=0).tolist() == [0, 4.5, 2.5]
    assert made.data[0].max(axis=0).tolist() == [0, 19.5, 9.5]
    assert tuple(made.data_to_world((0, 3, 4))) == tuple(layer.data_to_world((2, 3, 4)))


def viewer_of(*layers):
    return SimpleNamespace(layers=LayerList(layers))


def test_the_selected_image_is_meant_or_the_only_one():
    first, second, labels = Image(np.zeros((4, 4))), Image(np.ones((4, 4))), Labels(np.zeros((4, 4), dtype=int))
    both = viewer_of(first, second, labels)
    both.layers.selection.active = first
    assert paper_commands._chosen_image(both) is first
    both.layers.selection.active = labels
    with pytest.raises(ImageError, match="select the image layer that is meant; there are 2"):
        paper_commands._chosen_image(both)
    both.layers.remove(first)
    assert paper_commands._chosen_image(both) is second


def test_a_model_is_asked_for_where_there_are_several(monkeypatch):
    monkeypatch.setattr(paper_commands, "usable_models", lambda: ("nano", "vit_b"))
    answers = iter([("vit_b", True), ("nano", False)])
    monkeypatch.setattr(QInputDialog, "getItem", lambda *_: next(answers))
    assert paper_commands._chosen_model("Edges") == "vit_b"
    assert paper_commands._chosen_model("Edges") is None
    monkeypatch.setattr(paper_commands, "usable_models", lambda: ("nano",))
    assert paper_commands._chosen_model("Edges") == "nano"


def test_both_commands_add_their_layers_without_holding_the_window(make_napari_viewer, qtbot, monkeypatch):
    monkeypatch.setattr(paper_commands, "usable_models", lambda: ("nano",))
    monkeypatch.setattr("napari_sam.workflows.experiments.edges.load_model", lambda name: tiny_model())
    monkeypatch.setattr("napari_sam.workflows.experiments.proposals.load_model", lambda name: tiny_model())
    few = paper_commands.ObjectProposalConfig(points_per_side=3, proposals=5)
    monkeypatch.setattr(paper_commands, "SHOWN_PROPOSALS", few)
    quick = partial(edges_of_array, edges=EdgeConfig(points_per_side=2))
    monkeypatch.setattr(paper_commands, "edges_of_array", quick)
    viewer = make_napari_viewer()
    image = viewer.add_image(squares((64, 96)), name="squares")
    show_edges(viewer)
    assert len(viewer.layers) == 1  # it has only begun
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=WAIT_MS)
    viewer.layers.selection.active = image
    show_proposals(viewer)
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: not paper_commands._running, timeout=WAIT_MS)
    assert [layer.name for layer in viewer.layers] == ["squares", "squares edges", "squares proposals"]
    assert viewer.layers[1].data.shape == (64, 96)
    assert 1 <= len(viewer.layers[2].data) <= 5
