"""`napari-sam edges`: the edge map of an image."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_sam.cli.options import DeviceFlag, ModelFlag, OutputFlag, given, settings_of
from napari_sam.cli.progress import Bars
from napari_sam.predict import EdgeConfig
from napari_sam.tiling import TilingConfig
from napari_sam.workflows import SegmentConfig
from napari_sam.workflows.experiments.config import IMAGE_FIELDS

TILE_FIELDS = ("core_px", "halo_px")
WHOLE_HELP = (
    "Show the image to the model in one piece, reduced to its input, or tile by tile; by default whole if its longer "
    "side is at most twice the model's input."
)

if TYPE_CHECKING:
    from napari_sam.cli.options import Flags as EdgeFlags
    from napari_sam.cli.options import Flags as ImageFlags
    from napari_sam.cli.options import Flags as TileFlags
else:
    EdgeFlags = settings_of(EdgeConfig, group="Edges")
    TileFlags = settings_of(
        TilingConfig, group="Tiles", without=[f.name for f in fields(TilingConfig) if f.name not in TILE_FIELDS]
    )
    ImageFlags = settings_of(
        SegmentConfig, group="Image", without=[f.name for f in fields(SegmentConfig) if f.name not in IMAGE_FIELDS]
    )


def edges(
    image: str,
    *,
    output: OutputFlag,
    model: ModelFlag = "nano",
    device: DeviceFlag = "auto",
    whole: Annotated[bool | None, Parameter(help=WHOLE_HELP, negative="--tiled")] = None,
    settings: EdgeFlags = None,
    tiles: TileFlags = None,
    image_settings: ImageFlags = None,
) -> None:
    """Write the edges of everything in an image, as an image.

    Masks are asked for on a grid of points; the edges are those of the masks (Kirillov et al. 2023, section 7.2).

    Parameters
    ----------
    image
        TIFF, OME-TIFF, SVS, GeoTIFF, PNG, JPEG, zarr or OME-Zarr.
    output
        NAME.tif for values from 0 to 1 (float32), or NAME.png for 0 to 255.
    """
    from napari_sam.workflows.experiments.edges import write_edges

    with Bars() as bars:
        made = write_edges(
            image,
            output,
            model,
            device=device,
            edges=EdgeConfig(**given(settings)),
            tiling=TilingConfig(**given(tiles)),
            config=SegmentConfig(**given(image_settings)),
            whole=whole,
            progress=bars.update,
        )
    height, width = made.image_size
    seen = "seen whole" if made.tiles == 1 else f"seen in {made.tiles} tiles"
    print(f"edges of {width} x {height} pixels in {made.output} ({made.seconds:.1f} s, {seen})")
