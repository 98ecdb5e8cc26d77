"""Images a second with tiles in batches, and how busy that keeps a GPU.

    python benchmarks/batches.py [--device cuda] [--models nano vit_b] [--sizes 1 2 4 8] [--side 8192]

First the image encoder alone, by the number of images it sees at once, in its device's format and in 32 bits; then
whole runs of `segment` on a generated image. Networks of the paper have random weights unless `--models` names a file:
the encoder takes as long as with real ones, but masks are others. How busy a GPU is comes from `nvidia-smi`, read each
half second; without it that column is empty.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile
import torch

from napari_sam.model import SamModel, load_model
from napari_sam.model.loading import choose_device
from napari_sam.model.presets import PRESETS
from napari_sam.model.sam import build_sam
from napari_sam.predict.encoding import encode_pixels
from napari_sam.training.generated import GENERATORS
from napari_sam.workflows import SegmentConfig, segment

SMI = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
POLL_SECONDS = 0.5


def model_of(name: str, device: str) -> SamModel:
    """A model by its name; one of the paper with random weights."""
    if name not in PRESETS or name == "nano":
        return load_model(name, device=device)
    torch.manual_seed(0)
    chosen = choose_device(device)
    sam = build_sam(PRESETS[name]).eval().requires_grad_(False).to(chosen)
    return SamModel(sam, name, "0" * 64, chosen, PRESETS[name], {})


def images_a_second(model: SamModel, size: int, side: int, precision: str, seconds: float) -> float:
    """Of the image encoder, with so many images of `side` pixels at once."""
    pixels = torch.randn(size, 3, side, side, device=model.device)
    encode_pixels(model, pixels, precision=precision)
    _wait_for(model.device)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds or not count:
        encode_pixels(model, pixels, precision=precision)
        _wait_for(model.device)
        count += size
    return count / (time.perf_counter() - start)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def gpu_watched(device: torch.device) -> Iterator[list[float]]:
    """How busy the GPU was in the block, in percent, read all half second."""
    seen: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_SECONDS):
            told = subprocess.run(SMI, capture_output=True, text=True, check=True).stdout.split()
            seen.append(float(told[device.index or 0]))

    watcher = threading.Thread(target=watch, daemon=True)
    if device.type == "cuda" and shutil.which("nvidia-smi"):
        watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        if watcher.is_alive():
            watcher.join()


def encoder_rows(model: SamModel, sizes: list[int], side: int, seconds: float) -> list[str]:
    """A line of the table for each batch size and number format."""
    return [
        f"| {model.name} | encoder, {side} px | {precision} | {size} | "
        f"{images_a_second(model, size, side, precision, seconds):.1f} | |"
        for size in sizes
        for precision in ("auto", "fp32")
    ]


def run_rows(model: SamModel, sizes: list[int], image: Path) -> list[str]:
    """A line of the table for whole runs with each batch size."""
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder, gpu_watched(model.device) as seen:
            result = segment(image, Path(folder) / "labels.ome.zarr", model, config=SegmentConfig(tiles_per_batch=size))
        report = result.report
        busy = f"{np.mean(seen):.0f} %" if seen else ""
        rows.append(
            f"| {model.name} | segment, {report.tiles} tiles | auto | {size} | "
            f"{report.tiles / report.seconds['tiles']:.1f} | {busy} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--models", nargs="+", default=["nano", "vit_b"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--side", type=int, default=8192, help="of the image that is segmented")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each line of the encoder")
    args = parser.parse_args()
    device = choose_device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} CPU threads\n")
    print("| model | what | format | images at once | images a second | GPU busy |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.tif"
        pixels = GENERATORS["fluorescent_nuclei"](np.random.default_rng(0), (args.side, args.side)).image
        tifffile.imwrite(image, pixels, tile=(256, 256), compression="zlib")
        for model in (model_of(name, args.device) for name in args.models):
            print(*encoder_rows(model, args.sizes, 1024, args.seconds), sep="\n", flush=True)
            print(*run_rows(model, args.sizes, image), sep="\n", flush=True)


if __name__ == "__main__":
    main()
