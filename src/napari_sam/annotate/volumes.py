"""An object of one plane followed through its neighbours, both ways, until it ends."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from napari_sam.annotate.answering import look
from napari_sam.annotate.embeddings import EmbeddingStore
from napari_sam.annotate.images import check_plane
from napari_sam.annotate.objects import PlaneMask
from napari_sam.annotate.prompts import Plane
from napari_sam.annotate.segmenter import WindowQuestion
from napari_sam.annotate.standing_out import StandingOut
from napari_sam.annotate.windows import Window
from napari_sam.errors import ConfigError, PromptError
from napari_sam.geometry import Mask, interior_points, intersection_area

POINTS = 3
"""Points shown to the model in the next plane: where the object splits, one on each part is likely."""
SMALL_PX = 100
"""A mask of fewer pixels may grow by any factor from plane to plane: the cap of a ball does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PropagateConfig:
    """When an object that is followed from plane to plane ends, and where its mask should be looked at."""

    least_predicted_iou: float = 0.5
    """The object ends where the model rates its mask below this."""
    least_overlap: float = 0.3
    """The object ends where its mask shares less than this part of the smaller one with the plane before."""
    most_growth: float = 4.0
    """The object ends where its area, if it was at least 100 pixels, grows by more than this factor in one plane: then
    the mask has leaked."""
    least_contrast: float = 0.4
    """The object ends where its brightness differs from what is around it by less than this part of what it did at
    most; objects that differ in texture alone are followed by their shape, and at 0 all are."""
    sure_predicted_iou: float = 0.75
    """Masks rated below this are marked as unsure."""
    sure_overlap: float = 0.6
    """Masks whose IoU with the plane before is below this are marked as unsure."""
    most_planes: int = 1000
    """How far the object is followed in each direction, in planes."""

    def __post_init__(self) -> None:
        for name in ("least_predicted_iou", "least_overlap", "least_contrast", "sure_predicted_iou", "sure_overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], got {getattr(self, name)}.")
        if self.most_growth <= 1 or self.most_planes < 0:
            raise ConfigError(
                f"most_growth must be above 1 and most_planes at least 0, got {self.most_growth} and "
                f"{self.most_planes}."
            )


def propagate(
    store: EmbeddingStore,
    plane: Plane,
    mask: Mask,
    *,
    view_step: int = 1,
    corrected: Collection[Plane] = (),
    axis: int = -1,
    config: PropagateConfig | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[PlaneMask]:
    """The object of `mask` in the neighbouring planes, first upwards until it ends, then downwards.

    In each plane the model is shown the mask of the plane before (as mask logits, its box and points inside it).

    After a correction, call it again from the corrected plane: planes in `corrected` are never answered again, and
    between one of them and `plane` only those nearer to `plane` are.

    Parameters
    ----------
    store : EmbeddingStore
    plane : tuple of int
        That `mask` is of.
    mask : Mask
        In the plane's frame, with at least one pixel.
    view_step : int
        Reduction at which the model looks; larger objects are looked at coarser.
    corrected : collection of planes
        Whose mask the user made or mended.
    axis : int
        Of the plane's index: along which the object is followed; -1 is depth in a (t, z) index.
    config : PropagateConfig, optional
    should_stop : callable
        Asked before each plane.

    Yields
    ------
    PlaneMask
        `unsure` where a person should look at it.

    Raises
    ------
    PromptError
        If the mask is empty or of another frame.
    AnnotationError
        If there is no such plane, or the image is a single one.
    RunInterrupted
        If `should_stop` said so; what was yielded stays right.
    """
    if mask.is_empty or mask.frame_size != store.image.frame_size:
        raise PromptError(
            f"only a mask of the frame {store.image.frame_size} (H, W) with at least one pixel can be followed, "
            f"got {mask.area} pixels in {mask.frame_size}; segment the object in this plane first."
        )
    check_plane(plane, store.image.shape)
    if not plane:
        raise PromptError("this image has a single plane: there are no neighbours to follow the object to.")
    chosen = config or PropagateConfig()
    ways = [_ahead(plane, axis, way, store.image.shape, corrected)[: chosen.most_planes] for way in (1, -1)]
    return _both_ways(store, partial(_next_mask, store, view_step, should_stop), plane, mask, ways, chosen)


def _both_ways(
    store: EmbeddingStore,
    next_mask: Callable[[Plane, Mask], Mask],
    start_plane: Plane,
    start: Mask,
    ways: list[list[Plane]],
    config: PropagateConfig,
) -> Iterator[PlaneMask]:
    standing_out = StandingOut(store.image.plane(start_plane), start)
    for planes in ways:
        before = start
        for plane in planes:
            found = next_mask(plane, before)
            if has_ended(before, found, config):
                break
            if standing_out.share(store.image.plane(plane), found) < config.least_contrast:
                break
            yield PlaneMask(plane, found, found.predicted_iou, is_unsure(before, found, config))
            before = found


def has_ended(before: Mask, found: Mask, config: PropagateConfig) -> bool:
    """Whether `found` is no longer the object that was `before` in the neighbouring plane."""
    if found.is_empty or found.predicted_iou < config.least_predicted_iou:
        return True
    if before.area >= SMALL_PX and found.area > config.most_growth * before.area:
        return True
    return intersection_area(before, found) < config.least_overlap * min(before.area, found.area)


def is_unsure(before: Mask, found: Mask, config: PropagateConfig) -> bool:
    """Whether a person should look at `found`: the model doubts it, or it changed much from the plane before."""
    shared = intersection_area(before, found)
    iou = shared / (before.area + found.area - shared)
    return found.predicted_iou < config.sure_predicted_iou or iou < config.sure_overlap


def _ahead(plane: Plane, axis: int, way: int, shape: tuple[int, ...], corrected: Collection[Plane]) -> list[Plane]:
    """The planes to answer in one direction, nearest first: up to halfway to the next corrected one."""
    at = list(plane)
    position, count = at[axis], shape[: len(at)][axis]
    planes: list[Plane] = []
    for i in range(position + way, count if way > 0 else -1, way):
        at[axis] = i
        if tuple(at) in corrected:
            # Of n planes between the two, the half that lies nearer to us; the one in the middle as well.
            return planes[: (len(planes) + 1) // 2]
        planes.append(tuple(at))
    return planes


def _next_mask(
    store: EmbeddingStore, view_step: int, should_stop: Callable[[], bool], plane: Plane, before: Mask
) -> Mask:
    """What the model takes for the object `before` in the neighbouring plane `plane`."""
    window = store.lattice.window_for(plane, before.box, view_step)
    points = interior_points(before, POINTS)

    def ask(window: Window) -> WindowQuestion:
        shown = window.mask_to_window(before)
        return WindowQuestion(
            window.points_to_window(points),
            np.ones(len(points), np.int64),
            box_xyxy=window.box_to_window(before.box.as_xyxy()),
            mask=None if shown.is_empty else shown,
        )

    window, said = look(store, window, ask, grows=True, should_stop=should_stop)
    found = window.mask_to_plane(said.masks[0], store.image.frame_size)
    return replace(found, predicted_iou=said.predicted_iou[0], prompt="propagated")
