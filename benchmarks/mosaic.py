"""Huge images: memory, agreement with the truth, duplicates and seams, on mosaics of fields with known labels.

    python benchmarks/mosaic.py --work FOLDER [--fields FOLDER_OF_PAIRS] [--sides 4096 16384] [--model nano]

Each mosaic is composed of the same fields (flipped in turn) and segmented by `napari-sam segment` in its own
process; the fields are also segmented alone. Printed are, for each side: peak memory, time, objects, and for the true
objects that no field border cuts the mean IoU with the label that fits best, next to that of the fields alone.
Without `--fields` the fields are generated nuclei. `--large` lays discs over the mosaic that are wider than a tile.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_sam.evaluation import find_overlaps
from napari_sam.model import load_model
from napari_sam.training.data import find_pairs, read_pair
from napari_sam.training.generated import GENERATORS
from napari_sam.workflows.segmentation import segment_array

LARGE_RADIUS_PX = 420
"""Discs of this radius are wider than a tile of the built-in model reads."""
STRIP_PX = 2048


@dataclass(frozen=True)
class Field:
    """One field with its truth; `labels` of objects cut by the field's border are negative."""

    image: NDArray[np.uint8]
    labels: NDArray[np.int64]


def load_fields(folder: Path | None, count: int) -> list[Field]:
    """Fields of a folder of pairs, or generated ones; colour, so that no contrast is changed any more."""
    if folder is None:
        made = [GENERATORS["fluorescent_nuclei"](np.random.default_rng(i), (512, 512)) for i in range(count)]
        samples = [(np.repeat(m.image[..., None], 3, axis=2), m.labels) for m in made]
    else:
        read = [read_pair(pair) for pair in find_pairs(folder)[:count]]
        samples = [(sample.image, sample.labels) for sample in read]
    return [Field(image, _mark_cut(labels.astype(np.int64))) for image, labels in samples]


