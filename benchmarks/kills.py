"""kill -9 at random moments of a run, resumed each time: labels must equal an undisturbed run's, byte by byte.

python benchmarks/kills.py --work FOLDER [--kills 20] [--side 2048] [--model nano]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tifffile

from napari_sam.training.generated import GENERATORS


def digest(folder: Path) -> str:
    """One hash of all files of a folder, names included."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def start(image: Path, output: Path, model: str, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "napari_sam.cli", "segment", str(image), "-o", str(output), "--model", model]
    return subprocess.Popen([*command, "--table", f"{output}.csv"], stderr=log.open("ab"), stdout=log.open("ab"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    image = args.work / "image.tif"
    made = GENERATORS["fluorescent_nuclei"](np.random.default_rng(0), (args.side, args.side))
    tifffile.imwrite(image, made.image, tile=(256, 256))
    log = args.work / "log.txt"
    calm = args.work / "calm" / "labels.ome.zarr"
    begun = time.monotonic()
    if start(image, calm, args.model, log).wait() != 0:
        raise SystemExit(f"the undisturbed run failed, see {log}")
    lasts = time.monotonic() - begun
    print(f"undisturbed: {lasts:.1f} s")
    rng = np.random.default_rng(args.seed)
    killed = args.work / "killed" / "labels.ome.zarr"
    kills = finished = 0
    while kills < args.kills:
        process = start(image, killed, args.model, log)
        time.sleep(rng.uniform(0.3, 1.0) * lasts * 0.8)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        elif process.returncode == 0:  # done: begin anew, so that the next kills meet all stages again
            finished += 1
            if digest(killed) != digest(calm):
                raise SystemExit("labels differ from the undisturbed run's")
            shutil.rmtree(killed)
            shutil.rmtree(f"{killed}.run")
        else:
            raise SystemExit(f"a resumed run ended with {process.returncode}, see {log}")
        process.wait()
    if start(image, killed, args.model, log).wait() != 0:
        raise SystemExit(f"the last run failed, see {log}")
    same = digest(killed) == digest(calm) and Path(f"{killed}.csv").read_bytes() == Path(f"{calm}.csv").read_bytes()
    print(f"{kills} kills, {finished} times done in between: labels and table {'identical' if same else 'DIFFER'}")
    raise SystemExit(not same)


if __name__ == "__main__":
    main()
