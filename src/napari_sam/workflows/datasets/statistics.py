"""What a data set is like: where its masks lie, how many, how large, how concave (paper, figures 5 and 6)."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError
from napari_sam.export import Sa1bFile, concavity, is_sa1b, iter_sa1b, trace_polygons
from napari_sam.geometry import Mask
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.writing import write_bytes
from napari_sam.workflows.datasets.folders import iter_label_folder

CENTRE_BINS = 32
SIZE_BINS = 20
CONCAVITY_BINS = 20
MASKS_PER_IMAGE = ((0, 10), (11, 50), (51, 100), (101, 200), (201, None))
"""The paper's groups of figure 6, from and to; the last is open."""
_MASKS_AT_ONCE = 128


@dataclass(slots=True)
class DatasetStatistics:
    """Counts of one data set; its memory grows with the number of images, not of masks."""

    name: str
    centres: NDArray[np.int64] = field(default_factory=lambda: np.zeros((CENTRE_BINS, CENTRE_BINS), np.int64))
    """Masks by (row, column) of the middle of their box, as a part of the image's height and width."""
    sizes_and_concavities: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((SIZE_BINS, CONCAVITY_BINS), np.int64)
    )
    """Masks by relative size (square root of mask area over image area) and by concavity, each in equal bins of 0 to 1.
    """
    images: list[tuple[str, int, int, int]] = field(default_factory=list)
    """(name, height, width, number of masks) of each image."""

    @property
    def masks(self) -> int:
        return sum(count for *_, count in self.images)

    @property
    def masks_per_image(self) -> NDArray[np.float64]:
        """Part of the images in each group of `MASKS_PER_IMAGE`."""
        counts = np.array([count for *_, count in self.images])
        shares = [
            ((counts >= low) & (counts <= (high or counts.max(initial=0)))).mean() for low, high in MASKS_PER_IMAGE
        ]
        return np.array(shares)

    @property
    def relative_sizes(self) -> NDArray[np.float64]:
        """Part of the masks in each bin of relative size."""
        of_size = self.sizes_and_concavities.sum(axis=1)
        return np.asarray(of_size / max(1, self.masks_counted), dtype=np.float64)

    @property
    def masks_counted(self) -> int:
        """Masks with pixels."""
        return int(self.sizes_and_concavities.sum())

    def concavities(self, size_shares: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Part of the masks in each bin of concavity.

        Small masks have less room to be concave. To compare data sets of different sizes, the paper samples masks of
        each alike by size; here each bin of size is weighted to have the part it has in `size_shares` (SIZE_BINS,),
        which is what such a sample gives on average. Bins this data set has no masks in are left out.
        """
        counts = self.sizes_and_concavities
        of_size = counts.sum(axis=1)
        weights = np.divide(
            of_size if size_shares is None else size_shares, of_size, out=np.zeros(SIZE_BINS), where=of_size > 0
        )
        weighted: NDArray[np.float64] = (counts * weights[:, None]).sum(axis=0)
        return np.asarray(weighted / max(weighted.sum(), np.finfo(float).tiny))

    def add(self, name: str, image_size: tuple[int, int], masks: Sequence[Mask]) -> None:
        """Count the masks of one image."""
        shown = [mask for mask in masks if not mask.is_empty]
        height, width = image_size
        for start in range(0, len(shown), _MASKS_AT_ONCE):
            batch = shown[start : start + _MASKS_AT_ONCE]
            for mask, polygons in zip(batch, trace_polygons(batch), strict=True):
                x, y = mask.box.center_xy
                self.centres[_bin(y / height, CENTRE_BINS), _bin(x / width, CENTRE_BINS)] += 1
                size = _bin(np.sqrt(mask.area / (height * width)), SIZE_BINS)
                self.sizes_and_concavities[size, _bin(concavity(mask, polygons), CONCAVITY_BINS)] += 1
        self.images.append((name, height, width, len(masks)))


def dataset_statistics(
    path: str | os.PathLike[str], *, name: str | None = None, progress: Progress | None = None
) -> DatasetStatistics:
    """Count the masks of a data set, one image in memory at a time.

    Parameters
    ----------
    path : path
        In SA-1B's layout, or a folder of images and labels as training reads it.
    name : str, optional
        What it is called in plots; by default the folder's name.
    progress : callable, optional
        Called with (images done, 0).

    Raises
    ------
    ImageError, TrainingError
        If there is no data set or a file of it is damaged.
    """
    place = Path(path)
    found = DatasetStatistics(name or place.resolve().name)
    for done, (image, size, masks) in enumerate(_iter_images(place), start=1):
        found.add(image, size, masks)
        if progress is not None:
            progress(done, 0)
    return found


def _iter_images(path: Path) -> Iterator[tuple[str, tuple[int, int], list[Mask]]]:
    if not path.exists():
        raise ImageError(f"there is no data set {path}; check the name.")
    if is_sa1b(path):
        for item in iter_sa1b(path):
            yield _name_of(item.file), item.file.image_size, [mask for _, mask in item.file.masks]
    else:
        for name, objects in iter_label_folder(path):
            yield name, objects.image_size, [mask for _, mask in objects.iter_masks()]


def _name_of(file: Sa1bFile) -> str:
    return file.source_name or file.file_name


def _bin(value: float, bins: int) -> int:
    """Of a value in [0, 1]; 1 itself belongs to the last bin."""
    return min(int(value * bins), bins - 1)


def write_counts(found: Sequence[DatasetStatistics], folder: Path) -> list[Path]:
    """Write all counts as CSV: images, masks_per_image, relative_size, concavity, centres."""
    first = found[0].relative_sizes
    sizes, concavities = _edges(SIZE_BINS), _edges(CONCAVITY_BINS)
    groups = [f"{low}-{high}" if high else f"{low}+" for low, high in MASKS_PER_IMAGE]
    tables: dict[str, tuple[list[str], list[list[Any]]]] = {
        "images": (
            ["dataset", "image", "height", "width", "masks"],
            [[s.name, *row] for s in found for row in s.images],
        ),
        "masks_per_image": _by_bin("masks", groups, {s.name: s.masks_per_image for s in found}),
        "relative_size": _by_bin("relative_size_from", sizes, {s.name: s.relative_sizes for s in found}),
        "concavity": _by_bin("concavity_from", concavities, {s.name: s.concavities(first) for s in found}),
        "centres": (
            ["dataset", "row", "column", "masks"],
            [[s.name, i, j, int(s.centres[i, j])] for s in found for i, j in np.ndindex(*s.centres.shape)],
        ),
    }
    return [_write_csv(folder / f"{name}.csv", *table) for name, table in tables.items()]


def _by_bin(
    column: str, bins: Sequence[str], shares: dict[str, NDArray[np.float64]]
) -> tuple[list[str], list[list[Any]]]:
    rows = [[name, *(round(float(values[i]), 6) for values in shares.values())] for i, name in enumerate(bins)]
    return [column, *shares], rows


def _edges(bins: int) -> list[str]:
    return [f"{i / bins:.2f}" for i in range(bins)]


def _write_csv(path: Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())
    return path
