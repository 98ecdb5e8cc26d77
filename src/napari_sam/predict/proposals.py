"""Where to prompt: peaks of the proposal head's map of object centres.

The paper's semi-automatic stage took its prompts from a detector (section 4); the proposal head is ours.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_sam.geometry import ModelFrame


def proposal_points(
    centre_logits: Tensor, frame: ModelFrame, *, threshold: float, min_distance_px: float, max_points: int
) -> NDArray[np.float64]:
    """Points at the peaks of a map of object centres, the most probable first.

    A peak is at least as high as its eight neighbours; of two peaks closer than `min_distance_px` the higher one stays.

    Parameters
    ----------
    centre_logits : (h, w) tensor
        Logits over the model's square frame.
    frame : ModelFrame
        Where the image lies in it; peaks in the padding are left out.
    threshold : float
        Least probability (sigmoid of the logit).
    min_distance_px : float
        In pixels of the model's frame.
    max_points : int
        At most this many, the most probable.

    Returns
    -------
    ndarray of shape (K, 2), float64
        (x, y) in image pixels.
    """
    cell_y, cell_x = (frame.model_size / side for side in centre_logits.shape)
    filled_y, filled_x = frame.input_size
    # Cells without any image are padding.
    heat = centre_logits[: math.ceil(filled_y / cell_y), : math.ceil(filled_x / cell_x)].float().sigmoid()[None, None]
    is_peak = (heat == F.max_pool2d(heat, kernel_size=3, stride=1, padding=1)) & (heat >= threshold)
    rows, columns = torch.nonzero(is_peak[0, 0], as_tuple=True)
    order = torch.argsort(heat[0, 0, rows, columns], descending=True, stable=True)
    cells = torch.stack([columns, rows], dim=1)[order].cpu().numpy()
    # The middle of cell 0 is half a cell from the frame's edge, and the centre of pixel 0 half a pixel.
    points_in_frame = (cells + 0.5) * (cell_x, cell_y) - 0.5
    points_in_frame = np.minimum(points_in_frame, np.array([filled_x, filled_y]) - 1.0)
    return frame.points_to_image(_spaced_out(points_in_frame, min_distance_px, max_points))


def _spaced_out(points: NDArray[np.float64], min_distance: float, max_points: int) -> NDArray[np.float64]:
    """Those of `points` (N, 2), best first, that keep `min_distance` from every better one that stays."""
    left = points
    kept = [np.empty((0, 2))]
    while len(left) and len(kept) <= max_points:
        kept.append(left[:1])
        left = left[1:][((left[1:] - left[0]) ** 2).sum(axis=1) >= min_distance**2]
    return np.concatenate(kept)
