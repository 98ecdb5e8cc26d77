"""Failed tiles as a Shapes layer: red, where they are, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.ui.layers import ShownPlane

if TYPE_CHECKING:
    import napari.viewer

    from napari_sam.workflows.watching import FailedTile


def show_failed_tiles(viewer: napari.viewer.Viewer, tiles: Mapping[int, FailedTile], plane: ShownPlane) -> Any:
    """Add a layer with the cores of failed tiles; they are features of it by number and reason.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    tiles : mapping of tile index to FailedTile
    plane : ShownPlane
        What was segmented.
    """
    rectangles = []
    for tile in tiles.values():
        box = tile.core
        corners = [[box.y0, box.x0], [box.y0, box.x1], [box.y1, box.x1], [box.y1, box.x0]]
        # Edges of pixels lie half a pixel before their centres.
        rectangles.append([[0.0] * len(plane.index) + [y - 0.5, x - 0.5] for y, x in corners])
    return viewer.add_shapes(
        np.array(rectangles),
        shape_type="rectangle",
        name=f"{plane.name} failed tiles",
        edge_color="red",
        face_color=[1.0, 0.0, 0.0, 0.2],
        edge_width=2,
        features={"tile": list(tiles), "reason": [tile.reason for tile in tiles.values()]},
        **plane.placement,
    )
