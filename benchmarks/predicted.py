"""What `--dry-run` foretells, against what the run then needs: memory, disk and time, in per cent.

    python benchmarks/predicted.py --work FOLDER [--side 3072] [--model nano] [--workers 1]

Both are processes of their own, as for a user. Aim: each within 25 %.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tifffile

from napari_sam.training.generated import GENERATORS

EXPECTED = re.compile(r"expected\s+about (.*?), ([\d,]+) MB of memory, ([\d,.]+) MB on disk, ([\d,]+) objects")
UNITS = {"h": 3600, "min": 60, "s": 1}


def run(*arguments: object) -> tuple[str, float]:
    """What one command printed, and its seconds, start and imports included."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "napari_sam.cli", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return done.stdout, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--side", type=int, default=3072)
    parser.add_argument("--kind", default="fluorescent_nuclei")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    image = GENERATORS[args.kind](np.random.default_rng(0), (args.side, args.side)).image
    tifffile.imwrite(args.work / "image.tif", image, tile=(256, 256))
    output = args.work / "labels.ome.zarr"
    job = [args.work / "image.tif", "-o", output, "--model", args.model, "--workers", args.workers]
    dry, _ = run("segment", *job, "--dry-run")
    found = EXPECTED.search(dry)
    if found is None:
        raise SystemExit(f"the dry run does not say what it expects: {dry}")
    duration, memory, disk, objects = found.groups()
    seconds = sum(int(n) * UNITS[unit] for n, unit in re.findall(r"(\d+) (h|min|s)", duration))
    run("segment", *job, "--report", args.work / "r.json")
    report = json.loads((args.work / "r.json").read_text())
    on_disk = sum(path.stat().st_size for path in args.work.rglob("*") if path.is_file() and path.name != "image.tif")
    measured = {
        "seconds": sum(report["seconds"].values()),
        "memory_mb": report["peak_rss_mb"],
        "disk_mb": on_disk / 1e6,
        "objects": report["objects"],
    }
    number = {name: float(text.replace(",", "")) for name, text in (("m", memory), ("d", disk), ("o", objects))}
    foretold = {"seconds": seconds, "memory_mb": number["m"], "disk_mb": number["d"], "objects": number["o"]}
    for name, value in measured.items():
        off = 100 * (foretold[name] / max(value, 1e-9) - 1)
        print(f"{name:10} foretold {foretold[name]:10,.1f}  measured {value:10,.1f}  {off:+6.1f} %")


if __name__ == "__main__":
    main()
