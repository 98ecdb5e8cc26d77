"""A job of `segment` before its first tile: checked, with the tiles that are to be segmented."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from numpy.typing import NDArray

from napari_sam.errors import ConfigError, OutputError
from napari_sam.export import check_overlay_path, check_table_path
from napari_sam.geometry import Box, Mask, Tile, layer_point_grids
from napari_sam.images import Plane, Roi, has_foreground, open_image, read_roi
from napari_sam.images.source import ImageInput
from napari_sam.images.urls import local_path
from napari_sam.model import SamModel, load_model
from napari_sam.predict import AutoMaskConfig, generate_masks, preset_config
from napari_sam.predict.automatic import check_prompt_source, takes_regions
from napari_sam.predict.embedding import largest_region_frame
from napari_sam.tiling import TilePlan, TilingConfig, plan_tiles
from napari_sam.workflows.estimate import Estimate, TileSample, estimate_run, sample_tiles, time_tile

ExecutorName = Literal["processes", "threads"]
PROBE_PX = 128
"""Side of what is read of a tile without a pyramid, before all of it is."""
MANY_TILES = 16
"""So many are shared out among threads; fewer leave some of them idle at the end."""
MOST_THREADS = 8
"""That segment tiles by default: each holds some 150 MB, and more have not been tried."""
LEAST_REDUCED_PX = 16
"""Side that a tile still has in the pyramid level in which foreground is looked for first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentConfig:
    """Which part of the image is segmented, and by how many workers."""

    t: int = 0
    """Time point."""
    z: int = 0
    """Plane of the stack."""
    channels: tuple[int | str, ...] | None = None
    """One to three channels, by index or name; by default what can only be meant."""
    axes: str | None = None
    """One letter an axis of the stored array (TCZYX, S for colour samples), where the file does not say."""
    series: int = 0
    """Which image of a file that holds several."""
    pixel_size_um: float | None = None
    """Side of a pixel in micrometres, where the file is wrong or does not say."""
    workers: int | None = None
    """Tiles segmented at the same time, each by a process of this machine with a model of its own; one a GPU. By
    default this process alone, with several threads where that is faster (the built-in model on a CPU)."""
    scheduler: str | None = None
    """Address of a dask scheduler (tcp://HOST:8786), or the file it wrote (NAME.json), whose workers are taken."""
    executor: ExecutorName = "processes"
    """Whether several workers are processes, or threads that share one model."""
    torch_threads: int | None = None
    """CPU threads with which the network runs in each worker; by default one for many tiles of the built-in model, else
    as many as torch takes here. With several workers on one machine, its cores divided by the workers is fastest. The
    same number gives the same bytes."""
    intensities: bool = False
    """Add the mean, minimum and maximum of every channel of the image in each object to the table."""
    shapes: bool = False
    """Add axes, diameter, perimeter, eccentricity, orientation and concavity of each object to the table."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}; one a CPU core or GPU is usual.")
        if self.executor not in get_args(ExecutorName):
            raise ConfigError(f"executor must be one of {', '.join(get_args(ExecutorName))}, got {self.executor!r}.")
        if self.torch_threads is not None and self.torch_threads < 1:
            raise ConfigError(f"torch_threads must be at least 1, got {self.torch_threads}; one a core is usual.")
        if self.scheduler is not None and (self.n_workers > 1 or self.executor == "threads"):
            raise ConfigError(
                f"the cluster at {self.scheduler} has workers of its own; leave out workers = {self.workers} and "
                f"executor = {self.executor!r}, or leave out the scheduler."
            )

    @property
    def n_workers(self) -> int:
        """`workers`, one where it is left open."""
        return 1 if self.workers is None else self.workers

    @property
    def uses_local_cluster(self) -> bool:
        """Whether processes of this machine segment the tiles."""
        return self.scheduler is None and self.n_workers > 1 and self.executor == "processes"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPaths:
    """Where results go besides the label image; what is None is not written."""

    table: Path | None = None
    """One row an object: NAME.csv or NAME.parquet."""
    sa1b: Path | None = None
    """All masks in SA-1B's format: NAME.json."""
    geojson: Path | None = None
    """Outlines for QuPath and GIS programs: NAME.geojson."""
    overlay: Path | None = None
    """Outlines over the image, reduced to a quick look: NAME.png."""
    report: Path | None = None
    """Counts, times and settings: NAME.json."""

    def given(self) -> list[Path]:
        """The paths that are set."""
        return [path for path in (getattr(self, f.name) for f in fields(self)) if path is not None]

    def check(self, output: Path | None, inputs: list[Path]) -> None:
        """Refuse names that could not be written, or that would cost something else; asked before the work begins.

        Parameters
        ----------
        output : Path or None
            The label image; None where it goes to a URL.
        inputs : list of Path
            Files the job reads.

        Raises
        ------
        OutputError, ConfigError
        """
        labels = [] if output is None else [output]
        for path in self.given():
            local_path(path)
        if self.table is not None:
            check_table_path(self.table)
        if self.overlay is not None:
            check_overlay_path(self.overlay)
        for path in self.given():
            if path.is_dir():
                raise OutputError(f"{path} is a folder; give the name of a file to write.")
            if any(label.resolve() in path.resolve().parents for label in labels):
                raise OutputError(f"{path} lies inside the label image {output}; write it elsewhere.")
        results = [path.resolve() for path in (*labels, *self.given())]
        if len(set(results)) < len(results):
            named = ", ".join(map(str, results))
            raise OutputError(f"two results go to the same file: {named}; give each its own name.")
        for path in inputs:
            if path.resolve() in results or any(label.resolve() in path.resolve().parents for label in labels):
                raise OutputError(f"{path} is read by this job and would be overwritten; give the result another name.")
        for path in (*labels, *self.given()):
            _check_can_be_made(path)


def _check_can_be_made(path: Path) -> None:
    """Refuse a path below a file or in a folder that may not be written to."""
    there = next((parent for parent in path.absolute().parents if parent.exists()), Path("/"))
    if not there.is_dir():
        raise OutputError(f"cannot write {path}: {there} is a file, not a folder. Choose another path.")
    if not os.access(there, os.W_OK):
        raise OutputError(f"cannot write {path}: {there} is read-only. Choose a folder you may write to.")


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

    @property
    def segment_tile(self) -> Callable[[NDArray[Any]], list[Mask]]:
        """Pixels of a tile to its masks."""
        return partial(generate_masks, self.model, config=self.automatic)

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
    return SegmentPlan(plane, loaded, automatic, tiling, tiles, region, config)


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
    many = takes_regions(model, automatic) and model.device.type == "cpu" and n_tiles >= MANY_TILES
    cores = torch.get_num_threads()
    threads = config.torch_threads or (1 if many else cores)
    if config.workers is None and config.scheduler is None and many:
        workers = max(min(cores // threads, MOST_THREADS), 1)
        return replace(config, workers=workers, executor="threads", torch_threads=threads)
    return replace(config, workers=config.n_workers, torch_threads=threads)


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
