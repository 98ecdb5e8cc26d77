"""`napari-sam segment`: the main job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_sam import workflows
from napari_sam.cli import EXIT_FAILED, EXIT_TILES_FAILED
from napari_sam.cli.options import (
    DeviceFlag,
    GeojsonFlag,
    ModelFlag,
    OutputFlag,
    OverlayFlag,
    PresetFlag,
    RestartFlag,
    Sa1bFlag,
    TableFlag,
    given,
    settings_of,
)
from napari_sam.cli.progress import Bars
from napari_sam.errors import NapariSamError, RunInterrupted
from napari_sam.predict import AutoMaskConfig
from napari_sam.tiling import TilingConfig
from napari_sam.workflows import SegmentConfig, SegmentPaths

if TYPE_CHECKING:
    from napari_sam.cli.options import Flags as AutomaticFlags
    from napari_sam.cli.options import Flags as ImageFlags
    from napari_sam.cli.options import Flags as TilingFlags
    from napari_sam.workflows import SegmentResult
else:
    AutomaticFlags = settings_of(AutoMaskConfig, group="Automatic masks")
    TilingFlags = settings_of(TilingConfig, group="Tiles and merging")
    ImageFlags = settings_of(SegmentConfig, group="Image and workers")


def segment(
    image: str,
    *,
    output: OutputFlag,
    model: ModelFlag = "nano",
    device: DeviceFlag = "auto",
    preset: PresetFlag = None,
    roi: Path | None = None,
    table: TableFlag = None,
    sa1b: Sa1bFlag = None,
    geojson: GeojsonFlag = None,
    overlay: OverlayFlag = None,
    report: Path | None = None,
    run_folder: Path | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    restart: RestartFlag = False,
    automatic: AutomaticFlags = None,
    tiling: TilingFlags = None,
    image_settings: ImageFlags = None,
) -> int:
    """Outline all objects of an image of any size.

    An interrupted run goes on where it stopped when the same command is given again.

    Parameters
    ----------
    image
        TIFF, OME-TIFF, SVS, GeoTIFF, PNG, JPEG, zarr or OME-Zarr; zarr and OME-Zarr also by URL (s3://, https://).
    output
        NAME.ome.zarr, also by URL (s3://BUCKET/NAME.ome.zarr), or NAME.tif for images up to a gigapixel.
    roi
        Keep only objects inside this region: a mask image or GeoJSON polygons.
    report
        Write counts, times and settings: NAME.json.
    run_folder
        Where the run records what is finished, seen by all workers; by default beside the output, and for an output by
        URL in the current folder.
    dry_run
        Print the tile plan and the predicted memory, disk and time; write nothing.
    """
    job: dict[str, Any] = {
        "model": model,
        "device": device,
        "preset": preset,
        "automatic": given(automatic),
        "tiling": TilingConfig(**given(tiling)),
        "config": SegmentConfig(**given(image_settings)),
        "roi": roi,
    }
    if dry_run:
        _print_plan(image, job)
        return 0
    paths = SegmentPaths(table=table, sa1b=sa1b, geojson=geojson, overlay=overlay, report=report)
    return _run(image, output, {**job, "paths": paths, "run_folder": run_folder, "restart": restart})


def _run(image: str, output: Path, job: dict[str, Any]) -> int:
    """Run the job with progress bars; the exit code."""
    with Bars() as bars:
        try:
            result = workflows.segment(image, output, **job, progress=bars.update, on_estimate=bars.tell_estimate)
        except RunInterrupted:
            raise
        except NapariSamError as error:
            if not bars.has_begun:  # refused: nothing was written
                raise
            bars.close()
            print(f"napari-sam: {error}", file=sys.stderr)
            return EXIT_FAILED
    _print_result(result, output)
    return 0 if result.is_complete else EXIT_TILES_FAILED


def _print_plan(image: str, job: dict[str, Any]) -> None:
    plan = workflows.plan_segment(image, **job)
    height, width = plan.plane.shape
    tiles = plan.tiles
    rows, columns = tiles.grid_shape
    print(f"image     {plan.plane.source.name}: {width} x {height} pixels (width x height), {plan.plane.dtype}")
    print(f"model     {plan.model.name} on {plan.model.device}")
    fine = sum(tile.step == 1 for tile in tiles.kept)
    coarse = f" and {len(tiles.kept) - fine} at reduced resolution" if tiles.coarse else ""
    print(
        f"tiles     {fine} of {rows} x {columns} (rows x columns), cores of {tiles.core_px} px with a "
        f"halo of {tiles.halo_px} px{coarse}; {len(tiles.skipped)} skipped as empty"
    )
    print(f"expected  {plan.estimate().as_text()}")


def _print_result(result: SegmentResult, output: Path) -> None:
    from napari_sam.workflows.places import place_text

    report = result.report
    seconds = sum(report.seconds.values())
    print(f"{report.objects} objects in {place_text(output)} ({seconds:.1f} s, {report.seam_cuts} cut at seams)")
    if report.tiles_failed:
        print(f"napari-sam: {len(report.tiles_failed)} of {report.tiles} tiles failed and are empty:", file=sys.stderr)
        for index, why in report.tiles_failed.items():
            print(f"  tile {index}: {why}", file=sys.stderr)
    if report.reprompts_failed:
        print(f"napari-sam: {len(report.reprompts_failed)} cut objects could not be made whole:", file=sys.stderr)
        for fragment, why in report.reprompts_failed.items():
            print(f"  {fragment}: {why}", file=sys.stderr)
    if not result.is_complete:
        print("Give the same command again to try them once more.", file=sys.stderr)
