"""`napari-sam text`: the objects that a text means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_sam.cli.options import DeviceFlag, OutputFlag, PresetFlag, given, settings_of
from napari_sam.cli.progress import Bars
from napari_sam.predict.text import TextConfig
from napari_sam.workflows import SegmentConfig

if TYPE_CHECKING:
    from napari_sam.cli.options import Flags as ImageFlags
    from napari_sam.cli.options import Flags as TextFlags
else:
    TextFlags = settings_of(TextConfig, group="Text")
    ImageFlags = settings_of(SegmentConfig, group="Image and workers", without=("intensities", "shapes"))

Point = Annotated[list[tuple[float, float]] | None, Parameter(negative="")]


def text(
    image: Path,
    text: str,
    *,
    output: OutputFlag,
    clip: Path,
    objects: Path | None = None,
    point: Point = None,
    not_point: Point = None,
    table: Path | None = None,
    model: str = "nano",
    device: DeviceFlag = "auto",
    preset: PresetFlag = None,
    text_settings: TextFlags = None,
    image_settings: ImageFlags = None,
) -> int:
    """Outline the objects that a text means, such as "a red cell", in an image of any size.

    All objects are found first, into NAME.all.ome.zarr beside the output; another text takes them from there.

    Parameters
    ----------
    image
        As for `napari-sam segment`.
    text
        What is looked for.
    output
        NAME.ome.zarr, or NAME.tif for images up to a gigapixel.
    clip
        Folder of a CLIP model on this machine, in the layout of the transformers library; nothing is fetched.
    objects
        A label image or SA-1B file of the image's objects, instead of finding them.
    point
        X Y of a pixel on an object that is meant, whatever its score. Give the flag once for each.
    not_point
        X Y of a pixel on an object that is not meant. Give the flag once for each.
    table
        Write one row an object with its text score: NAME.csv or NAME.parquet.
    model
        Finds the objects: a name from `napari-sam models list`, or a checkpoint file.
    """
    from napari_sam.workflows.experiments.text_masks import segment_by_text

    points = [*(point or []), *(not_point or [])]
    with Bars() as bars:
        result = segment_by_text(
            image,
            text,
            output,
            clip=clip,
            objects=objects,
            points_xy=points or None,
            point_labels=[1] * len(point or []) + [0] * len(not_point or []) if points else None,
            config=TextConfig(**given(text_settings)),
            table=table,
            model=model,
            device=device,
            preset=preset,
            segment_config=SegmentConfig(**given(image_settings)),
            progress=bars.update,
        )
    print(f"{len(result.scores)} of {result.considered} objects in {result.labels}")
    return 0
