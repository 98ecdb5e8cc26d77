"""`napari-sam segment-stack`: all planes of a stack or film, linked to objects."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.cli import EXIT_TILES_FAILED
from napari_sam.cli.options import DeviceFlag, ModelFlag, OutputFlag, PresetFlag, RestartFlag, given, settings_of
from napari_sam.cli.progress import Bars
from napari_sam.predict import AutoMaskConfig
from napari_sam.tiling import TilingConfig
from napari_sam.workflows import SegmentConfig
from napari_sam.workflows.stack_config import LinkConfig

if TYPE_CHECKING:
    from napari_sam.cli.options import Flags as AutomaticFlags
    from napari_sam.cli.options import Flags as ImageFlags
    from napari_sam.cli.options import Flags as LinkFlags
    from napari_sam.cli.options import Flags as TilingFlags
else:
    LinkFlags = settings_of(LinkConfig, group="Linking")
    AutomaticFlags = settings_of(AutoMaskConfig, group="Automatic masks")
    TilingFlags = settings_of(TilingConfig, group="Tiles and merging")
    # The model is loaded once for all planes, so workers are threads; the table is made after linking.
    ImageFlags = settings_of(SegmentConfig, group="Image and workers", without=("executor", "intensities", "shapes"))


def segment_stack_command(
    image: str,
    *,
    output: OutputFlag,
    model: ModelFlag = "nano",
    device: DeviceFlag = "auto",
    preset: PresetFlag = None,
    roi: Path | None = None,
    table: Path | None = None,
    restart: RestartFlag = False,
    link: LinkFlags = None,
    automatic: AutomaticFlags = None,
    tiling: TilingFlags = None,
    image_settings: ImageFlags = None,
) -> int:
    """Outline all objects of a stack or film; each has one label in all of its planes.

    An interrupted run goes on where it stopped when the same command is given again.

    Parameters
    ----------
    image
        TIFF, OME-TIFF, zarr or OME-Zarr with an axis Z or T.
    output
        NAME.ome.zarr, or NAME.tif for planes up to a gigapixel. Results of the planes are kept in OUTPUT.planes.
    roi
        Keep only objects inside this region of every plane: a mask image or GeoJSON polygons.
    table
        One row an object: NAME.csv or NAME.parquet; by default NAME.csv beside the output.
    """
    from napari_sam.workflows.stack import segment_stack

    with Bars() as bars:
        result = segment_stack(
            image,
            output,
            model,
            device=device,
            preset=preset,
            automatic=given(automatic),
            tiling=TilingConfig(**given(tiling)),
            config=SegmentConfig(**given(image_settings)),
            link=LinkConfig(**given(link)),
            roi=roi,
            table=table,
            restart=restart,
            progress=bars.update,
        )
    print(f"{len(result.table)} objects in {len(result.planes)} planes, labels in {output}")
    if result.is_complete:
        return 0
    for plane, found in enumerate(result.planes):
        if not found.is_complete:
            print(f"napari-sam: plane {plane}: {len(found.report.tiles_failed)} tiles failed", file=sys.stderr)
    print("Give the same command again to try them once more.", file=sys.stderr)
    return EXIT_TILES_FAILED
