"""`napari-sam boxes`: boxes of a detector become instances."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam import workflows
from napari_sam.cli import EXIT_TILES_FAILED
from napari_sam.cli.options import (
    DeviceFlag,
    GeojsonFlag,
    ModelFlag,
    OutputFlag,
    OverlayFlag,
    RestartFlag,
    Sa1bFlag,
    given,
    settings_of,
)
from napari_sam.cli.progress import Bars
from napari_sam.workflows import SegmentConfig, SegmentPaths
from napari_sam.workflows.experiments.config import IMAGE_FIELDS

MEASURED_FIELDS = ("intensities", "shapes")
SHOWN = 10
"""Numbers of boxes that are listed before "..."."""

if TYPE_CHECKING:
    from napari_sam.cli.options import Flags as ImageFlags
    from napari_sam.workflows.experiments.boxes import BoxesResult
else:
    ImageFlags = settings_of(
        SegmentConfig,
        group="Image and table",
        without=[f.name for f in fields(SegmentConfig) if f.name not in (*IMAGE_FIELDS, *MEASURED_FIELDS)],
    )


def boxes(
    image: str,
    boxes: Path,
    *,
    output: OutputFlag,
    model: ModelFlag = "nano",
    device: DeviceFlag = "auto",
    image_name: str | None = None,
    table: Path | None = None,
    sa1b: Sa1bFlag = None,
    geojson: GeojsonFlag = None,
    overlay: OverlayFlag = None,
    restart: RestartFlag = False,
    image_settings: ImageFlags = None,
) -> int:
    """Turn the boxes of a detector into instances, in an image of any size.

    The value of a pixel is the number of its box, from 1. An interrupted run goes on where it stopped when the same
    command is given again.

    Parameters
    ----------
    image
        TIFF, OME-TIFF, SVS, GeoTIFF, PNG, JPEG, zarr or OME-Zarr.
    boxes
        COCO JSON, CSV with the columns x0, y0, x1, y1 (or x, y, width, height), or GeoJSON.
    output
        NAME.ome.zarr, or NAME.tif for images up to a gigapixel.
    image_name
        Which image's boxes of a COCO file of several: file name or id; by default the image's own name.
    table
        Write one row an object, with the detector's score and category: NAME.csv or NAME.parquet.
    """
    with Bars() as bars:
        result = workflows.segment_boxes(
            image,
            boxes,
            output,
            model,
            device=device,
            config=SegmentConfig(**given(image_settings)),
            paths=SegmentPaths(table=table, sa1b=sa1b, geojson=geojson, overlay=overlay),
            image_name=image_name,
            restart=restart,
            progress=bars.update,
        )
    return _tell(result, output)


def _tell(result: BoxesResult, output: Path) -> int:
    """Print what was made; the exit code."""
    seconds = sum(result.seconds.values())
    windows = "1 window" if result.windows == 1 else f"{result.windows} windows"
    print(f"{len(result.table)} objects in {output} ({seconds:.1f} s, {windows})")
    if result.empty:
        print(f"napari-sam: nothing was seen in {len(result.empty)} boxes: {_list(result.empty)}", file=sys.stderr)
    if not result.failed:
        return 0
    print(
        f"napari-sam: {len(result.failed)} windows failed, boxes {_list(result.missing)} are missing:", file=sys.stderr
    )
    for index, why in result.failed.items():
        print(f"  window {index}: {why}", file=sys.stderr)
    print("Give the same command again to try them once more.", file=sys.stderr)
    return EXIT_TILES_FAILED


def _list(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers[:SHOWN])) + (", ..." if len(numbers) > SHOWN else "")
