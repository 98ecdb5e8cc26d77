"""The edges of an image of any size as an image (Kirillov et al. 2023, section 7.2)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_sam.errors import OutputError
from napari_sam.export import TIFF_SUFFIXES
from napari_sam.geometry import Box, Tile
from napari_sam.images import Plane, has_foreground
from napari_sam.images.source import ImageInput
from napari_sam.images.urls import local_path
from napari_sam.model import SamModel, load_model
from napari_sam.predict import EdgeConfig
from napari_sam.predict.edges import edge_strength
from napari_sam.tiling import TilingConfig
from napari_sam.tiling.multiscale import iter_blocks
from napari_sam.tiling.writing import atomic_path, output_errors
from napari_sam.workflows.experiments.image_choice import open_plane, plan_views
from napari_sam.workflows.settings import SegmentConfig
from napari_sam.workflows.stages import StageProgress, Stages, not_resumable

STAGE = "edges"
MAX_PNG_PIXELS = 2**26
"""A PNG is made in memory."""
_TIFF_TILE_PX = 512
_BIGTIFF_PIXELS = 2**29


@dataclass(frozen=True, slots=True)
class EdgeResult:
    """What `write_edges` made."""

    output: Path
    image_size: tuple[int, int]
    tiles: int
    """Pieces in which the model saw the image."""
    seconds: float


def write_edges(
    image_or_path: ImageInput,
    output: str | os.PathLike[str],
    model: str | os.PathLike[str] | SamModel = "nano",
    *,
    device: str = "auto",
    edges: EdgeConfig | None = None,
    tiling: TilingConfig | None = None,
    config: SegmentConfig | None = None,
    whole: bool | None = None,
    progress: StageProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> EdgeResult:
    """Write the edge map of an image: :func:`napari_sam.detect_edges` for any size.

    Memory is bounded by a tile and its masks; the map lies on the disk beside `output` until it is brought to [0, 1],
    which needs its largest value.

    Parameters
    ----------
    image_or_path : path, array, or list of arrays
        See :func:`napari_sam.open_image`.
    output : path
        NAME.tif for values in [0, 1] (float32, any size), or NAME.png for 0 to 255; an existing file is replaced.
    model : str, path or SamModel
    device : str
    edges : EdgeConfig, optional
    tiling : TilingConfig, optional
        Of it `core_px` and `halo_px`.
    config : SegmentConfig, optional
        Which plane and channels.
    whole : bool, optional
        Show the image to the model in one piece, reduced, as in the paper, or tile by tile. By default whole if its
        longer side is at most twice the model's input.
    progress : function (stage, done, total), optional
    should_stop : function, optional
        Asked between tiles.

    Raises
    ------
    ImageError, ConfigError, CheckpointError, OutputError
        If something cannot be used or written.
    RunInterrupted
        After `should_stop`.
    """
    output = local_path(output)
    plane = open_plane(image_or_path, config or SegmentConfig())
    check_edge_path(output, plane.shape)
    loaded = model if isinstance(model, SamModel) else load_model(model, device=device)
    views = plan_views(plane.shape, loaded.config.image_size, tiling or TilingConfig(), whole)
    stages = Stages(progress, should_stop)
    with output_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
            strength = np.memmap(Path(folder) / "strength", np.float32, "w+", shape=plane.shape)
            scale = _fill(strength, plane, loaded, edges or EdgeConfig(), views, stages)
            _write(strength, scale, output)
            del strength  # before its folder goes
    return EdgeResult(output, plane.shape, len(views), stages.seconds[STAGE])


def edges_of_array(
    image: ImageInput,
    model: str | os.PathLike[str] | SamModel = "nano",
    *,
    edges: EdgeConfig | None = None,
    whole: bool | None = None,
    progress: StageProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> NDArray[np.float32]:
    """The edge map (H, W) in [0, 1] in memory, as :func:`write_edges` writes it; parameters and errors as there."""
    plane = open_plane(image, SegmentConfig())
    loaded = model if isinstance(model, SamModel) else load_model(model)
    views = plan_views(plane.shape, loaded.config.image_size, TilingConfig(), whole)
    strength = np.zeros(plane.shape, dtype=np.float32)
    scale = _fill(strength, plane, loaded, edges or EdgeConfig(), views, Stages(progress, should_stop))
    return strength * np.float32(scale)


def check_edge_path(path: Path, image_size: tuple[int, int]) -> None:
    """Refuse a name that no edge map of this size can be written to; asked before the work begins."""
    suffix = path.suffix.lower()
    if suffix not in (".png", *TIFF_SUFFIXES):
        raise OutputError(f"an edge map is written to NAME.tif or NAME.png, got {path}; change the end of the name.")
    height, width = image_size
    if suffix == ".png" and height * width > MAX_PNG_PIXELS:
        raise OutputError(
            f"{path}: a PNG of {width} x {height} pixels is too large ({MAX_PNG_PIXELS} at most); write to NAME.tif."
        )


def _fill(
    strength: NDArray[np.float32],
    plane: Plane,
    model: SamModel,
    config: EdgeConfig,
    views: Sequence[Tile],
    stages: Stages,
) -> float:
    """Fill `strength` tile by tile; the factor that brings it to [0, 1]."""
    highest = 0.0
    with not_resumable(), stages.stage(STAGE) as step:
        step(0, len(views))
        for tile in views:
            if has_foreground(plane.read_raw(tile.read), plane.normalisation):
                inside = tile.core.shifted(-tile.read.x0, -tile.read.y0)
                core = edge_strength(model, plane.read(tile.read), config)[inside.slices]
                strength[tile.core.slices] = core
                highest = max(highest, float(core.max()))
            step(tile.index + 1, len(views))
    return 1 / highest if highest > 0 else 0.0


def _write(strength: NDArray[np.float32], scale: float, output: Path) -> None:
    with atomic_path(output) as partial:
        if output.suffix.lower() == ".png":
            partial.write_bytes(imagecodecs.png_encode(np.rint(255 * scale * strength).astype(np.uint8)))
            return
        with partial.open("wb") as file:
            tifffile.imwrite(
                file,
                _iter_tiles(strength, scale),
                shape=strength.shape,
                dtype=np.float32,
                tile=(_TIFF_TILE_PX, _TIFF_TILE_PX),
                compression="zlib",
                photometric="minisblack",
                bigtiff=strength.size > _BIGTIFF_PIXELS,
                software="napari-sam",
                metadata=None,
            )


def _iter_tiles(strength: NDArray[np.float32], scale: float) -> Iterator[NDArray[np.float32]]:
    """Tiles in the order of the file; those at the border are padded with 0."""
    height, width = strength.shape
    for block in iter_blocks((height, width), _TIFF_TILE_PX):
        tile = np.zeros((_TIFF_TILE_PX, _TIFF_TILE_PX), dtype=np.float32)
        tile[Box.of_size(block.size).slices] = strength[block.slices] * np.float32(scale)
        yield tile
