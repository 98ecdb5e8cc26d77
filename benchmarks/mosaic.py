"""Huge images: memory, agreement with the truth, duplicates and seams, on mosaics of fields with known labels.

    python benchmarks/mosaic.py --work FOLDER [--fields FOLDER_OF_PAIRS] [--sides 4096 16384] [--model nano]

Each mosaic is composed of the same fields (flipped in turn) and segmented by `napari-sam segment` in its own
process; the fields are also segmented alone. Printed are, for each side: peak memory, time, objects, and for the true
objects that no border cuts the mean IoU with the label that fits best, next to that of the very same objects in the
fields alone. Their difference has a standard error, as the model sees each object at another place of a tile.
Fields are cut straight where they meet, and so are their objects. Of the contours that run straight along a seam, those
are counted apart that lie where no two fields meet: there a seam alone can be the reason.
Without `--fields` the fields are generated nuclei. `--large` lays discs over the mosaic that are wider than a tile.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_sam.evaluation import find_overlaps
from napari_sam.geometry import Box, Mask
from napari_sam.geometry.overlap import runs_of
from napari_sam.model import load_model
from napari_sam.tiling import TilingConfig, plan_tiles
from napari_sam.tiling.seams import Seams
from napari_sam.training.data import find_pairs, read_pair
from napari_sam.training.generated import GENERATORS
from napari_sam.workflows.segmentation import segment_array

LARGE_RADIUS_PX = 420
"""Discs of this radius are wider than a tile of the built-in model reads."""
MARGIN_PX = 64
"""No other object is wider."""
STRIP_PX = 2048
NEAR_BORDER_PX = 2
"""A contour so near to where two fields meet follows that border: the model's edges are not exact to the pixel."""
TWICE_IOU = 0.4
"""Two labels that both have this IoU with one true object show it twice (or in two halves)."""


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


@dataclass(frozen=True)
class Mosaic:
    """The truth of a composed image."""

    truth: zarr.Array
    """Object `label` of the field in place `number` has the label `number * step + label`."""
    step: int
    first_large: int
    """The first label of the discs laid over it."""


def compose(fields: list[Field], side: int, folder: Path, *, large: bool) -> Mosaic:
    """Write the mosaic and its true labels, strip by strip."""
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
                part = np.minimum(part, _mark_cut(np.abs(part)))  # cut by either border
            labels[:, x : x + w] = np.sign(part) * (np.abs(part) + number * step) * (part != 0)
            number += 1
        image[y : y + height], truth[y : y + height] = pixels, labels
    if large:
        _add_discs(image, truth, number * step)
    return Mosaic(truth, step, number * step)


def _add_discs(image: zarr.Array, truth: zarr.Array, first_label: int) -> None:
    side, r = truth.shape[0], LARGE_RADIUS_PX
    y, x = np.indices((2 * (r + MARGIN_PX), 2 * (r + MARGIN_PX))) - (r + MARGIN_PX) + 0.5
    disc = x**2 + y**2 < r**2
    shade = (170 + 20 * np.sin(x / 9) * np.sin(y / 11)).astype(np.uint8)
    for i, place in enumerate(range(700, side - 3 * r, 3 * r)):
        around = slice(place - MARGIN_PX, place + 2 * r + MARGIN_PX)
        pixels, labels = image[around, around], truth[around, around]
        pixels[disc] = shade[disc][:, None]
        edge_cut = np.unique(labels[disc & (labels > 0)])
        labels[np.isin(labels, edge_cut)] *= -1  # partly covered: not judged
        labels[disc] = first_label + i
        image[around, around], truth[around, around] = pixels, labels


def judge(truth: NDArray[np.int64], found: NDArray[np.integer]) -> tuple[dict[int, float], int]:
    """IoU of each uncut true object with the label that fits best; and how many of them are found twice."""
    positive = np.where(truth > 0, truth, 0)
    overlaps = find_overlaps(positive, found)
    hits = np.bincount(overlaps.true_index[overlaps.iou > TWICE_IOU], minlength=overlaps.n_true)
    labels = np.unique(positive[positive > 0]).tolist()
    return dict(zip(labels, overlaps.best_iou().tolist(), strict=True)), int((hits > 1).sum())


def judge_mosaic(truth: zarr.Array, found: zarr.Array) -> tuple[dict[int, float], int]:
    """:func:`judge` strip by strip; an object counts in the strip that holds its first row."""
    scores: dict[int, float] = {}
    doubles = 0
    for y in range(0, truth.shape[0], STRIP_PX):
        rows = slice(y, min(y + STRIP_PX + 2 * LARGE_RADIUS_PX + MARGIN_PX, truth.shape[0]))
        true = truth[rows]
        begun = np.unique(true[:STRIP_PX])
        new = begun[(begun > 0) & ~np.isin(begun, list(scores))]
        in_strip, twice = judge(np.where(np.isin(true, new), true, 0), found[rows])
        scores.update(in_strip)
        doubles += twice
    return scores, doubles


