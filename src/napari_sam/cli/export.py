"""`napari-sam export`: finished objects in the formats of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_sam.workflows.formats import ExportFormat


def export(
    labels: Path,
    *,
    output: Annotated[list[Path], Parameter(name=["--output", "-o"], negative="")],
    export_format: Annotated[ExportFormat | None, Parameter(name="--format")] = None,
    table: Path | None = None,
    image: Path | None = None,
    intensities: Annotated[bool, Parameter(negative="")] = False,
    shapes: Annotated[bool, Parameter(negative="")] = False,
    category: str = "object",
    pixel_size_um: float | None = None,
    t: int = 0,
    z: int = 0,
) -> int:
    """Write finished objects in other formats: QuPath, ImageJ, COCO, SA-1B, SpatialData, tables, pictures.

    Parameters
    ----------
    labels
        A label image (OME-Zarr, TIFF, PNG), or masks in SA-1B's format (NAME.json), which may overlap.
    output
        The end of the name says the format: .geojson, .roi.zip (ImageJ), .coco.json, .sa1b.json, .spatialdata.zarr,
        .csv, .parquet, .tif, .ome.zarr, .png (a picture with outlines). Give the flag once for each file.
    export_format
        The format of all outputs, where their names end otherwise.
    table
        The object table of the labels, whose scores are kept; by default the one beside them.
    image
        The image the objects lie in: for .png and --intensities, and for its pixel size and place on the map.
    intensities
        Add mean, minimum and maximum of every channel of the image to a table.
    shapes
        Add axes, diameter, perimeter, eccentricity, orientation and concavity to a table.
    category
        What the objects are, for COCO.
    pixel_size_um
        Side of a pixel in micrometres, where the files are wrong or do not say.
    t
        Time point of the image.
    z
        Plane of the image.
    """
    from napari_sam.workflows.exporting import export_objects

    for path in export_objects(
        labels,
        output,
        export_format=export_format,
        table=table,
        image=image,
        intensities=intensities,
        shapes=shapes,
        category=category,
        pixel_size_um=pixel_size_um,
        t=t,
        z=z,
    ):
        print(path)
    return 0
