"""Which plane of an image a job is about, for jobs besides `segment`, and what of it the model sees at once."""

from __future__ import annotations

from dataclasses import replace

from napari_sam.errors import ConfigError
from napari_sam.geometry import Tile
from napari_sam.images import Plane, open_image
from napari_sam.images.source import ImageInput
from napari_sam.tiling import TilingConfig, plan_tiles
from napari_sam.workflows.settings import SegmentConfig

WHOLE_UP_TO = 2
"""An image is shown whole if its longer side is at most so many times the model's input."""
MAX_WHOLE_PX = 2**26
"""Pixels of an image that can be shown whole: it is read into memory for that."""


def open_plane(image_or_path: ImageInput, config: SegmentConfig) -> Plane:
    """The plane that `config` chooses, with the normalisation of the whole image; ImageError if that cannot be."""
    source = open_image(image_or_path, axes=config.axes, series=config.series, pixel_size_um=config.pixel_size_um)
    plane = source.plane(t=config.t, z=config.z, channels=config.channels)
    return plane.with_normalisation(plane.normalisation)


def is_seen_whole(image_size: tuple[int, int], model_input_px: int, whole: bool | None) -> bool:
    """Whether the model sees an image (H, W) in one piece: as told, or else if it is not much larger than its input.

    Raises
    ------
    ConfigError
        If a huge image is to be shown whole.
    """
    if whole is None:
        return max(image_size) <= WHOLE_UP_TO * model_input_px
    height, width = image_size
    if whole and height * width > MAX_WHOLE_PX:
        raise ConfigError(
            f"an image of {width} x {height} pixels is too large to be shown whole ({MAX_WHOLE_PX} pixels at most); "
            "leave whole out, then it is seen tile by tile."
        )
    return whole


def plan_views(
    image_size: tuple[int, int], model_input_px: int, tiling: TilingConfig, whole: bool | None
) -> tuple[Tile, ...]:
    """The pieces of an image (H, W) that the model sees: one, or tiles of full resolution."""
    if is_seen_whole(image_size, model_input_px, whole):
        sizes = TilingConfig(core_px=max(image_size), halo_px=0, max_object_px=0)
    else:
        sizes = replace(tiling, max_object_px=0).resolve(model_input_px)
    return plan_tiles(image_size, sizes).tiles
