"""`napari-sam dataset`: data sets in SA-1B's layout, what they are like, and how good their masks are."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from napari_sam.cli.options import DeviceFlag, OutputFlag, PresetFlag
from napari_sam.cli.progress import Bars

app = App(
    name="dataset",
    help="Write, read, count and describe data sets in SA-1B's layout; judge their masks.",
    help_format="plaintext",
)


@app.command
def write(
    folder: Path,
    *,
    output: OutputFlag,
    model: str | None = None,
    device: DeviceFlag = "auto",
    preset: PresetFlag = None,
    images_per_shard: int = 1000,
    picture: Literal["png", "jpg"] = "png",
) -> None:
    """Write a folder of images and labels as shards of pictures and masks.

    Parameters
    ----------
    folder
        NAME.image.png + NAME.labels.png pairs, images/ and labels/, or a manifest.csv; with --model, also plain images.
    output
        Folder for the shards sa_000000.tar, sa_000001.tar, ...
    model
        Finds the masks of images without labels: a name from `napari-sam models list`, or a checkpoint file.
    images_per_shard
        Images in one tar file.
    picture
        How pictures are stored: png loses nothing, jpg is what SA-1B uses.
    """
    from napari_sam.workflows.datasets.folders import write_dataset

    with Bars() as bars:
        summary = write_dataset(
            folder,
            output,
            model=model,
            device=device,
            preset=preset,
            images_per_shard=images_per_shard,
            picture=picture,
            progress=partial(bars.update, "images"),
        )
    print(f"{summary.images} images with {summary.masks} masks in {output}")


@app.command
def read(dataset: Path, *, output: OutputFlag) -> None:
    """Write a data set in SA-1B's layout as pairs NAME.image.png + NAME.labels.tif, for training.

    Parameters
    ----------
    dataset
        A folder of shards or of loose files, or one shard.
    output
        Folder for the pairs.
    """
    from napari_sam.workflows.datasets.folders import read_dataset

    with Bars() as bars:
        summary = read_dataset(dataset, output, progress=partial(bars.update, "images"))
    print(f"{summary.images} images with {summary.masks} masks in {output}")


@app.command
def stats(*datasets: Path, output: OutputFlag) -> None:
    """Plots and tables of where masks lie, how many, how large and how concave they are (figures 5 and 6 of the paper).

    Parameters
    ----------
    datasets
        Data sets in SA-1B's layout, or folders of images and labels; several are compared.
    output
        Folder for SVG and CSV files.
    """
    from napari_sam.workflows.datasets.plots import write_statistics
    from napari_sam.workflows.datasets.statistics import dataset_statistics

    found = []
    for place in datasets:
        with Bars() as bars:
            found.append(dataset_statistics(place, progress=partial(bars.update, place.name)))
    for path in write_statistics(found, output):
        print(path)


@app.command
def card(dataset: Path, *, output: OutputFlag) -> None:
    """A data card with all that the files tell, and the questions they leave open.

    Parameters
    ----------
    dataset
        A data set in SA-1B's layout, or a folder of images and labels.
    output
        NAME.md.
    """
    from napari_sam.workflows.datasets.card import write_data_card
    from napari_sam.workflows.datasets.statistics import dataset_statistics

    print(write_data_card(dataset_statistics(dataset), dataset, output))


@app.command
def quality(*journals: Path, output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None) -> None:
    """Compare automatic masks with what people made of them, from the journals of annotation sessions.

    Parameters
    ----------
    journals
        Of sessions that began with automatic masks.
    output
        Folder for a table of all pairs, the figures and a histogram.
    """
    from napari_sam.workflows.datasets.mask_quality import mask_quality, write_quality

    found = mask_quality(journals)
    print(found.as_text())
    if output is not None:
        for path in write_quality(found, output):
            print(path)
