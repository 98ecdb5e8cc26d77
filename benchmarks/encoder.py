"""Time of the built-in model's encoder on one 512 x 512 tile, beside MobileSAM's TinyViT on its 1024 x 1024 frame.

python benchmarks/encoder.py [--threads 2] [--repeats 9]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from napari_sam.model import build_sam, load_model
from napari_sam.model.presets import PRESETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    nano, tiny = load_model("nano", device="cpu").sam, build_sam(PRESETS["vit_t"]).eval()
    seconds: dict[str, list[float]] = {"nano, 512": [], "vit_t, 1024": []}
    with torch.inference_mode():
        for _ in range(args.repeats + 1):  # interleaved, since the machine is not quiet; the first round warms up
            for name, sam in zip(seconds, (nano, tiny), strict=True):
                side = sam.config.image_size
                x = sam.preprocess(torch.rand(1, 3, side, side) * 255)
                started = time.perf_counter()
                sam.image_encoder(x)
                seconds[name].append(time.perf_counter() - started)
    least = {name: min(times[1:]) for name, times in seconds.items()}
    for name, times in seconds.items():
        print(f"{name}: least {least[name] * 1e3:.0f} ms, median {np.median(times[1:]) * 1e3:.0f} ms")
    print(f"nano takes {least['nano, 512'] / least['vit_t, 1024']:.3f} of vit_t's time")


if __name__ == "__main__":
    main()
