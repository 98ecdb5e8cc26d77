"""How busy a run of `segment` keeps the cores: left alone, with all torch threads in one tile, or with several tiles.

    python benchmarks/overlap.py --work FOLDER [--side 4096] [--model nano] [--cores 2] [--repeats 2]

Each run is a process of its own, as for a user, its start included; the ways take turns. "Busy" is processor time over
cores times clock: on a machine that does other work it says what the run got, not what it left idle, and then only the
processor time is of use. Ways with equal numbers of torch threads must write the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tifffile

from napari_sam.training.generated import GENERATORS


def ways(cores: int) -> dict[str, list[str]]:
    """Name to options."""
    several = ["--workers", str(cores), "--torch-threads", "1"]
    return {
        "left alone": [],
        "one worker, all threads": ["--workers", "1", "--torch-threads", str(cores)],
        "processes, a thread each": several,
        "threads, a thread each": [*several, "--executor", "threads"],
        "one worker, one thread": ["--workers", "1", "--torch-threads", "1"],
    }


def run(image: Path, output: Path, options: list[str]) -> tuple[float, float]:
    """Clock and processor seconds of one run, its children included."""
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "napari_sam.cli", "segment", str(image), "-o", str(output), "--restart", *options]
    clock, before = time.perf_counter(), os.times()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - clock, spent


def pixels_of(labels: Path) -> str:
    """A fingerprint of the finest level of a label image."""
    files = sorted(path for path in (labels / "0").rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--kind", default="fluorescent_nuclei")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    image = args.work / "image.tif"
    pixels = GENERATORS[args.kind](np.random.default_rng(0), (args.side, args.side)).image
    tifffile.imwrite(image, pixels, tile=(256, 256), compression="zlib")
    times: dict[str, list[tuple[float, float]]] = {}
    found: dict[str, str] = {}
    for _ in range(args.repeats):
        for name, options in ways(args.cores).items():
            output = args.work / "labels.ome.zarr"
            times.setdefault(name, []).append(run(image, output, ["--model", args.model, *options]))
            found[name] = pixels_of(output)
    print(f"{args.side} x {args.side} pixels, {args.model}, {args.cores} cores, load {os.getloadavg()[0]:.1f}")
    for name, values in times.items():
        clock, processor = (min(column) for column in zip(*values, strict=True))
        busy = max(spent / (args.cores * wall) for wall, spent in values)
        print(f"{name:26} clock {clock:7.1f} s  processor {processor:7.1f} s  cores busy {100 * busy:3.0f} %")
    if len({digest for name, digest in found.items() if "--torch-threads 1" in " ".join(ways(args.cores)[name])}) > 1:
        raise SystemExit(f"the same number of torch threads gave different labels: {found}")


if __name__ == "__main__":
    main()
