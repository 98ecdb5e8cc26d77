"""`napari-sam batch`: many images in one call."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_sam.cli import EXIT_TILES_FAILED
from napari_sam.cli.options import DeviceFlag, ModelFlag, OutputFlag, PresetFlag, given, settings_of
from napari_sam.cli.progress import Bars
from napari_sam.predict import AutoMaskConfig
from napari_sam.tiling import TilingConfig
from napari_sam.workflows import SegmentConfig
from napari_sam.workflows.formats import AlsoFormat, LabelFormat

if TYPE_CHECKING:
    from napari_sam.cli.options import Flags as AutomaticFlags
    from napari_sam.cli.options import Flags as ImageFlags
    from napari_sam.cli.options import Flags as TilingFlags
    from napari_sam.workflows.batch import BatchResult
    from napari_sam.workflows.stages import StageProgress
else:
    AutomaticFlags = settings_of(AutoMaskConfig, group="Automatic masks")
    TilingFlags = settings_of(TilingConfig, group="Tiles and merging")
    ImageFlags = settings_of(SegmentConfig, group="Image and workers")


def batch(
    images: Annotated[list[str], Parameter(negative="")],
    /,
    *,
    output: OutputFlag,
    label_format: Annotated[LabelFormat, Parameter(name="--format")] = "ome.zarr",
    also: Annotated[tuple[AlsoFormat, ...], Parameter(negative="")] = ("csv",),
    model: ModelFlag = "nano",
    device: DeviceFlag = "auto",
    preset: PresetFlag = None,
    restart: Annotated[bool, Parameter(negative="")] = False,
    automatic: AutomaticFlags = None,
    tiling: TilingFlags = None,
    image_settings: ImageFlags = None,
) -> int:
    """Outline all objects of many images; the same call skips finished ones and goes on with the others.

    Parameters
    ----------
    images
        Images, folders of images, patterns such as 'plate/*.tif', or a table NAME.csv with a column image.
    output
        A folder for the labels of each image, their tables, and summary.csv.
    label_format
        Label images as NAME.ome.zarr, or NAME.tif for images up to a gigapixel.
    also
        Results of each image besides its labels; some instead of the CSV table. Give the flag once for each.
    restart
        Do finished images again as well.
    """
    from napari_sam.workflows.batch import segment_batch

    with Bars() as bars:

        def begin(number: int, total: int, path: Path) -> StageProgress:
            bars.close()
            print(f"[{number + 1}/{total}] {path}", file=sys.stderr)
            return bars.update

        result = segment_batch(
            images,
            output,
            model,
            label_format=label_format,
            also=also,
            device=device,
            preset=preset,
            automatic=given(automatic),
            tiling=TilingConfig(**given(tiling)),
            config=SegmentConfig(**given(image_settings)),
            restart=restart,
            progress=begin,
        )
    _print_result(result)
    return 0 if result.is_complete else EXIT_TILES_FAILED


def _print_result(result: BatchResult) -> None:
    objects = sum(outcome.objects for outcome in result.outcomes)
    done = [outcome for outcome in result.outcomes if outcome.status == "done"]
    print(f"{len(done)} of {len(result.outcomes)} images done ({result.skipped} by an earlier call), {objects} objects")
    print(f"summary in {result.summary}")
    for outcome in result.outcomes:
        if outcome.status != "done":
            print(f"napari-sam: {outcome.image} is {outcome.status}: {outcome.problem}", file=sys.stderr)
    if not result.is_complete:
        print("Give the same command again to try these once more.", file=sys.stderr)
