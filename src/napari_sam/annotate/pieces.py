"""The connected pieces of a mask."""

from __future__ import annotations

import numpy as np

from napari_sam.geometry import Box, Mask


def connected_pieces(mask: Mask) -> list[Mask]:
    """Its 8-connected pieces, the largest first; among equals the upper left one."""
    from scipy import ndimage

    regions, count = ndimage.label(mask.window(mask.box), structure=np.ones((3, 3)))
    pieces = []
    for i, (rows, columns) in enumerate(ndimage.find_objects(regions, max_label=count), start=1):
        window = Box(columns.start, rows.start, columns.stop, rows.stop)
        pixels = regions[rows, columns] == i
        pieces.append(Mask.from_window(pixels, window.shifted(mask.box.x0, mask.box.y0), mask.frame_size))
    return sorted(pieces, key=lambda piece: -piece.area)