def _mark_cut(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.where(np.isin(labels, edge[edge > 0]), -labels, labels)


def compose(fields: list[Field], side: int, folder: Path, *, large: bool) -> tuple[zarr.Array, int]:
    """Write the mosaic, strip by strip; its true labels, and the first label of the discs laid over it."""
    height, width = fields[0].labels.shape
    image = zarr.create_array(
        folder / f"mosaic{side}.zarr", shape=(side, side, 3), chunks=(1024, 1024, 3), dtype="u1", overwrite=True
    )
    truth = zarr.create_array(
        folder / f"truth{side}.zarr", shape=(side, side), chunks=(1024, 1024), dtype="i8", overwrite=True
    )
    step = int(max(field.labels.max() for field in fields)) + 1
    number = 0
    for y in range(0, side, height):
        pixels = np.zeros((min(height, side - y), side, 3), np.uint8)
        labels = np.zeros(pixels.shape[:2], np.int64)
        for x in range(0, side, width):
            field = fields[number % len(fields)]
            flip = (slice(None, None, -1 if number % 2 else 1), slice(None, None, -1 if number // 2 % 2 else 1))
            h, w = pixels.shape[0], min(width, side - x)
            pixels[:, x : x + w] = field.image[flip][:h, :w]
            part = field.labels[flip][:h, :w]
            if (h, w) != (height, width):
                part = _mark_cut(np.abs(part)) * np.where(part < 0, -1, 1)
            labels[:, x : x + w] = np.sign(part) * (np.abs(part) + number * step) * (part != 0)
            number += 1
        image[y : y + height], truth[y : y + height] = pixels, labels
    if large:
        _add_discs(image, truth, number * step)
    return truth, number * step


def _add_discs(image: zarr.Array, truth: zarr.Array, first_label: int) -> None:
    side, r = truth.shape[0], LARGE_RADIUS_PX
    y, x = np.indices((2 * r, 2 * r)) - r + 0.5
    disc = x**2 + y**2 < r**2
    shade = (170 + 20 * np.sin(x / 9) * np.sin(y / 11)).astype(np.uint8)
    for i, place in enumerate(range(700, side - 3 * r, 3 * r)):
        window = np.s_[place : place + 2 * r, place : place + 2 * r]
        pixels, labels = image[window], truth[window]
        pixels[disc] = shade[disc][:, None]
        edge_cut = np.unique(labels[disc & (labels > 0)])
        labels[np.isin(labels, edge_cut)] *= -1  # partly covered: not judged
        labels[disc] = first_label + i
        image[window], truth[window] = pixels, labels


def judge(truth: NDArray[np.int64], found: NDArray[np.integer]) -> tuple[NDArray[np.float64], int]:
    """Best IoU of each uncut true object; and how many of them more than one label covers by half of that label."""
    positive = np.where(truth > 0, truth, 0)
    overlaps = find_overlaps(positive, found)
    hits = np.bincount(overlaps.true_index[overlaps.iou > 0.4], minlength=overlaps.n_true)
    return overlaps.best_iou(), int((hits > 1).sum())


def judge_mosaic(truth: zarr.Array, found: zarr.Array, margin: int) -> tuple[dict[int, float], int]:
    """:func:`judge` strip by strip, by label; an object counts in the strip that holds its first row."""
    scores: dict[int, float] = {}
    doubles = 0
    for y in range(0, truth.shape[0], STRIP_PX):
        rows = slice(y, min(y + STRIP_PX + margin, truth.shape[0]))
        true, label = truth[rows], found[rows]
        ids = np.unique(true[:STRIP_PX][true[:STRIP_PX] > 0])
        new = ids[~np.isin(ids, list(scores))]
        whole = np.where(np.isin(true, new), true, 0)
        best, twice = judge(whole, label)
        scores.update(zip(np.unique(whole[whole > 0]).tolist(), best.tolist(), strict=True))
        doubles += twice
    return scores, doubles


def run(image: Path, output: Path, model: str) -> dict[str, object]:
    """`napari-sam segment` in a process of its own; its report."""
    report = output.with_suffix(".json")
    command = [sys.executable, "-m", "napari_sam.cli", "segment", str(image), "-o", str(output), "--axes", "YXS"]
    subprocess.run([*command, "--model", model, "--report", str(report), "--restart"], check=True)
    return json.loads(report.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--fields", type=Path)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--sides", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--large", action="store_true")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    fields = load_fields(args.fields, args.count)
    model = load_model(args.model)
    alone = np.concatenate([judge(f.labels, segment_array(f.image, model))[0] for f in fields])
    print(
        f"fields alone: {len(fields)} fields, {len(alone)} uncut objects, mean IoU {alone.mean():.4f}, "
        f"found {np.mean(alone > 0.5):.4f}"
    )
    peaks = []
    for side in args.sides:
        truth, first_large = compose(fields, side, args.work, large=args.large)
        output = args.work / f"labels{side}.ome.zarr"
        report = run(args.work / f"mosaic{side}.zarr", output, args.model)
        by_label, doubles = judge_mosaic(truth, zarr.open_group(output, mode="r")["0"], 2 * LARGE_RADIUS_PX + 64)
        scores = np.array([iou for label, iou in by_label.items() if label < first_large])
        large = np.array([iou for label, iou in by_label.items() if label >= first_large])
        peaks.append(report["peak_rss_mb"])
        print(
            f"mosaic {side}: peak {report['peak_rss_mb']:.0f} MB ({peaks[-1] / peaks[0]:.2f} of the first), "
            f"{sum(report['seconds'].values()):.0f} s {report['seconds']}, {report['objects']} objects\n"
            f"  {len(scores)} uncut true ones: mean IoU {scores.mean():.4f} "
            f"({scores.mean() / alone.mean():.4f} of alone), found {np.mean(scores > 0.5):.4f}, found twice {doubles}\n"
            f"  seam cuts {report['seam_cuts']}, prompted again {report['cut_objects_reprompted']}, "
            f"fragments {report['fragments']}"
        )
        if len(large):
            print(f"  objects wider than a tile: {len(large)}, mean IoU {large.mean():.3f}, least {large.min():.3f}")


if __name__ == "__main__":
    main()
