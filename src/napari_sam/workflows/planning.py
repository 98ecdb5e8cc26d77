"""A job of `segment` before its first tile: checked, with the tiles that are to be segmented."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray

from napari_sam.errors import ConfigError
from napari_sam.geometry import Box, Mask, Tile, layer_point_grids
from napari_sam.images import Plane, Roi, has_foreground, open_image, read_roi
from napari_sam.images.source import ImageInput
from napari_sam.model import SamModel, load_model
from napari_sam.predict import AutoMaskConfig, EncoderBatches, Precision, generate_masks, preset_config
from napari_sam.predict.automatic import check_prompt_source, takes_regions
from napari_sam.predict.embedding import largest_region_frame
from napari_sam.tiling import TilePlan, TilingConfig, plan_tiles
from napari_sam.workflows.estimate import Estimate, TileSample, estimate_run, sample_tiles, time_tile
from napari_sam.workflows.settings import SegmentConfig

PROBE_PX = 128
"""Side of what is read of a tile without a pyramid, before all of it is."""
MANY_TILES = 16
"""So many are shared out among threads; fewer leave some of them idle at the end."""
MOST_THREADS = 8
"""That segment tiles by default: each holds some 150 MB, and more have not been tried."""
THREADS_OF_GPU = 2
"""Tiles in hand by default where a prompted network runs on a GPU: the CPU makes masks of one while the other is in the
network. More of them would also take more of its memory."""
LEAST_REDUCED_PX = 16
"""Side that a tile still has in the pyramid level in which foreground is looked for first."""


@dataclass(frozen=True, slots=True, eq=False)
class SegmentPlan:
    """A job that is checked and ready to run: all that is known before the first tile."""

    plane: Plane
    model: SamModel
    automatic: AutoMaskConfig
    tiling: TilingConfig
    """With its sizes resolved."""
    tiles: TilePlan
    roi: Roi | None
    config: SegmentConfig
    """With its workers resolved."""
    segment_tile: Callable[[NDArray[Any]], list[Mask]]
    """Pixels of a tile to its masks; may be called from several threads at once."""

    def estimate(self) -> Estimate:
        """What the run will need, from segmenting two tiles now; nothing is written."""
        with torch_threads(self.config.torch_threads):
            samples = [time_tile(self.plane.read, tile, self.segment_tile) for tile in sample_tiles(self.tiles.kept)]
        return self.scale_up(samples, tiles_left=len(self.tiles.kept))

    def scale_up(self, samples: Sequence[TileSample], *, tiles_left: int) -> Estimate:
        """What the run will need, from tiles that were segmented."""
        return estimate_run(
            samples,
            self.tiles,
            tiles_left=tiles_left,
            workers=self.config.n_workers,
            own_memory=self.config.uses_local_cluster,
        )


def plan_segment(
    image_or_path: ImageInput,
    model: str | os.PathLike[str] | SamModel = "nano",
    *,
    device: str = "auto",
    preset: str | None = None,
    automatic: AutoMaskConfig | Mapping[str, Any] | None = None,
    tiling: TilingConfig | None = None,
    config: SegmentConfig | None = None,
    roi: str | os.PathLike[str] | NDArray[Any] | None = None,
) -> SegmentPlan:
    """Check a job and plan its tiles; parameters and errors as of :func:`napari_sam.segment`."""
    config = config or SegmentConfig()
    if preset is not None and isinstance(automatic, AutoMaskConfig):
        raise ConfigError(f"give either preset = {preset!r} or a whole AutoMaskConfig, not both.")
    if isinstance(model, SamModel) and (config.uses_local_cluster or config.scheduler is not None):
        raise ConfigError(
            "each worker process loads the model itself: give its name or path, or use threads (executor = 'threads')."
        )
    source = open_image(image_or_path, axes=config.axes, series=config.series, pixel_size_um=config.pixel_size_um)
    plane = source.plane(t=config.t, z=config.z, channels=config.channels)
    region = None if roi is None else read_roi(roi, plane.shape)
    loaded = model if isinstance(model, SamModel) else load_model(model, device=device)
    if not isinstance(automatic, AutoMaskConfig):
        automatic = preset_config(preset, defaults=loaded.automatic_defaults, overrides=automatic)
    _check_fits(automatic, loaded)
    tiling = resolved_tiling(tiling or TilingConfig(), loaded, automatic)
    plane = plane.with_normalisation(plane.normalisation)
    tiles = plan_tiles(plane.shape, tiling, partial(_is_wanted, plane, region))
    config = _with_workers(config, loaded, automatic, len(tiles.kept))
    segment_tile = tile_segmenter(loaded, automatic, config.precision, config.tiles_per_batch)
    return SegmentPlan(plane, loaded, automatic, tiling, tiles, region, config, segment_tile)


def tile_segmenter(
    model: SamModel, automatic: AutoMaskConfig, precision: Precision, tiles_per_batch: int
) -> Callable[[NDArray[Any]], list[Mask]]:
    """The function that makes masks of a tile's pixels, for any number of threads."""
    segment = partial(generate_masks, model, config=automatic, precision=precision)
    if tiles_per_batch == 1:
        return segment
    return partial(segment, encode=EncoderBatches(model, tiles_per_batch, precision=precision))


