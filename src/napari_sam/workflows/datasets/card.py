"""A data card: what whoever uses a data set has to know of it (paper, appendix F), as far as its files tell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_sam import __version__
from napari_sam.tiling.writing import write_bytes
from napari_sam.workflows.datasets.statistics import MASKS_PER_IMAGE, SIZE_BINS, DatasetStatistics

TO_FILL_IN = "_to be filled in by whoever publishes the data_"
LICENCE_NAMES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md")
_SECTIONS: Sequence[tuple[str, Sequence[str]]] = (
    ("Motivation", ("For what purpose was the data set made?", "Who made it, and who paid for it?")),
    (
        "Collection",
        (
            "Where do the images come from, and how were they taken?",
            "When were they taken?",
            "Were people shown or concerned, and did they agree?",
            "Was an ethical review done?",
        ),
    ),
    (
        "Annotation",
        (
            "Who annotated or corrected masks, how were they trained and paid?",
            "Which part of the masks was checked by a person? (`napari-sam dataset quality` compares automatic and "
            "corrected masks.)",
        ),
    ),
    (
        "Use",
        (
            "What has it been used for, and what could it be used for?",
            "What should it not be used for?",
            "Which kinds of images are rare or missing in it?",
        ),
    ),
    ("Distribution and care", ("How is it distributed?", "Who takes care of it, and how can errors be reported?")),
)


def data_card(statistics: DatasetStatistics, folder: str | os.PathLike[str]) -> str:
    """A data card as Markdown: composition, sizes and licence filled in, questions left where files cannot answer.

    Parameters
    ----------
    statistics : DatasetStatistics
        See :func:`napari_sam.workflows.datasets.statistics.dataset_statistics`.
    folder : path
        Of the data set; a licence file in it is named.
    """
    lines = [
        f"# Data card: {statistics.name}",
        "",
        f"Made by napari-sam {__version__} from the files of the data set, after appendix F of Kirillov et al. 2023.",
        f'What no file tells is marked "{TO_FILL_IN.strip("_")}".',
        "",
        "## Composition",
        "",
        *_composition(statistics),
        "",
        f"Licence: {_licence(Path(folder))}",
    ]
    for title, questions in _SECTIONS:
        lines += ["", f"## {title}"]
        for question in questions:
            lines += ["", f"**{question}** {TO_FILL_IN}"]
    return "\n".join(lines) + "\n"


def write_data_card(statistics: DatasetStatistics, folder: str | os.PathLike[str], path: Path) -> Path:
    """Write :func:`data_card`; OutputError if the disk refuses."""
    write_bytes(path, data_card(statistics, folder).encode())
    return path


def _composition(statistics: DatasetStatistics) -> list[str]:
    counts = np.array([count for *_, count in statistics.images])
    sizes = np.array([(height, width) for _, height, width, _ in statistics.images])
    pixels = sizes.prod(axis=1)
    small, large = sizes[pixels.argmin()], sizes[pixels.argmax()]
    groups = ", ".join(
        f"{low}-{high}: {share:.0%}" if high else f"more than {low - 1}: {share:.0%}"
        for (low, high), share in zip(MASKS_PER_IMAGE, statistics.masks_per_image, strict=True)
    )
    return [
        "| what | number |",
        "|---|---|",
        f"| images | {len(counts)} |",
        f"| masks | {statistics.masks} |",
        f"| masks per image | mean {counts.mean():.1f}, median {np.median(counts):.0f}, {counts.min()} to "
        f"{counts.max()} |",
        f"| images by number of masks | {groups} |",
        f"| images without masks | {int((counts == 0).sum())} |",
        f"| image sizes (width x height) | {small[1]} x {small[0]} to {large[1]} x {large[0]} pixels, median "
        f"{np.median(pixels) / 1e6:.2g} megapixels |",
        f"| relative mask size (square root of mask area / image area) | median {_median_size(statistics)} |",
        "",
        "Masks have no classes. Each is a set of pixels, as COCO run lengths in files of SA-1B's layout or as one "
        "value in a label image; where a model made it, its predicted IoU and stability stand beside it.",
    ]


def _median_size(statistics: DatasetStatistics) -> str:
    """The bin in which half of the masks are reached."""
    if not statistics.masks_counted:
        return "none"
    middle = int(np.searchsorted(np.cumsum(statistics.relative_sizes), 0.5))
    return f"between {middle / SIZE_BINS:.2f} and {(middle + 1) / SIZE_BINS:.2f}"


def _licence(folder: Path) -> str:
    found = next((folder / name for name in LICENCE_NAMES if (folder / name).is_file()), None)
    if found is None:
        return TO_FILL_IN
    first = next((line.strip() for line in found.read_text("utf-8", errors="replace").splitlines() if line.strip()), "")
    return f"{first} (`{found.name}`)"
