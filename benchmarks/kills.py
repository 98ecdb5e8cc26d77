"""kill -9 at random moments of a run, resumed each time: labels must equal an undisturbed run's, byte by byte.

    python benchmarks/kills.py --work FOLDER [--kills 200] [--side 700] [--model FILE|nano] [--workers N]

Runs are forked from a process that has imported everything but computed nothing, so that 200 of them take minutes; with
--workers they are processes of their own, and one kill in two hits a worker instead of the whole run. Without --model a
tiny network with random weights is taken: what is tested are records, not masks.
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
import psutil
import tifffile
import torch

from napari_sam.model import ConvConfig, SamConfig, build_sam, save_checkpoint
from napari_sam.tiling import TilingConfig
from napari_sam.training.generated import GENERATORS
from napari_sam.workflows import segment

TINY = SamConfig(
    encoder=ConvConfig(widths=(4, 4, 4, 8, 8), depths=(1, 1, 1, 1, 1), centre_channels=8),
    image_size=64,
    embedding_stride=8,
    prompt_embed_dim=16,
    decoder_heads=2,
    decoder_mlp_dim=16,
    iou_head_hidden_dim=16,
)
KEEP_ALL = {
    "prompts": "grid",
    "points_per_side": 3,
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.0,
    "max_mask_fraction": 0.9,
}
"""With random weights no mask would pass the published filters."""
TILES = TilingConfig(core_px=96, halo_px=16)


def digest(folder: Path) -> str:
    """One hash of all files of a folder, names included."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


class Runs:
    """One job, begun again and again in child processes."""

    def __init__(self, image: Path, model: str, workers: int, log: Path) -> None:
        self.image, self.model, self.workers, self.log = image, model, workers, log

    def start(self, output: Path) -> psutil.Process:
        """A child that does the whole job and ends with 0."""
        if self.workers > 1:
            return psutil.Process(self._start_command(output).pid)
        child = os.fork()
        if child == 0:
            try:
                torch.set_num_threads(1)
                os.dup2(os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
                segment(self.image, output, self.model, tiling=TILES, table=f"{output}.csv")
                os._exit(0)
            finally:
                os._exit(1)
        return psutil.Process(child)

    def _start_command(self, output: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "napari_sam.cli", "segment", self.image, "-o", output, "--model", self.model]
        sizes = ["--core-px", str(TILES.core_px), "--halo-px", str(TILES.halo_px), "--workers", str(self.workers)]
        log = self.log.open("ab")
        return subprocess.Popen([*map(str, command), *sizes, "--table", f"{output}.csv"], stderr=log, stdout=log)


def kill_one(process: psutil.Process, rng: np.random.Generator) -> None:
    """kill -9 of the run, or of one of its workers."""
    children = process.children(recursive=True)
    victim = children[rng.integers(len(children))] if children and rng.integers(2) else process
    victim.send_signal(signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--side", type=int, default=700)
    parser.add_argument("--model")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    model = args.model or str(args.work / "tiny.safetensors")
    if args.model is None:
        torch.manual_seed(3)
        save_checkpoint(Path(model), build_sam(TINY).eval(), TINY, automatic_defaults=KEEP_ALL)
    made = GENERATORS["fluorescent_nuclei"](np.random.default_rng(0), (args.side, args.side))
    tifffile.imwrite(args.work / "image.tif", made.image, tile=(256, 256))
    runs = Runs(args.work / "image.tif", model, args.workers, args.work / "log.txt")
    calm, killed = (args.work / name / "labels.ome.zarr" for name in ("calm", "killed"))
    begun = time.monotonic()
    if runs.start(calm).wait() != 0:
        raise SystemExit(f"the undisturbed run failed, see {runs.log}")
    lasts = time.monotonic() - begun
    print(f"undisturbed: {lasts:.1f} s", flush=True)
    rng = np.random.default_rng(args.seed)
    kills = finished = 0
    while kills < args.kills:
        process = runs.start(killed)
        # Runs that go on are shorter: most kills come early, some late.
        time.sleep(rng.uniform(0.05, 1.0) ** 2 * lasts)
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            kill_one(process, rng)
            kills += 1
            if kills % 20 == 0:
                print(f"{kills} kills, {finished} times done in between", flush=True)
        code = process.wait()
        if code == 0:  # done: begin anew, so that the next kills meet all stages again
            finished += 1
            if digest(killed) != digest(calm):
                raise SystemExit(f"after {kills} kills the labels differ from the undisturbed run's")
            shutil.rmtree(killed)
            shutil.rmtree(f"{killed}.run")
        elif code not in (-signal.SIGKILL, None) and not (args.workers > 1 and code == 1):
            raise SystemExit(f"a resumed run ended with {code} after {kills} kills, see {runs.log}")
    if runs.start(killed).wait() != 0:
        raise SystemExit(f"the last run failed, see {runs.log}")
    same = digest(killed) == digest(calm) and Path(f"{killed}.csv").read_bytes() == Path(f"{calm}.csv").read_bytes()
    print(f"{kills} kills, {finished} times done in between: labels and table {'identical' if same else 'DIFFER'}")
    raise SystemExit(not same)


if __name__ == "__main__":
    main()