def resolved_tiling(tiling: TilingConfig, model: SamModel, automatic: AutoMaskConfig) -> TilingConfig:
    """`tiling` with what it leaves open set from the model and how it is asked."""
    input_px = model.config.image_size
    read_px = largest_region_frame(model.sam) if takes_regions(model, automatic) else input_px
    return tiling.resolve(input_px, automatic.cover_thresh, read_px=read_px)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let the network run with so many CPU threads in the block; None leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _with_workers(config: SegmentConfig, model: SamModel, automatic: AutoMaskConfig, n_tiles: int) -> SegmentConfig:
    """`config` with what it leaves open: how many workers, and how many torch threads in each.

    Where regions are the masks, much of a tile is work that torch's threads cannot share. So tiles are shared out
    instead, a thread each. Since the number of torch threads decides the last bits of the network's answers, it
    depends on the model and the image alone, not on the machine or the workers.
    """
    many, on_gpu = n_tiles >= MANY_TILES, model.device.type == "cuda"
    by_regions = takes_regions(model, automatic) and model.device.type in ("cpu", "cuda")
    cores = torch.get_num_threads()
    torch_threads = config.torch_threads or (1 if many and by_regions else cores)
    threads = config.threads_per_process
    if many and threads == 1 and by_regions:
        threads = max(min(cores // torch_threads, MOST_THREADS), 1)
    elif many and threads == 1 and on_gpu:
        threads = THREADS_OF_GPU
    left_open = config.workers is None and config.scheduler is None
    if left_open and (threads > 1 or (many and by_regions)):
        return replace(config, workers=threads, executor="threads", torch_threads=torch_threads)
    return replace(config, workers=config.n_workers, torch_threads=torch_threads)


def _check_fits(automatic: AutoMaskConfig, model: SamModel) -> None:
    """Refuse settings with which every single tile would fail."""
    layer_point_grids(automatic.points_per_side, automatic.crop_n_layers, automatic.crop_n_points_downscale_factor)
    check_prompt_source(model, automatic)


def _is_wanted(plane: Plane, roi: Roi | None, tile: Tile) -> bool:
    """Whether a tile has anything to segment. One that cannot be read is wanted: the run reports it as failed."""
    if roi is not None and not roi.overlaps(tile.core):
        return False
    try:
        # Two values in a part of a tile are two values in the tile: nearly all are told by one small reading, or blank.
        return _shows_in_pyramid(plane, tile.read) or any(
            has_foreground(plane.read_raw(box), plane.normalisation) for box in (_middle_of(tile.read), tile.read)
        )
    except Exception:
        return True


def _middle_of(box: Box) -> Box:
    """A small box in the middle of `box`, which lies in one stored chunk if the sides of chunks are powers of two."""
    x, y = (int(middle) // PROBE_PX * PROBE_PX for middle in box.center_xy)
    return Box(x, y, x + PROBE_PX, y + PROBE_PX).clipped(box)


def _shows_in_pyramid(plane: Plane, box: Box) -> bool:
    """Whether a coarse level already tells that a box is not empty; False where it cannot tell.

    A pixel of a level is a mean of its block, or one pixel of it. Where the whole box has one value after
    normalisation, so has every such mean, since the values that become the same eight bits are an interval. So two
    values in the level, in blocks that lie wholly in the box, prove two values in the box. The reverse is not true: a
    speck may vanish in a mean, so an empty-looking level proves nothing and the pixels themselves are read.
    """
    largest = min(box.size) // LEAST_REDUCED_PX
    step = max((f for f in plane.source.level_factors if f is not None and f <= largest), default=1)
    whole = Box(-(-box.x0 // step), -(-box.y0 // step), box.x1 // step, box.y1 // step)
    if step == 1:
        return False
    inside = Box(whole.x0 * step, whole.y0 * step, whole.x1 * step, whole.y1 * step)
    return has_foreground(plane.read_raw(inside, step), plane.normalisation)
