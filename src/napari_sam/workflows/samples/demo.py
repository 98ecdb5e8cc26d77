"""`make demo`: the main job on a large composed image, compared with what is known about it.

Run as ``python -m napari_sam.workflows.samples.demo --out FOLDER``. Needs no network and no GPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_sam.errors import TrainingError
from napari_sam.evaluation import Overlaps, find_overlaps, match
from napari_sam.workflows.samples.images import MOSAIC_FIELDS, Sample, mosaic
from napari_sam.workflows.segmentation import segment as segment_image

IOU_THRESH = 0.5


def compare(found: NDArray[np.integer], sample: Sample) -> Overlaps:
    """Overlaps of the objects of a label image with the known objects of a sample.

    Parameters
    ----------
    found : ndarray of shape (H, W), int
        0 is background. Objects that lie mostly where nothing is known are left out.
    sample : Sample
        With labels.

    Raises
    ------
    TrainingError
        If nothing is known about the sample, or the shapes differ.
    """
    if sample.labels is None:
        raise TrainingError("nothing is known about the objects of this sample; take one with labels.")
    if sample.known is not None and sample.known.shape == found.shape:
        index = np.unique(found, return_inverse=True)[1].ravel()
        share_known = np.bincount(index, weights=sample.known.ravel()) / np.bincount(index)
        found = np.where((share_known > 0.5)[index].reshape(found.shape), found, 0)
    return find_overlaps(sample.labels, found)


def run_demo(
    out: Path, *, segment: Callable[..., Any] = segment_image, fields: tuple[int, int] = MOSAIC_FIELDS, seed: int = 0
) -> Overlaps:
    """Compose the image, segment it, compare, and print what came of it and where it is.

    Parameters
    ----------
    out : Path
        Folder for the image, the label image, the table and the overlay; made if missing.
    segment : callable, optional
        Called as `napari_sam.segment`, which it is by default.
    fields, seed
        As in `mosaic`.
    """
    out.mkdir(parents=True, exist_ok=True)
    sample = mosaic(seed=seed, fields=fields)
    image, labels, table, overlay = (
        out / name for name in ("image.tif", "labels.ome.zarr", "objects.csv", "overlay.png")
    )
    tifffile.imwrite(image, sample.image, tile=(512, 512), compression="zlib", photometric="rgb")
    height, width = sample.image.shape[:2]
    print(f"Composed an image of {width} x {height} pixels from real images and generated fields of cells.")
    start = time.perf_counter()
    # The image was just written, so what an earlier demo recorded there is of another file.
    result = segment(image, labels, model="nano", table=table, overlay=overlay, restart=True)
    seconds = time.perf_counter() - start
    overlaps = compare(np.asarray(result.labels), sample)
    print(
        f"Found {len(result.table)} objects in {seconds:.0f} s ({seconds / (width * height / 1e6):.1f} s a megapixel)."
    )
    print(_told(overlaps))
    print(f"Look at\n  the outlines  {overlay}\n  the labels    {labels}\n  the table     {table}")
    return overlaps


def _told(overlaps: Overlaps) -> str:
    matching = match(overlaps, IOU_THRESH)
    return (
        f"Of {overlaps.n_true} known objects, {matching.true_positives} were found with IoU {IOU_THRESH} or more; "
        f"{matching.false_positives} others were found.\n"
        f"  AP at IoU {IOU_THRESH}  {matching.average_precision:.2f}\n"
        f"  mean IoU       {overlaps.best_iou().mean() if overlaps.n_true else 1.0:.2f}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo with command-line arguments; 0 when the job is complete."""
    parser = argparse.ArgumentParser(prog="python -m napari_sam.workflows.samples.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder for the results")
    run_demo(parser.parse_args(arguments).out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