def segment_in_process(image: Path, output: Path, model: str) -> dict[str, Any]:
    """`napari-sam segment` in a process of its own; its report."""
    report = output.with_suffix(".json")
    command = [sys.executable, "-m", "napari_sam.cli", "segment", str(image), "-o", str(output), "--axes", "YXS"]
    results = ["--report", str(report), "--table", str(output.with_suffix(".csv"))]
    subprocess.run([*command, "--model", model, *results, "--restart"], check=True)
    return json.loads(report.read_text())


def count_real_seam_cuts(output: Path, field_size: tuple[int, int], report: dict[str, Any]) -> int:
    """Objects that end straight along a seam where no two fields meet."""
    labels = zarr.open_group(output, mode="r")["0"]
    seams = Seams.of(plan_tiles(labels.shape, TilingConfig(**report["config"]["tiling"])))
    seams = Seams(
        *(
            lines[np.abs((lines + side // 2) % side - side // 2) > NEAR_BORDER_PX]
            for lines, side in ((seams.x_lines, field_size[1]), (seams.y_lines, field_size[0]))
        )
    )
    with output.with_suffix(".csv").open() as lines:
        rows = [{name: float(row[name]) for name in ("label", "x0", "y0", "x1", "y1")} for row in csv.DictReader(lines)]
    cut = 0
    for row in rows:
        box = Box(int(row["x0"]), int(row["y0"]), int(row["x1"]), int(row["y1"]))
        if seams.sides_on(box.as_xyxy()[None]).any():
            mask = Mask.from_window(labels[box.slices] == int(row["label"]), box, labels.shape)
            cut += int(seams.cuts(runs_of([mask])).sum())
    return cut


def judge_alone(fields: list[Field], model: str) -> list[dict[int, float]]:
    """The scores of each field segmented alone."""
    loaded = load_model(model)
    judged = [judge(field.labels, segment_array(field.image, loaded)) for field in fields]
    scores = [iou for by_label, _ in judged for iou in by_label.values()]
    print(
        f"fields alone: {len(fields)} fields, {len(scores)} uncut objects, mean IoU {np.mean(scores):.4f}, "
        f"found {np.mean(np.array(scores) > 0.5):.4f}, found twice {sum(doubles for _, doubles in judged)}"
    )
    return [by_label for by_label, _ in judged]


def print_agreement(scores: dict[int, float], alone: list[dict[int, float]], step: int, doubles: int) -> None:
    """The same objects in the mosaic and in the fields alone."""
    pairs = np.array([(iou, alone[label // step % len(alone)][label % step]) for label, iou in scores.items()])
    here, there = pairs.mean(axis=0)
    error = np.std(pairs[:, 0] - pairs[:, 1]) / len(pairs) ** 0.5
    found_here, found_there = (pairs > 0.5).mean(axis=0)
    print(
        f"  {len(pairs)} uncut true ones: mean IoU {here:.4f}, the same ones alone {there:.4f} "
        f"(ratio {here / there:.4f}, standard error {error / there:.4f}), found {found_here:.4f}, alone "
        f"{found_there:.4f}; found twice {doubles}"
    )


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
    alone = judge_alone(fields, args.model)
    first_peak = None
    for side in args.sides:
        mosaic = compose(fields, side, args.work, large=args.large)
        output = args.work / f"labels{side}.ome.zarr"
        report = segment_in_process(args.work / f"mosaic{side}.zarr", output, args.model)
        first_peak = first_peak or report["peak_rss_mb"]
        print(
            f"mosaic {side}: peak {report['peak_rss_mb']:.0f} MB ({report['peak_rss_mb'] / first_peak:.2f} of the "
            f"first), {sum(report['seconds'].values()):.0f} s {report['seconds']}, {report['objects']} objects\n"
            f"  seam cuts {report['seam_cuts']}, of them where no fields meet "
            f"{count_real_seam_cuts(output, fields[0].labels.shape, report)}; "
            f"prompted again {report['cut_objects_reprompted']}, fragments {report['fragments']}"
        )
        by_label, doubles = judge_mosaic(mosaic.truth, zarr.open_group(output, mode="r")["0"])
        small = {label: iou for label, iou in by_label.items() if label < mosaic.first_large}
        print_agreement(small, alone, mosaic.step, doubles)
        large = [iou for label, iou in by_label.items() if label >= mosaic.first_large]
        if large:
            print(f"  objects wider than a tile: {len(large)}, mean IoU {np.mean(large):.3f}, least {min(large):.3f}")


if __name__ == "__main__":
    main()
