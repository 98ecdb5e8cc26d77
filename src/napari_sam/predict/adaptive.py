"""A grid of points asked from coarse to fine, without those whose answer is known already.

After each round a finer point is left out if

- a mask that is rated surely enough covers it: its answer would most likely be the same mask; or
- a point nearby, where the image embedding is alike, was asked in vain: it lies on the same background.

On images that `nano` was not trained on this finds nearly the objects of the full grid with a third of its points; the
figures stand in docs/speed.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_sam.geometry import Mask, ModelFrame

COARSEST = 4
"""Every this many-th point along each side is asked first, then every half as many-th, at last all."""
SURE = 0.7
"""A mask keeps finer points away whose predicted IoU has come this part of the way from the threshold to 1. Below, it
may be that the next point gives a better mask of the same object: with 0.4, three objects in a hundred were others."""
ALIKE = 0.4
"""Two points look alike whose image embeddings differ by no more than this part of what is usual between the points of
the grid and their mean; with 0.5 a quarter fewer points were asked, and four objects in a hundred missed."""
REACH = 8
"""How many points of the grid away, in rows and in columns, a point asked in vain speaks for others like it."""

Ask = Callable[[NDArray[np.float64]], Iterator[Mask]]
"""From points (N, 2) to the masks of them that pass the filters, each with its point."""


def iter_adaptive(
    ask: Ask, points_xy: NDArray[np.float64], looks: NDArray[np.float32], *, pred_iou_thresh: float
) -> Iterator[Mask]:
    """Masks of the points of a square grid, asked from coarse to fine, without those whose answer is known already.

    What is found does not depend on how many points `ask` answers at once: the rounds alone decide.

    Parameters
    ----------
    ask : callable
    points_xy : ndarray of shape (n * n, 2)
        The whole grid, row by row, in image pixels.
    looks : ndarray of shape (n * n, C)
        The image embedding at these points, from :func:`looks_at`.
    pred_iou_thresh : float
        Above which masks are kept at all.

    Yields
    ------
    Mask
        In the order in which they are found.
    """
    sure = pred_iou_thresh + SURE * (1 - pred_iou_thresh)
    known = np.zeros(len(points_xy), dtype=bool)
    for numbers in grid_rounds(math.isqrt(len(points_xy))):
        asked = numbers[~known[numbers]]
        answered = set()
        for mask in ask(points_xy[asked]):
            answered.add(mask.point_xy)
            if mask.predicted_iou >= sure:
                known |= _is_on(mask, points_xy)
            yield mask
        in_vain = [i for i in asked.tolist() if tuple(points_xy[i].tolist()) not in answered]
        known |= _are_like(in_vain, looks)


def grid_rounds(points_per_side: int) -> list[NDArray[np.intp]]:
    """Which points of a square grid, counted row by row, come in each round; each point comes once, no round is empty.

    Examples
    --------
    >>> [len(numbers) for numbers in grid_rounds(32)]
    [64, 192, 768]
    """
    rounds: list[NDArray[np.intp]] = []
    asked = np.zeros((points_per_side, points_per_side), dtype=bool)
    step = COARSEST
    while step >= 1:
        first = COARSEST // 2 % step  # the coarse points are among those of all finer steps
        now = np.zeros_like(asked)
        now[first::step, first::step] = True
        rounds.append(np.flatnonzero(now & ~asked))
        asked |= now
        step //= 2
    return [numbers for numbers in rounds if len(numbers)]


def looks_at(embedding: Tensor, frame: ModelFrame, points_xy: NDArray[np.float64]) -> NDArray[np.float32]:
    """The image embedding (1, C, h, w) at points (N, 2) in image pixels: (N, C), bilinear."""
    # The sampler counts from -1 to 1 between the outer edges of the outermost cells; a pixel's centre is half inside.
    places = (frame.points_to_model(points_xy) + 0.5) * (2 / frame.model_size) - 1
    grid = embedding.new_tensor(places)[None, None]  # (1, 1, N, 2)
    sampled = F.grid_sample(embedding, grid, padding_mode="border", align_corners=False)  # (1, C, 1, N)
    return np.asarray(sampled[0, :, 0].T.cpu(), dtype=np.float32)


def _is_on(mask: Mask, points_xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each point (N, 2) lies on a pixel of `mask`, (N,)."""
    columns, rows = np.floor(points_xy + 0.5).astype(np.intp).T - [[mask.box.x0], [mask.box.y0]]
    inside = (columns >= 0) & (columns < mask.box.width) & (rows >= 0) & (rows < mask.box.height)
    on = np.zeros(len(points_xy), dtype=bool)
    on[inside] = mask.window(mask.box)[rows[inside], columns[inside]]
    return on


def _are_like(numbers: list[int], looks: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each point of the square grid with `looks` (n * n, C) is near one of `numbers` and looks like it."""
    rows, columns = np.divmod(np.arange(len(looks)), math.isqrt(len(looks)))
    usual = np.square(looks - looks.mean(axis=0)).sum(axis=1).mean()
    alike = np.zeros(len(looks), dtype=bool)
    for i in numbers:
        near = (np.abs(rows - rows[i]) <= REACH) & (np.abs(columns - columns[i]) <= REACH) & ~alike
        alike[near] = np.square(looks[near] - looks[i]).sum(axis=1) <= ALIKE**2 * usual
    return alike
