"""Interactive answers: latency of clicks in cold and warm regions, memory on a huge image, one-click IoU.

    python benchmarks/interactive.py [--model nano] [--threads 2] [--clicks 20] [--val FOLDER_OF_PAIRS]

Times are those of a clock and, for machines that do other work as well, of the processor (all threads together).
Clicks go to random places: the first one of a region makes the model embed a window (cold), a second, negative one
near it refines the answer (warm), and a third question is the first one again, as a preview on hover asks it (hover).
The huge image is a pyramid whose pixels are computed where they are looked at. With `--val`, one click is made at the
most interior point of each object, and the best-rated mask is compared with the truth.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sam.annotate.answering import answer_question
from napari_sam.annotate.embeddings import EmbeddingStore
from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.prompts import Click, extent_of
from napari_sam.annotate.questions import Answer, Question
from napari_sam.annotate.segmenter import Segmenter
from napari_sam.geometry import Mask, mask_iou, most_interior_point
from napari_sam.training.data import find_pairs, read_pair
from napari_sam.workflows.annotating.sessions import make_segmenter
from napari_sam.workflows.estimate import peak_rss_bytes
from napari_sam.workflows.samples.images import FIELD_PX, mosaic, nuclei

HUGE_PX = 50_000
LEVELS = 8
MEMORY_BYTES = 64 * 2**20
"""Of embeddings: little, so that a bound that does not hold would show."""


@dataclass(frozen=True)
class RepeatedField:
    """One level of an image that repeats a field of nuclei without end; nothing of it is stored."""

    field: NDArray[np.uint8]
    factor: int

    @property
    def shape(self) -> tuple[int, int]:
        return HUGE_PX // self.factor, HUGE_PX // self.factor

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        return self.field.dtype

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[np.uint8]:
        rows, columns = (
            np.arange(*part.indices(n)) * self.factor % FIELD_PX for part, n in zip(key, self.shape, strict=True)
        )
        return self.field[rows[:, None], columns]


def measure(name: str, store: EmbeddingStore, clicks: int, seed: int = 0) -> None:
    """Ask at random places and print the seconds that answers took."""
    rng = np.random.default_rng(seed)
    height, width = store.image.frame_size
    seconds: dict[str, list[tuple[float, float]]] = {"cold": [], "warm": [], "hover": []}
    looks = 0
    for number in range(clicks):
        x, y = rng.uniform(40, width - 40), rng.uniform(40, height - 40)
        click, near = Click((x, y)), Click((x + 30, y + 5), positive=False)
        known = store.peek(store.lattice.window_for((), extent_of(click))) is not None
        first, took = timed(store, Question(number, 1, (), (click,)))
        if not known:
            seconds["cold"].append(took)
            looks += first.window.step.bit_length()
            _, took = timed(store, Question(number, 1, (), (click, near), 1, first.only(first.best)))
        seconds["warm"].append(took)
        _, took = timed(store, Question(number, 1, (), (click,), 1, first.only(first.best)))
        seconds["hover"].append(took)
    print(
        f"{name}: {clicks} places, {len(seconds['cold'])} cold ones with {looks / len(seconds['cold']):.1f} looks each"
    )
    for kind, times in seconds.items():
        for what, column in zip(("clock", "processor"), np.array(times).T, strict=True):
            median, p95 = np.percentile(column, [50, 95]) * 1e3
            print(f"  {kind:5}  {what:9}  median {median:7.1f} ms   95th percentile {p95:7.1f} ms")
    print(f"  embeddings in memory {store.memory_used / 2**20:.0f} MB, peak memory {peak_rss_bytes() / 2**20:.0f} MB")


def timed(store: EmbeddingStore, question: Question) -> tuple[Answer, tuple[float, float]]:
    """The answer and the seconds it took, of the clock and of the processor."""
    start = time.perf_counter(), time.process_time()
    answer = answer_question(store, question)
    return answer, (time.perf_counter() - start[0], time.process_time() - start[1])


def one_click(segmenter: Segmenter, folder: Path, objects: int, images: int) -> None:
    """Mean IoU of one click an object, over the images of a folder."""
    best_rated, best_of_three = [], []
    for pair in find_pairs(folder)[:images]:
        sample = read_pair(pair)
        store = EmbeddingStore(segmenter, AnnotatedImage.open(sample.image), memory_bytes=MEMORY_BYTES)
        labels = [label for label in np.unique(sample.labels) if label > 0][:objects]
        for label in labels:
            truth = Mask.from_array(sample.labels == label)
            x, y = most_interior_point(truth.to_array())
            answer = answer_question(store, Question(0, 1, (), (Click((float(x), float(y))),)))
            scores = [mask_iou(mask, truth) for mask in answer.masks]
            best_rated.append(scores[answer.best])
            best_of_three.append(max(scores))
    print(
        f"one click, {folder.name}: {len(best_rated)} objects, mean IoU {np.mean(best_rated):.3f} "
        f"(of the best of the three {np.mean(best_of_three):.3f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clicks", type=int, default=20)
    parser.add_argument("--val", type=Path, help="a folder of pairs, or of such folders")
    parser.add_argument("--objects", type=int, default=20, help="of each image of --val")
    parser.add_argument("--images", type=int, default=10, help="of each folder of --val")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    segmenter = make_segmenter(args.model, args.device)
    print(f"model {segmenter.name}, {args.device}, {args.threads} threads; {peak_rss_bytes() / 2**20:.0f} MB before")
    image = AnnotatedImage.open(mosaic(fields=(4, 4)).image)
    measure("2048 x 2048", EmbeddingStore(segmenter, image, memory_bytes=MEMORY_BYTES), args.clicks)
    field = nuclei().image
    huge = AnnotatedImage.open([RepeatedField(field, 2**k) for k in range(LEVELS)], axes="YX")
    measure(f"{HUGE_PX} x {HUGE_PX}", EmbeddingStore(segmenter, huge, memory_bytes=MEMORY_BYTES), args.clicks)
    if args.val is not None:
        folders = sorted(path for path in args.val.iterdir() if path.is_dir()) or [args.val]
        for folder in folders:
            one_click(segmenter, folder, args.objects, args.images)


if __name__ == "__main__":
    main()
